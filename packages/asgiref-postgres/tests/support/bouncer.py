"""A PgBouncer in front of a test's server, with an entry for each pool mode."""

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from real_postgres import RealPostgres, free_port, is_open

_CONFIGURATION = """
[databases]
session = host=127.0.0.1 port={target} dbname=postgres user=postgres pool_mode=session
transaction = host=127.0.0.1 port={target} dbname=postgres user=postgres pool_mode=transaction
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
auth_type = any
server_reset_query = DISCARD ALL
unix_socket_dir =
"""


@contextlib.contextmanager
def bouncer(server: RealPostgres) -> Iterator[str]:
    """Yield the URL of a PgBouncer; append a database name, ``session`` or ``transaction``."""
    program = shutil.which("pgbouncer", path=os.environ["PATH"] + os.pathsep + "/usr/sbin")
    if program is None:
        pytest.skip("pgbouncer is not installed")
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="asgiref-postgres-") as name:
        os.chmod(name, 0o755)
        path = Path(name, "pgbouncer.ini")
        path.write_text(_CONFIGURATION.format(target=server.port, port=port))
        user = "nobody" if os.getuid() == 0 else None  # PgBouncer refuses to run as root
        process = subprocess.Popen([program, "-q", path], user=user, stderr=subprocess.DEVNULL)
        try:
            end = time.monotonic() + 30
            while not is_open(port) and process.poll() is None and time.monotonic() < end:
                time.sleep(0.05)
            assert process.poll() is None, "PgBouncer does not start."
            yield f"postgresql://postgres@127.0.0.1:{port}/"
        finally:
            process.kill()
            process.wait()
