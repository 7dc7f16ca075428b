"""The settings for Django's own suite: its SQLite settings, and the recording runner."""

from test_sqlite import *  # noqa: F403

TEST_RUNNER = "dependents_django.RecordingRunner"
