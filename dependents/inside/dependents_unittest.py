"""A unittest result that records outcomes by test id.

An error in ``setUpClass`` is recorded under unittest's own name for it, "setUpClass
(module.Class)". A subtest counts as its test, because parallel runners may not report which subtest
it was.
"""

import unittest

from dependents_record import record


def test_id(test):
    return getattr(test, "test_case", test).id()


class RecordingResult(unittest.TextTestResult):
    def addSuccess(self, test):
        super().addSuccess(test)
        record(test=test_id(test), outcome="passed")

    def addError(self, test, err):
        super().addError(test, err)
        record(test=test_id(test), outcome="failed")

    def addFailure(self, test, err):
        super().addFailure(test, err)
        record(test=test_id(test), outcome="failed")

    def addSubTest(self, test, subtest, err):
        super().addSubTest(test, subtest, err)
        if err is not None:
            record(test=test_id(test), outcome="failed")

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        record(test=test_id(test), outcome="skipped")

    def addExpectedFailure(self, test, err):
        super().addExpectedFailure(test, err)
        record(test=test_id(test), outcome="xfailed")

    def addUnexpectedSuccess(self, test):
        super().addUnexpectedSuccess(test)
        record(test=test_id(test), outcome="failed")

    def stopTestRun(self):
        super().stopTestRun()
        record(end=0 if self.wasSuccessful() else 1)
