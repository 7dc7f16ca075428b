"""Calls work in isolated and legacy subinterpreters, and the subinterpreters end cleanly."""

import sys

import pytest
from programs import check_program

pytestmark = pytest.mark.timeout(40, method="thread")

#: `create(kind)` and `run(interpreter, script)` and `destroy(interpreter)`, by version.
PREPARE = """
if sys.version_info >= (3, 13):
    import _interpreters
    def create(kind):
        return _interpreters.create(kind)
    def run(interpreter, script):
        failed = _interpreters.exec(interpreter, script)
        if failed is not None:
            raise RuntimeError(getattr(failed, "errdisplay", None) or failed.formatted)
    destroy = _interpreters.destroy
else:
    import _xxsubinterpreters
    def create(kind):
        return _xxsubinterpreters.create(isolated=kind == "isolated")
    run = _xxsubinterpreters.run_string
    destroy = _xxsubinterpreters.destroy

KIND = {kind!r}

SETUP = '''
import sys
sys.path[:] = {path!r}
import asyncio, threading
from asgiref.sync import *

async def turn():
    await asyncio.sleep(0)
    return 1

async def back():
    return await sync_to_async(lambda: 1)()

async def parallel():
    call = sync_to_async(lambda: 1, thread_sensitive=False)
    return sum(await asyncio.gather(*(call() for _ in range(10)))) // 10

async def nested():
    return await sync_to_async(async_to_sync(turn))()

async def in_context():
    async with ThreadSensitiveContext():
        return await sync_to_async(lambda: 1)()

KINDS = [turn, back, parallel, nested, in_context]
'''.replace("{path!r}", repr(sys.path))
"""

BOTH_WAYS = """
for kind in KINDS:
    assert async_to_sync(kind)() == 1, kind
    assert asyncio.run(kind()) == 1, kind
with AsyncSingleThreadContext():
    assert async_to_sync(back)() == 1
"""

#: In 3.11, isolated interpreters have no threads; in 3.12, they crash in asyncio itself.
KINDS = ["isolated", "legacy"] if sys.version_info >= (3, 13) else ["legacy"]

ends = pytest.mark.skipif(
    sys.version_info < (3, 12),
    reason="3.11 refuses to end, or to use again, an interpreter that has an idle thread",
)


def check(kind, script, **settings):
    check_program(PREPARE.replace("{kind!r}", repr(kind)) + script, **settings)


@pytest.mark.parametrize("kind", KINDS)
def test_calls_of_all_kinds_work_in_a_subinterpreter(kind):
    check(
        kind,
        f"""
interpreter = create(KIND)
run(interpreter, SETUP + '''{BOTH_WAYS}''')
print("worked", flush=True)
os._exit(0)
""",
        output="worked",
    )


@ends
@pytest.mark.parametrize("kind", KINDS)
def test_calls_of_all_kinds_work_in_subinterpreters_that_are_then_destroyed(kind):
    check(
        kind,
        f"""
for _ in range(3):
    interpreter = create(KIND)
    run(interpreter, SETUP + '''{BOTH_WAYS}''')
    destroy(interpreter)
print("ended")
""",
        output="ended",
    )


@ends
@pytest.mark.parametrize("kind", KINDS)
def test_each_interpreter_has_its_own_threads(kind):
    check(
        kind,
        f"""
exec(SETUP)
exec('''{BOTH_WAYS}''')
interpreters = [create(KIND) for _ in range(2)]
for _ in range(2):
    for interpreter in interpreters:
        run(interpreter, SETUP + '''{BOTH_WAYS}''')
    exec('''{BOTH_WAYS}''')
for interpreter in interpreters:
    destroy(interpreter)
    exec('''{BOTH_WAYS}''')
print("ended")
""",
        output="ended",
    )


@ends
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("what", ["turn", "back", "parallel", "nested", "in_context"])
def test_an_interpreter_can_end_right_after_each_kind_of_call(kind, what):
    check(
        kind,
        f"""
for call in ("async_to_sync({what})()", "asyncio.run({what}())"):
    interpreter = create(KIND)
    run(interpreter, SETUP + call)
    destroy(interpreter)
print("ended")
""",
        output="ended",
    )


#: Objects that an application leaves open, each with a loop that runs in a thread.
LEFT_OPEN = {
    "context": "block = AsyncSingleThreadContext(); block.__enter__(); async_to_sync(turn)()",
    "iterator": """
async def numbers():
    for number in range(3):
        yield number
iterator = async_to_sync_iterator(numbers())
assert next(iterator) == 0
""",
}


@ends
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("what", LEFT_OPEN)
def test_an_interpreter_can_end_while_a_loop_is_left_open(kind, what):
    check(
        kind,
        f"""
interpreter = create(KIND)
run(interpreter, SETUP + {LEFT_OPEN[what]!r})
destroy(interpreter)
print("ended")
""",
        output="ended",
    )


@ends
@pytest.mark.parametrize("kind", KINDS)
def test_interpreters_work_in_threads_of_their_own(kind):
    check(
        kind,
        f"""
errors = []
def work():
    try:
        interpreter = create(KIND)
        for _ in range(2):
            run(interpreter, SETUP + '''{BOTH_WAYS}''')
        destroy(interpreter)
    except BaseException as error:
        errors.append(error)
threads = [threading.Thread(target=work) for _ in range(3)]
for thread in threads: thread.start()
for thread in threads: thread.join()
for error in errors: raise error
print("ended")
""",
        output="ended",
    )


@pytest.mark.skipif(sys.version_info < (3, 14), reason="concurrent.interpreters is new in 3.14")
def test_the_public_interpreters_module_works():
    check(
        "isolated",
        f"""
from concurrent import interpreters
interpreter = interpreters.create()
interpreter.exec(SETUP + '''{BOTH_WAYS}''')
interpreter.close()
print("ended")
""",
        output="ended",
    )


@pytest.mark.skipif(sys.version_info < (3, 14), reason="InterpreterPoolExecutor is new in 3.14")
def test_an_interpreter_pool_executor_runs_functions():
    check(
        "isolated",
        """
from concurrent.futures import InterpreterPoolExecutor
async def main():
    with InterpreterPoolExecutor(1) as executor:
        call = sync_to_async(len, thread_sensitive=False, executor=executor)
        return await call("abc")
print(asyncio.run(main()))
""",
        output="3",
    )
