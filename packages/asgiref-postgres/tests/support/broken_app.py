"""A module that raises when it is imported."""

RESULT = 1 / 0
