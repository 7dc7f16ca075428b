"""Run ASGI 2 (double-callable) applications where ASGI 3 is expected."""
