"""Call Flask's async views under WSGI and OpenTelemetry's middleware; print the answers as JSON."""

import asyncio
import json

from flask import Flask, g, request
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware

from asgiref.testing import ApplicationCommunicator
from asgiref.wsgi import WsgiToAsgi

flask_app = Flask(__name__)


@flask_app.before_request
async def remember():
    await asyncio.sleep(0)
    g.before = "async"


@flask_app.get("/async/<name>")
async def greet(name):
    await asyncio.sleep(0)
    return {"hello": name, "before": g.before, "asked": request.args["q"]}


@flask_app.get("/failing")
async def failing():
    raise LookupError("on purpose")


@flask_app.errorhandler(LookupError)
async def explain(error):
    return {"error": str(error)}, 418


async def traced():
    """Serve the Flask application through ASGI, behind a middleware that itself uses asgiref."""
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/async/tracer",
        "root_path": "",
        "query_string": b"q=2",
        "headers": [(b"host", b"localhost")],
        "server": ("localhost", 80),
        "client": ("127.0.0.1", 4321),
    }
    communicator = ApplicationCommunicator(OpenTelemetryMiddleware(WsgiToAsgi(flask_app)), scope)
    await communicator.send_input({"type": "http.request"})
    start = await communicator.receive_output(timeout=20)
    body = b""
    more = True
    while more:
        message = await communicator.receive_output(timeout=20)
        body += message.get("body", b"")
        more = message.get("more_body", False)
    await communicator.wait(timeout=20)
    return [start["status"], json.loads(body)]


def main():
    client = flask_app.test_client()
    greeting, failure = client.get("/async/world?q=1"), client.get("/failing")
    seen = {
        "greeting": [greeting.status_code, greeting.get_json()],
        "failure": [failure.status_code, failure.get_json()],
        "traced": asyncio.run(traced()),
    }
    print(json.dumps(seen))


if __name__ == "__main__":
    main()
