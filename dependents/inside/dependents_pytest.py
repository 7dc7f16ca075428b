"""A pytest plugin (``-p dependents_pytest``) that records outcomes by node id.

Setup and teardown count: a test whose fixture fails has failed. The reader keeps the worst outcome
of a test, so the plugin needs no state.
"""

import dependents_adapter
from dependents_record import record

dependents_adapter.install()  # before the tests import the original adapter


def outcome_of(report):
    if report.failed:
        return "failed"
    if report.skipped:
        return "xfailed" if hasattr(report, "wasxfail") else "skipped"
    return "passed"


def pytest_collectreport(report):
    if not report.passed:
        record(test=report.nodeid or "(collection)", outcome=outcome_of(report))


def pytest_runtest_logreport(report):
    if report.when == "call" or not report.passed:
        record(test=report.nodeid, outcome=outcome_of(report))


def pytest_sessionfinish(session, exitstatus):
    record(end=int(exitstatus))
