"""Tools that watch a process (tracers, profilers, framework dispatch) see the calls."""

import asyncio
import inspect
import sys
import threading

import loops
import pytest
from probes import SOON, assert_all_works, double, outcome
from programs import check_program

from asgiref.sync import AsyncToSync, ThreadSensitiveContext, async_to_sync, sync_to_async

pytestmark = pytest.mark.timeout(20, method="thread")


async def current():
    await asyncio.sleep(0)
    return asyncio.current_task()


async def at_once():
    return asyncio.current_task()


def below(coroutine_function):
    async def main():
        return await sync_to_async(async_to_sync(coroutine_function))()

    return main


@pytest.fixture
def traced(monkeypatch):
    """The tasks that `loop.create_task` created; wrapped on the class, as tracers do."""
    made = []
    plain = asyncio.BaseEventLoop.create_task

    def create_task(self, coroutine, **options):
        task = plain(self, coroutine, **options)
        made.append(task)
        return task

    monkeypatch.setattr(asyncio.BaseEventLoop, "create_task", create_task)
    return made


@pytest.mark.skipif(loops.CHOICE == "uvloop", reason="wraps the method of asyncio's loop")
@pytest.mark.parametrize("coroutine", [current, at_once], ids=["suspends", "at once"])
def test_a_wrapped_create_task_makes_every_task(traced, coroutine):
    assert async_to_sync(coroutine)() in traced
    assert async_to_sync(coroutine)() in traced
    assert asyncio.run(below(coroutine)()) in traced
    assert async_to_sync(below(coroutine))() in traced
    call = async_to_sync(coroutine, force_new_loop=True)
    assert asyncio.run(sync_to_async(call)()) in traced


@pytest.mark.parametrize("how", ["subclass", "attribute"])
def test_the_create_task_of_one_loop_makes_the_tasks_on_it(how):
    made = []

    class Loop(asyncio.SelectorEventLoop):
        def create_task(self, coroutine, **options):
            made.append(super().create_task(coroutine, **options))
            return made[-1]

    loop = Loop() if how == "subclass" else asyncio.SelectorEventLoop()
    if how == "attribute":
        plain = loop.create_task

        def create_task(coroutine, **options):
            made.append(plain(coroutine, **options))
            return made[-1]

        loop.create_task = create_task
    try:
        for coroutine in (current, at_once):
            assert loop.run_until_complete(below(coroutine)()) in made
    finally:
        loop.close()


@pytest.mark.skipif(loops.CHOICE == "uvloop", reason="uvloop looks up the class when it is built")
@pytest.mark.parametrize("coroutine", [current, at_once], ids=["suspends", "at once"])
def test_a_class_that_replaces_asyncios_task_makes_every_task(monkeypatch, coroutine):
    class Recorded(asyncio.Task):
        pass

    monkeypatch.setattr(asyncio.tasks, "Task", Recorded)
    for _ in range(2):
        assert type(async_to_sync(coroutine)()) is Recorded
    assert type(asyncio.run(below(coroutine)())) is Recorded


INSTRUMENT = """
import faulthandler
faulthandler.dump_traceback_later({seconds}, exit=True)
import asyncio, types

function, made = asyncio.BaseEventLoop.create_task, []
plain = types.FunctionType(
    function.__code__, function.__globals__, "plain", function.__defaults__, function.__closure__
)
plain.__kwdefaults__ = function.__kwdefaults__

def replace_code(replacement, **details):
    function.__kwdefaults__ = None
    file = asyncio.base_events.__file__
    function.__code__ = replacement.__code__.replace(co_filename=file, **details)
"""

#: Ways in which tools change the bytecode of `create_task` in place, before any other import.
INSTRUMENTATIONS = {
    "objects among the constants": """
def create_task(self, coroutine, **options):
    note = "note"
    call = "call"
    note(coroutine.__qualname__)
    return call(self, coroutine, **options)
objects = {"note": made.append, "call": plain}
constants = tuple(objects.get(one, one) for one in create_task.__code__.co_consts)
replace_code(
    create_task, co_consts=constants, co_name="create_task", co_qualname=function.__qualname__
)
""",
    "names among the globals": """
def create_task(self, coroutine, **options):
    _note(coroutine.__qualname__)
    return _call(self, coroutine, **options)
function.__globals__.update(_note=made.append, _call=plain)
replace_code(create_task)
""",
}


@pytest.mark.parametrize("how", INSTRUMENTATIONS)
def test_an_instrumented_create_task_makes_every_task(how):
    check_program(
        INSTRUMENTATIONS[how]
        + """
from asgiref.sync import async_to_sync, sync_to_async
async def at_once():
    return 1
for _ in range(2):
    async_to_sync(at_once)()
asyncio.run(sync_to_async(async_to_sync(at_once))())
print(made.count("AsyncToSync.main_wrap"))
""",
        prelude=INSTRUMENT,
        output="3",
    )


