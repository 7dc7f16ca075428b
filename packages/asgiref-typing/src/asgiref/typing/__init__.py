"""Types of the ASGI specification: scopes, events and applications."""
