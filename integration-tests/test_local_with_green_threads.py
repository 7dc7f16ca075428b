"""In programs that gevent or eventlet has patched, `asgiref.local` treats greenlets as threads."""

import subprocess
import sys

import pytest

PROGRAM = """
import sys

if sys.argv[1] == "gevent":
    from gevent import monkey
    monkey.patch_all()
else:
    import eventlet
    eventlet.monkey_patch()

import contextvars, threading, time
from asgiref.local import Local

locals_ = [Local(), Local(thread_critical=True)]

def see():
    return [getattr(local, "user", None) for local in locals_]

def use(number):
    before = see()
    for local in locals_:
        local.user = number
    time.sleep(0)  # lets the others run
    assert before == [None, None], before
    assert see() == [number, number], see()
    ended.append(number)

ended = []
for local in locals_:
    local.user = "main"
copied = contextvars.copy_context()
threads = [threading.Thread(target=use, args=(number,)) for number in range(10)]
threads.append(threading.Thread(target=copied.run, args=(use, 10)))
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(sorted(ended), see())
"""


@pytest.mark.parametrize("library", ["gevent", "eventlet"])
def test_each_greenlet_has_its_own_values(library: str) -> None:
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, library],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert run.stdout == f"{list(range(11))} ['main', 'main']\n", run.stderr
