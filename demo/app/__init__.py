"""The demo: a guestbook (WSGI) and a chatbot (StatelessServer) at work on one page.

Four pieces, each a module or two; data flows from the top to the bottom of this list:

- ``irc_server`` (with ``irc``, the wire format): the embedded chat server, a thread and loop of its
  own;
- ``bot`` (with ``bot_connection``, and ``game``, its application): a ``StatelessServer`` that
  connects out to the chat server, a thread and loop of its own;
- ``guestbook`` (with ``storage``): the Flask application, on the worker threads of ``WsgiToAsgi``;
- ``web`` (with ``chat_users``): the ASGI application that uvicorn serves, a thread and loop of its
  own.

With ``--workers`` the second is another one: ``fleet_bot``, a ``PostgresGateway``
(``bot_connection`` is what both have in common), ``fleet``, a thread and loop that keep worker
processes alive, and in those ``fleet_worker`` (with ``kept_game``). Between them is a PostgreSQL,
from ``tools/own_postgres.py`` where none is named.

``options`` and ``ports`` are what ``run.py`` looks at before it installs anything. ``trace`` tells
the page what ran where, ``pieces`` starts and stops the threads, ``main`` runs what the options ask
for, and ``check`` and ``check_fleet`` visit everything from outside, as a browser and chat clients
would.
"""
