"""Run downstream test suites with asgiref 3.13.0 and with our wheels, and compare each test.

``tox run -m dependents`` runs them all, ``tox run -e wheels,dependents-flask`` runs one. Each run
fetches its suite and uses one virtual environment, in which only asgiref is replaced. So we must
explain a test that passes only with asgiref 3.13.0, but not one that fails with both.

``projects.toml`` describes the suites, and ``projects`` reads it. ``trial`` fetches one suite,
``environment`` installs one asgiref or the other and runs the tests, ``junit`` reads the report of
a run, and ``comparison`` repeats tests that differ. ``results`` keeps the rows and writes the page.
``inside/`` holds the plugin that replaces adapters.
"""
