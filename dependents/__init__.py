"""The test suites of projects that depend on asgiref, run on theirs and on ours, test by test.

    tox run -m dependents              all of them
    tox run -e wheels,dependents-flask one

A suite is fetched when it runs and never kept here. It runs in one virtual environment, first with
asgiref 3.13.0 and then with the wheels of ``dist/`` in its place: nothing else differs, so a test
that passes there and not here is ours to explain, and one that fails on both is not.

Data flows one way, and each step is a module of its own:

- ``suite``: what a suite is; ``catalogue``: those that there are; ``django_labels``: which parts of
  Django's suite touch asgiref; ``redis_server``: a Redis for the suite that asks for one.
- ``source``: fetches and unpacks a project; ``environment``: the virtual environment, and the
  switch from one asgiref to the other.
- ``inside/``: what is copied into that environment to record each test's outcome.
- ``running``: runs a suite once; ``outcomes``: reads what was recorded.
- ``comparison``: which tests differ, and what repeating them says about it; ``trial``: all of the
  above for one suite.
- ``results``: one row a suite and Python, kept in ``results.json``; ``table``: the page in
  ``docs/``.
"""
