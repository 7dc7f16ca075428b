"""Run downstream test suites with asgiref 3.13.0 and with our wheels, and compare each test.

``tox run -m dependents`` runs them all, ``tox run -e wheels,dependents-flask`` runs one. Each run
fetches its suite and uses one virtual environment, in which only asgiref is replaced. So we must
explain a test that passes only with asgiref 3.13.0, but not one that fails with both.

``trial`` handles one suite. ``catalogue`` has the ``suite`` definitions; ``django_labels`` selects
the parts of Django's suite. ``source`` fetches and unpacks the project; ``environment`` switches
the asgiref; ``redis_server`` starts a Redis for a suite that needs it. ``running`` runs the suite
once; modules of ``inside/`` record each outcome, and ``outcomes`` reads the records. ``comparison``
repeats tests that differ. ``results`` keeps the rows, and ``table`` writes the page.
"""
