import loops  # noqa: F401 - chooses the event loops before any is created
