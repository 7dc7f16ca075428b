"""A headless Chromium that measures the built site; skips the test where there is none."""

import json
import shutil
import subprocess
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Queue
from typing import Any

import pytest
from repository import SITE

__all__ = ["run_in_browser"]

PROGRAM = """\
<!doctype html>
<script type="module">
const load = (path, width) => new Promise((resolve) => {
  const frame = document.createElement("iframe");
  Object.assign(frame, { src: path, width, height: 800 });
  frame.onload = () => resolve(frame);
  document.body.append(frame);
});
let found;
try {
  found = await (async () => { %s })();
} catch (error) {
  found = { error: String(error.stack ?? error) };
}
await fetch("/found", { method: "POST", body: JSON.stringify(found) });
</script>
<body></body>
"""


def run_in_browser(script: str, folder: Path) -> Any:
    """Run the body of an async function next to the site, and return its result.

    The script can call ``load(path, width)``, which returns a frame with a page of the site.
    """
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("chromium is not installed (Debian and Ubuntu: apt install chromium)")
    found: Queue[Any] = Queue()

    class Handler(SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path != "/program":
                return super().do_GET()
            self._answer((PROGRAM % script).encode())
            return None

        def do_POST(self) -> None:
            found.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self._answer(b"")

        def _answer(self, body: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(SITE))) as server:
        threading.Thread(target=server.serve_forever).start()
        options = ("--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder}")
        browser = subprocess.Popen(
            [chromium, *options, f"http://127.0.0.1:{server.server_port}/program"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            result = found.get(timeout=150)
        finally:
            browser.terminate()
            browser.wait()
            server.shutdown()
    if isinstance(result, dict) and "error" in result:
        raise AssertionError(result["error"])
    return result
