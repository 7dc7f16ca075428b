"""Base class for ASGI servers without incoming sockets: chat bots, radio, queue workers."""
