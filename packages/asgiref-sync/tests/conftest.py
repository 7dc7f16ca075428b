import loops  # noqa: F401 - the choice of event loops, before any is made