def test_a_policys_loops_are_used_for_calls_at_top_level(monkeypatch):
    made = []
    plain = asyncio.new_event_loop

    class Loop(asyncio.SelectorEventLoop):
        def create_task(self, coroutine, **options):
            made.append(super().create_task(coroutine, **options))
            return made[-1]

    monkeypatch.setattr(asyncio, "new_event_loop", Loop)
    monkeypatch.setattr(asyncio.events, "new_event_loop", Loop)
    assert async_to_sync(_loop_class, force_new_loop=True)() in (Loop, type(_closed(plain())))


async def _loop_class():
    return type(asyncio.get_running_loop())


def _closed(loop):
    loop.close()
    return loop


@pytest.mark.parametrize("coroutine", [current, at_once], ids=["suspends", "at once"])
def test_a_task_factory_makes_the_tasks(coroutine):
    made = []

    def factory(loop, coroutine, **options):
        made.append(asyncio.Task(coroutine, loop=loop, **options))
        return made[-1]

    async def main():
        asyncio.get_running_loop().set_task_factory(factory)
        return await below(coroutine)()

    assert asyncio.run(main()) in made


class Hooked(AsyncToSync):
    async def main_wrap(self, *args):
        await super().main_wrap(*args)


@pytest.mark.parametrize("wrapper", [async_to_sync, Hooked])
@pytest.mark.parametrize("result", ["an error", "nothing"])
def test_a_task_factory_that_creates_no_task_for_a_call_makes_the_call_fail(wrapper, result):
    def factory(loop, coroutine, **options):
        if not coroutine.__qualname__.endswith("main_wrap"):
            return asyncio.Task(coroutine, loop=loop, **options)
        if result == "an error":
            raise LookupError("no task today")
        return None

    def new_loop():
        loop = asyncio.SelectorEventLoop()
        loop.set_task_factory(factory)
        return loop

    async def main():
        asyncio.get_running_loop().set_task_factory(factory)
        return await sync_to_async(outcome)(wrapper(current))

    expected = LookupError if result == "an error" else AttributeError
    assert isinstance(outcome(wrapper(current, loop_factory=new_loop)), expected)
    assert isinstance(asyncio.run(main()), expected)
    assert_all_works()


@pytest.mark.skipif(
    loops.CHOICE == "uvloop",
    reason="uvloop passes an argument that asyncio's eager factory refuses",
)
@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks are new in 3.12")
def test_calls_work_on_a_loop_whose_tasks_start_eagerly():
    async def main():
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        assert await sync_to_async(async_to_sync(double))(2) == 4
        assert await asyncio.create_task(sync_to_async(int)("1")) == 1
        assert await asyncio.gather(*(sync_to_async(int, thread_sensitive=False)(n) for n in "12"))

    asyncio.run(main())
    async_to_sync(main)()


def test_the_task_of_a_call_is_the_current_one_and_is_listed():
    async def main():
        task = asyncio.current_task()
        assert task in asyncio.all_tasks()
        await asyncio.sleep(0)
        return task is asyncio.current_task() and task in asyncio.all_tasks()

    assert async_to_sync(main)()
    assert asyncio.run(below(main)())


class Bot:
    @sync_to_async
    def greet(self, name):
        return f"hello {name}"

    @classmethod
    @sync_to_async
    def make(cls):
        return cls.__name__

    @staticmethod
    @sync_to_async
    def say(text):
        return text

    parallel = sync_to_async(lambda self: "parallel", thread_sensitive=False)

    @async_to_sync
    async def wait(self):
        return "waited"


ASYNCHRONOUS = {
    "method": lambda: Bot().greet,
    "class method": lambda: Bot.make,
    "class method of an instance": lambda: Bot().make,
    "parallel": lambda: Bot().parallel,
}
if sys.version_info >= (3, 12):  # older versions of inspect unwrap only methods
    ASYNCHRONOUS["function of the class"] = lambda: Bot.greet
    ASYNCHRONOUS["static method"] = lambda: Bot.say
    ASYNCHRONOUS["function"] = lambda: sync_to_async(len)


@pytest.mark.parametrize("make", ASYNCHRONOUS.values(), ids=list(ASYNCHRONOUS))
def test_inspect_sees_a_coroutine_function(make):
    assert inspect.iscoroutinefunction(make())


def test_inspect_sees_a_plain_function_in_the_other_direction():
    assert not inspect.iscoroutinefunction(Bot().wait)
    assert not inspect.iscoroutinefunction(async_to_sync(double))
    assert Bot().wait() == "waited"


def test_a_dispatcher_that_asks_inspect_awaits_the_method():
    async def dispatch(handler, *args):
        if inspect.iscoroutinefunction(handler):
            return await handler(*args)
        return await asyncio.to_thread(handler, *args)

    async def main():
        bot = Bot()
        return [
            await dispatch(bot.greet, "Ada"),
            await dispatch(Bot.make),
            await dispatch(bot.parallel),
        ]

    assert asyncio.run(main()) == ["hello Ada", "Bot", "parallel"]


