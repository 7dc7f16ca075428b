"""The only error that ends a suite's run, with a message for the user."""


class SuiteError(Exception):
    """A suite could not be fetched, set up, or run to its end; the text is the message."""
