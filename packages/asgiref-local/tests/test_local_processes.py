"""A Local works in forked children, during interpreter shutdown, and in subinterpreters."""

import sys

import pytest
from programs import run_program

FORKS = """
    import asyncio, ctypes, os, signal, sys, threading, warnings
    from asgiref import local as package
    from asgiref.local import Local

    warnings.simplefilter("ignore", DeprecationWarning)  # on purpose: a process with threads forks
    fork = os.fork if sys.argv[1] == "os.fork" else ctypes.PyDLL(None).fork
    FOLDER = os.path.dirname(package.__file__)

    class Writer(threading.Thread):
        # Write, and stop inside the write, before the line with the given number.

        def __init__(self, local, line):
            super().__init__()
            self.local = local
            self.lines_left = line
            self.inside = False
            self.ready, self.go_on = threading.Event(), threading.Event()

        def run(self):
            sys.settrace(self.trace)
            self.local.value = "writer's"
            sys.settrace(None)
            self.ready.set()

        def trace(self, frame, event, argument):
            if not frame.f_code.co_filename.startswith(FOLDER):
                return None
            if event == "line":
                self.lines_left -= 1
                if self.lines_left == 0:
                    self.inside = True
                    self.ready.set()
                    self.go_on.wait()
            return self.trace

    def use(local):
        for name in ("value", "new"):
            setattr(local, name, "child's")
            assert getattr(local, name) == "child's"
            delattr(local, name)
            assert not hasattr(local, name)

    async def use_in_task(local):
        use(local)

    def run_child(local):
        signal.alarm(10)
        try:
            for local in (local, Local(), Local(thread_critical=True)):
                use(local)
                asyncio.run(use_in_task(local))
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)

    line, inside = 0, True
    while inside:
        line += 1
        local = Local(thread_critical=sys.argv[2] == "True")
        writer = Writer(local, line)
        writer.start()
        writer.ready.wait()
        inside = writer.inside
        child = fork() or run_child(local)
        status = os.waitpid(child, 0)[1]
        assert status == 0, f"a child that was forked before line {line} ended with {status}"
        writer.go_on.set()
        writer.join()
    print("lines:", line - 1)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="forks, and calls fork in the C library")
@pytest.mark.parametrize("thread_critical", [False, True])
@pytest.mark.parametrize("how", ["os.fork", "C"])
def test_a_child_forked_while_another_thread_is_writing_can_use_locals(
    how: str, thread_critical: bool
) -> None:
    printed = run_program(FORKS, how, str(thread_critical))
    assert int(printed.removeprefix("lines: ")) > 5


def test_a_forked_child_keeps_the_values_of_the_thread_that_forked() -> None:
    program = """
        import os, threading, warnings
        from asgiref.local import Local

        warnings.simplefilter("ignore", DeprecationWarning)
        locals_ = [Local(), Local(thread_critical=True)]

        def work():
            for local in locals_:
                local.user = "ada"
            child = os.fork()
            if child == 0:
                kept = all(local.user == "ada" for local in locals_)
                os._exit(0 if kept else 1)
            print("status", os.waitpid(child, 0)[1])

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    """
    assert run_program(program) == "status 0\n"


@pytest.mark.parametrize("thread_critical", [False, True])
def test_finalizers_and_daemon_threads_can_use_a_local_while_the_interpreter_ends(
    thread_critical: bool,
) -> None:
    program = f"""
        import atexit, threading
        from asgiref.local import Local

        local = Local(thread_critical={thread_critical})

        class Value:
            def __del__(self, local=local):
                local.seen = "by a finalizer"
                del local.seen
                getattr(local, "missing", None)

        started = threading.Event()

        def work():
            while True:
                local.value = Value()
                started.set()

        threading.Thread(target=work, daemon=True).start()
        started.wait()
        local.value = Value()
        local.itself = local  # keeps everything alive until the very end
        atexit.register(setattr, local, "user", "set at exit")
        atexit.register(print, "ended")
    """
    assert run_program(program) == "ended\n"


@pytest.mark.skipif(
    sys.version_info[:2] == (3, 12),
    reason="3.12 aborts at exit once a subinterpreter has imported asyncio, even without asgiref",
)
def test_each_interpreter_of_a_process_can_use_locals() -> None:
    program = """
        import sys
        from asgiref.local import Local

        CODE = '''if True:
            import asyncio
            from asgiref.local import Local

            def use(local):
                assert not hasattr(local, "user")
                local.user = "ada"
                assert local.user == "ada"

            async def main():
                use(Local()); use(Local(thread_critical=True))

            use(Local()); use(Local(thread_critical=True))
            asyncio.run(main())
        '''
        local = Local()
        local.user = "main interpreter's"
        for _ in range(3):
            if sys.version_info >= (3, 14):
                from concurrent import interpreters
                interpreter = interpreters.create()
                interpreter.exec(CODE)
                interpreter.close()
            elif sys.version_info >= (3, 13):
                import _interpreters
                interpreter = _interpreters.create()
                error = _interpreters.exec(interpreter, CODE)
                assert error is None, error
                _interpreters.destroy(interpreter)
            else:
                import _xxsubinterpreters
                interpreter = _xxsubinterpreters.create()
                _xxsubinterpreters.run_string(interpreter, CODE)
                _xxsubinterpreters.destroy(interpreter)
        print(local.user)
    """
    assert run_program(program) == "main interpreter's\n"