def marked(note):
    note.append(threading.get_ident())


def run_all_kinds(function):
    """Run `function` on each kind of worker thread, in new threads if possible."""

    async def main():
        await sync_to_async(function)()
        await sync_to_async(function, thread_sensitive=False)()
        async with ThreadSensitiveContext():
            await sync_to_async(function)()
        await sync_to_async(async_to_sync(double))(2)

    asyncio.run(main())
    assert async_to_sync(double)(2) == 4


@pytest.mark.parametrize("which", ["setprofile", "settrace"])
def test_a_profile_function_for_new_threads_sees_a_contexts_functions(which):
    """A context's thread is new, so its first function is already profiled."""
    seen, ran = [], []

    def watch(frame, event, arg):
        if frame.f_code is marked.__code__ and event == "call":
            seen.append(threading.get_ident())
        return watch if which == "settrace" else None

    async def main():
        async with ThreadSensitiveContext():
            await sync_to_async(marked)(ran)

    getattr(threading, which)(watch)
    try:
        asyncio.run(main())
    finally:
        getattr(threading, which)(None)
    assert seen == ran
    assert len(ran) == 1


@pytest.mark.parametrize("which", ["setprofile_all_threads", "settrace_all_threads"])
@pytest.mark.skipif(sys.version_info < (3, 12), reason="new in 3.12")
def test_a_profile_function_for_all_threads_sees_every_function(which):
    seen, ran = [], []

    def watch(frame, event, arg):
        if frame.f_code is marked.__code__ and event == "call":
            seen.append(threading.get_ident())
        return watch if which == "settrace_all_threads" else None

    run_all_kinds(lambda: None)  # idle threads
    before = sys.gettrace(), sys.getprofile()
    getattr(threading, which)(watch)
    try:
        run_all_kinds(lambda: marked(ran))
    finally:
        getattr(threading, which)(None)
        sys.settrace(before[0])
        sys.setprofile(before[1])
    assert seen == ran
    assert len(ran) == 3


@pytest.mark.parametrize("which", ["setprofile", "settrace"])
def test_a_profile_function_that_raises_breaks_no_later_call(which):
    def watch(frame, event, arg):
        raise ValueError("profiler")

    def work():
        getattr(sys, which)(watch)
        try:
            return len("abc")
        finally:
            getattr(sys, which)(None)

    async def main(sensitive):
        try:
            await sync_to_async(work, thread_sensitive=sensitive)()
        except ValueError:
            return
        raise AssertionError("the profile function was not called")

    before = sys.gettrace(), sys.getprofile()
    for sensitive in (True, False):
        if which == "settrace":
            asyncio.run(sync_to_async(work, thread_sensitive=sensitive)())
        else:
            asyncio.run(main(sensitive))
    sys.settrace(before[0])
    sys.setprofile(before[1])
    assert_all_works()


@pytest.mark.skipif(not hasattr(sys, "monitoring"), reason="sys.monitoring is new in 3.12")
def test_monitoring_sees_the_functions_on_every_thread():
    monitoring = sys.monitoring
    seen, ran = [], []

    def started(code, offset):
        if code is marked.__code__:
            seen.append(threading.get_ident())
        return None

    tool = monitoring.PROFILER_ID
    run_all_kinds(lambda: None)
    monitoring.use_tool_id(tool, "test")
    monitoring.register_callback(tool, monitoring.events.PY_START, started)
    monitoring.set_events(tool, monitoring.events.PY_START)
    try:
        run_all_kinds(lambda: marked(ran))
    finally:
        monitoring.set_events(tool, 0)
        monitoring.register_callback(tool, monitoring.events.PY_START, None)
        monitoring.free_tool_id(tool)
    assert seen == ran
    assert len(ran) == 3


def test_a_wrapped_thread_run_sees_the_thread_of_a_context(monkeypatch):
    """Agents that follow work between threads do this."""
    names = []
    plain = threading.Thread.run

    def run(self):
        names.append(self.name)
        return plain(self)

    monkeypatch.setattr(threading.Thread, "run", run)

    async def main():
        async with ThreadSensitiveContext():
            return await sync_to_async(lambda: threading.current_thread().name)()

    assert asyncio.run(main()) in names


def test_calls_work_with_a_thread_subclass_in_place_of_thread(monkeypatch):
    class Recording(threading.Thread):
        def start(self):
            started.append(self)
            super().start()

    started = []
    monkeypatch.setattr(threading, "Thread", Recording)
    run_all_kinds(lambda: None)
    for thread in started:
        assert thread.ident
    monkeypatch.undo()
    assert_all_works()


def test_a_loop_in_debug_mode_logs_nothing(caplog):
    async def main():
        loop = asyncio.get_running_loop()
        loop.set_debug(True)
        loop.slow_callback_duration = SOON
        await below(current)()
        await sync_to_async(int, thread_sensitive=False)("1")

    asyncio.run(main())
    async_to_sync(main)()
    assert caplog.records == []
