"""Run uvicorn with greenlets in place of threads: ``wsgi_green.py gevent|eventlet PORT``."""

import os
import sys

library, port = sys.argv[1:]
if library == "gevent":
    from gevent import monkey

    monkey.patch_all()
else:
    os.environ["EVENTLET_NO_GREENDNS"] = "yes"  # eventlet cannot patch dnspython's imports
    import eventlet

    eventlet.monkey_patch()

import uvicorn  # noqa: E402 - patched first

from asgiref.wsgi import WsgiToAsgi  # noqa: E402


def size(environ, start_response):
    """Answer with the size of the body; the greenlet must wait to receive it."""
    count = 0
    while block := environ["wsgi.input"].read(65536):
        count += len(block)
    start_response("200 OK", [])
    return iter([str(count).encode()])


uvicorn.run(WsgiToAsgi(size), port=int(port), loop="asyncio", http="h11", access_log=False)
