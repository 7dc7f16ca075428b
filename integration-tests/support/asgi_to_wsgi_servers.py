"""WSGI servers in separate processes, with an ASGI application of `projects` in AsgiToWsgi."""

import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

from wsgi_servers import PROJECTS, Server, free_port

APACHE = shutil.which("apache2") or shutil.which("apache2", path="/usr/sbin")
MOD_WSGI = Path("/usr/lib/apache2/modules/mod_wsgi.so")
GUNICORN = (sys.executable, "-m", "gunicorn", "--bind", "127.0.0.1:{port}", "--worker-class")
SCRIPTS = Path(sysconfig.get_path("scripts"))
UWSGI = (str(SCRIPTS / "pyuwsgi"), "--http-socket", "127.0.0.1:{port}", "--master", "--die-on-term")
COMMANDS: dict[str, tuple[str, ...]] = {
    "gunicorn-sync": (*GUNICORN, "sync"),
    "gunicorn-gthread": (*GUNICORN, "gthread", "--threads", "60"),
    "gunicorn-gevent": (*GUNICORN, "gevent"),
    "gunicorn-preload": (*GUNICORN, "gthread", "--threads", "4", "--workers", "2", "--preload"),
    "waitress": (
        *(sys.executable, "-m", "waitress", "--listen", "127.0.0.1:{port}"),
        *("--threads", "60", "--channel-request-lookahead", "1"),
    ),
    "uwsgi": (*UWSGI, "--threads", "60", "--module"),
    "uwsgi-forks": (*UWSGI, "--processes", "2", "--enable-threads", "--module"),
}
APACHE_CONFIGURATION = """
ServerRoot {folder}
PidFile {folder}/pid
Listen 127.0.0.1:{port}
ServerName localhost
ThreadLimit 100
ThreadsPerChild 100
MaxRequestWorkers 100
LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
LoadModule wsgi_module {module}
ErrorLog {folder}/log
{user}
WSGISocketPrefix {sockets}/wsgi
WSGIDaemonProcess site threads=60 python-path={path}
WSGIProcessGroup site
WSGIChunkedRequest On
WSGIApplicationGroup {interpreter}
WSGIScriptAlias / {script}
<Directory {scripts}>
Require all granted
</Directory>
"""
INTERPRETERS = {"mod_wsgi": "%{GLOBAL}", "mod_wsgi-subinterpreter": "site"}
SERVERS = (*COMMANDS, *INTERPRETERS)


def reason_to_skip(name: str) -> str | None:
    """Return the reason why a server cannot run here, or None."""
    if name in INTERPRETERS and (APACHE is None or not MOD_WSGI.exists()):
        return "needs Debian's apache2 and libapache2-mod-wsgi-py3"
    if name == "uwsgi" and not Path(UWSGI[0]).exists():
        return "needs pyuwsgi"
    return None


class WsgiServer(Server):
    """A WSGI server in a separate process, on a free port, with its log in a file."""

    def __init__(self, name: str, folder: Path, module: str = "asgi_to_wsgi_site") -> None:
        self.name = name
        self.port = free_port()
        self.sockets: Path | None = None
        self.path = folder / "log"
        self.path.touch()
        with self.path.open("w") as log:
            self.process = subprocess.Popen(
                self._command(folder, module),
                cwd=PROJECTS,
                stdout=log,
                stderr=log,
                # A shell ignores SIGINT in the commands that it runs in the background.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )
        self._wait()

    def _command(self, folder: Path, module: str) -> list[str]:
        if self.name in INTERPRETERS:
            # Not -X: SIGTERM can crash the only process in libapr, and then the daemon is killed.
            configuration = str(self._configure_apache(folder, module))
            return [str(APACHE), "-D", "FOREGROUND", "-f", configuration]
        if self.name == "waitress":
            module += ":application"
        return [part.format(port=self.port) for part in (*COMMANDS[self.name], module)]

    def _configure_apache(self, folder: Path, module: str) -> Path:
        # Debian's Python runs it: the site needs only the packages of this project.
        path = [str(PROJECTS), *paths_of_our_packages()]
        configuration = folder / "apache.conf"
        self.sockets = Path(tempfile.mkdtemp(prefix="wsgi"))
        self.sockets.chmod(0o755)
        configuration.write_text(
            APACHE_CONFIGURATION.format(
                folder=folder,
                port=self.port,
                module=MOD_WSGI,
                # Apache does not serve as root, and its other user must have access to the sockets.
                user="" if os.getuid() else "User www-data\nGroup www-data",
                sockets=self.sockets,
                path=os.pathsep.join(path),
                interpreter=INTERPRETERS[self.name],
                script=PROJECTS / f"{module}.py",
                scripts=PROJECTS,
            )
        )
        return configuration

    def _wait(self) -> None:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                self.connect().close()
            except OSError:
                time.sleep(0.05)
            else:
                return
        raise AssertionError(f"{self.name} did not start:\n{self.stop()}")

    def read_log(self) -> str:
        return self.path.read_text(errors="replace")

    def stop(self) -> str:
        if self.process.poll() is None:
            # waitress does not handle SIGTERM, so it would end without Python's exit.
            self.process.send_signal(signal.SIGINT if self.name == "waitress" else signal.SIGTERM)
        self.process.wait(60)
        if self.sockets is not None:
            shutil.rmtree(self.sockets)
        return self.read_log()


def paths_of_our_packages() -> list[str]:
    """Return the folders that contain `asgiref.wsgi` and its imports."""
    import asgiref.sync
    import asgiref.wsgi

    files = (asgiref.sync.__file__, asgiref.wsgi.__file__)
    return list({str(Path(file).parents[2]): None for file in files})
