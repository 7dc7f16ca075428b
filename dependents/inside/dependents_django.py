"""Django's test runner, which records. With ``--parallel`` the parent replays its children."""

from dependents_unittest import RecordingResult
from django.test.runner import DiscoverRunner


class RecordingRunner(DiscoverRunner):
    def get_resultclass(self):
        return RecordingResult
