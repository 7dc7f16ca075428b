"""Django's test runner, recording. With ``--parallel`` the parent replays what its children did."""

from dependents_unittest import RecordingResult
from django.test.runner import DiscoverRunner


class RecordingRunner(DiscoverRunner):
    def get_resultclass(self):
        return RecordingResult
