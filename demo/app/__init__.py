"""The demo: a guestbook (WSGI) and a chatbot (StatelessServer) on one page.

- ``irc_server`` (with ``irc``, the wire format): the embedded chat server, on its own thread.
- ``bot`` (with ``bot_connection`` and the application ``game``): the chatbot, on its own thread.
- ``guestbook`` (with ``storage``): the Flask application, on the worker threads of ``WsgiToAsgi``.
- ``web`` (with ``chat_users``): the ASGI application that uvicorn serves, on its own thread.

``--workers`` replaces ``bot`` with the gateway ``fleet_bot``, and with ``fleet``, which keeps
worker processes alive; these run ``fleet_worker`` (with ``kept_game``) over PostgreSQL. ``options``
and ``ports`` run before the installation; ``main`` runs the demo, ``pieces`` starts and stops
threads, ``trace`` reports to the page, and ``check`` and ``check_fleet`` visit everything as a
client would.
"""
