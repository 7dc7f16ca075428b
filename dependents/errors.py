"""The one error that ends a suite's run: what stops a comparison, told to who runs it."""


class SuiteError(Exception):
    """A suite could not be fetched, set up, or run to its end. Its text is the message."""
