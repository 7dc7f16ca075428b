"""The settings that Django's own suite runs with: its SQLite ones, and the recording runner."""

from test_sqlite import *  # noqa: F403

TEST_RUNNER = "dependents_django.RecordingRunner"
