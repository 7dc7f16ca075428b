"""Forks, signals and process exit, each in a separate process."""

import subprocess
import sys
import textwrap

import pytest

PRELUDE = """
import asyncio, atexit, os, signal, sys, threading
from asgiref.sync import *

# A shell ignores SIGINT in its background commands, and their children inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

async def both_ways():
    return await sync_to_async(threading.get_ident)()

def in_child(work):
    pid = os.fork()
    if pid == 0:
        try:
            work()
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
"""

IGNORE_FORK_WARNING = "-Wignore:This process:DeprecationWarning"


def run(script, *options):
    script = PRELUDE + textwrap.dedent(script)
    return subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", *options, "-c", script],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def check(script, *options, output, status=0):
    result = run(script, *options)
    assert (result.stdout.split(), result.returncode) == (output.split(), status), result.stderr
    return result


fork = pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="no fork here")


@fork
def test_a_forked_child_can_use_both_directions():
    check(
        """
        def use():
            assert async_to_sync(both_ways)() == threading.get_ident()
            asyncio.run(both_ways())
            async def parallel():
                await asyncio.gather(
                    *(sync_to_async(int, thread_sensitive=False)() for _ in range(50))
                )
                async with ThreadSensitiveContext():
                    await both_ways()
            asyncio.run(parallel())
        use()
        in_child(use)
        use()
        print("done")
        """,
        IGNORE_FORK_WARNING,
        output="done",
    )


@fork
def test_a_child_forked_from_bridged_sync_code_starts_anew():
    check(
        """
        def use():
            assert async_to_sync(both_ways)() == threading.get_ident()
        async def main():
            await sync_to_async(in_child)(use)
            await sync_to_async(in_child, thread_sensitive=False)(use)
            async with ThreadSensitiveContext():
                await sync_to_async(in_child)(use)
        asyncio.run(main())
        async_to_sync(main)()
        print("done")
        """,
        IGNORE_FORK_WARNING,
        output="done",
    )


@pytest.mark.parametrize("warm", [False, True])
def test_an_atexit_function_can_use_the_bridge(warm):
    check(
        f"""
        def last():
            async def main():
                await sync_to_async(print)("sync")
                print("async")
            async_to_sync(main)()
        atexit.register(last)
        if {warm}:
            async_to_sync(both_ways)()
        """,
        output="sync async",
    )


def test_exit_waits_for_a_running_function():
    check(
        """
        started, release = threading.Event(), threading.Event()
        def work():
            started.set()
            release.wait(20)
            print("finished")
        async def main():
            task = asyncio.create_task(sync_to_async(work, thread_sensitive=False)())
            await asyncio.to_thread(started.wait)
            task.cancel()
        asyncio.run(main())
        threading.main_thread_releases = threading.Timer(0.01, release.set)
        threading.main_thread_releases.start()
        """,
        output="finished",
    )


def test_idle_threads_do_not_keep_the_process_alive():
    check(
        """
        async_to_sync(both_ways)()
        asyncio.run(both_ways())
        asyncio.run(sync_to_async(int, thread_sensitive=False)())
        print("done")
        """,
        output="done",
    )


INTERRUPTED = """
async def main():
    try:
        {raise_signal}
        await asyncio.Event().wait()
    finally:
        await asyncio.sleep(0)
        print("cleaned")
try:
    async_to_sync(main)()
except KeyboardInterrupt:
    print("interrupted")
"""


def test_ctrl_c_cancels_a_top_level_coroutine_and_is_raised():
    script = INTERRUPTED.format(raise_signal="os.kill(os.getpid(), signal.SIGINT)")
    check(script, output="cleaned interrupted")


def test_ctrl_c_in_inner_sync_code_is_raised_through_the_coroutine():
    script = INTERRUPTED.format(raise_signal="await sync_to_async(signal.raise_signal)(2)")
    check(script, output="cleaned interrupted")


def test_a_signal_handler_that_exits_ends_the_wait():
    check(
        """
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))
        async def main():
            os.kill(os.getpid(), signal.SIGTERM)
            try:
                await asyncio.Event().wait()
            finally:
                print("cleaned")
        async_to_sync(main)()
        """,
        output="cleaned",
        status=3,
    )


def test_ctrl_c_is_raised_even_if_the_coroutine_completes_anyway():
    check(
        """
        async def main():
            os.kill(os.getpid(), signal.SIGINT)
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                print("completed")
        try:
            async_to_sync(main)()
        except KeyboardInterrupt:
            print("interrupted")
        """,
        output="completed interrupted",
    )
