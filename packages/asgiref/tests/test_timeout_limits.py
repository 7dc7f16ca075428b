"""The deprecated asgiref.timeout.timeout: what it limits, and what it leaves alone."""

import asyncio

import pytest

from asgiref.timeout import timeout

pytestmark = pytest.mark.filterwarnings("ignore:asgiref.timeout:DeprecationWarning")


async def forever():
    await asyncio.Event().wait()


def test_creating_one_warns_and_names_the_replacement():
    async def main():
        with pytest.warns(DeprecationWarning, match=r"asyncio\.timeout") as caught:
            timeout(1)
        assert [warning.filename for warning in caught] == [__file__]

    asyncio.run(main())


def test_the_loop_argument_warns_too():
    async def main():
        with pytest.warns(DeprecationWarning, match="loop argument"):
            limit = timeout(None, loop=asyncio.get_running_loop())
        with limit:
            pass
        assert limit.expired is False

    asyncio.run(main())


@pytest.mark.parametrize("seconds", [0.01, 0, -1])
def test_a_plain_with_block_is_ended_by_timeout_error(seconds):
    async def main():
        limit = timeout(seconds)
        with pytest.raises(TimeoutError), limit:
            await forever()
        assert limit.expired is True
        assert asyncio.current_task().cancelling() == 0

    asyncio.run(main())


@pytest.mark.parametrize("seconds", [0.01, 0, -1])
def test_an_async_with_block_is_ended_by_timeout_error(seconds):
    async def main():
        limit = timeout(seconds)
        with pytest.raises(TimeoutError):
            async with limit:
                await forever()
        assert limit.expired is True
        assert asyncio.current_task().cancelling() == 0

    asyncio.run(main())


def test_a_block_that_ends_in_time_is_left_alone():
    async def main():
        async with timeout(60) as limit:
            assert 0 < limit.remaining <= 60
            await asyncio.sleep(0)
        assert limit.expired is False

    asyncio.run(main())


def test_the_timer_does_not_outlive_the_block():
    async def main():
        with timeout(0):
            pass  # no await: the limit cannot strike inside
        for _ in range(3):
            await asyncio.sleep(0)
        assert asyncio.current_task().cancelling() == 0

    asyncio.run(main())


def test_none_is_no_limit_and_needs_no_task():
    loop = asyncio.new_event_loop()
    try:
        with pytest.warns(DeprecationWarning, match="loop arg"), timeout(None, loop=loop) as limit:
            assert limit.remaining is None
    finally:
        loop.close()


def test_remaining_is_none_before_the_block_and_never_negative():
    async def main():
        limit = timeout(0.01)
        assert limit.remaining is None
        with pytest.raises(TimeoutError), limit:
            await forever()
        assert limit.remaining == 0.0

    asyncio.run(main())


def test_another_cancellation_stays_a_cancellation():
    async def main():
        async def limited():
            with timeout(60):
                await forever()

        task = asyncio.create_task(limited())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())


def test_a_cancellation_that_comes_together_with_the_limit_wins():
    async def main():
        async def limited():
            with timeout(0):
                asyncio.get_running_loop().call_soon(task.cancel)
                await forever()

        task = asyncio.create_task(limited())
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())


def test_an_enclosing_asyncio_timeout_is_not_confused():
    async def main():
        async with asyncio.timeout(60) as outer:
            with pytest.raises(TimeoutError), timeout(0):
                await forever()
            await asyncio.sleep(0)
        assert outer.expired() is False

    asyncio.run(main())


def test_an_error_of_the_block_is_not_replaced():
    async def main():
        async def fails_when_cancelled():
            try:
                await forever()
            except asyncio.CancelledError:
                raise LookupError("mine") from None

        with pytest.raises(LookupError, match="mine"), timeout(0):
            await fails_when_cancelled()
        assert asyncio.current_task().cancelling() == 0

    asyncio.run(main())


def test_it_may_be_entered_again_but_not_twice_at_once():
    async def main():
        limit = timeout(60)
        with limit, pytest.raises(RuntimeError, match="in use already: entered"):
            limit.__enter__()
        with limit:
            assert limit.expired is False

    asyncio.run(main())


def test_outside_of_a_task_it_cannot_be_entered():
    loop = asyncio.new_event_loop()
    caught = []

    def enter():
        try:
            with timeout(1):
                pass
        except RuntimeError as error:
            caught.append(str(error))
        loop.stop()

    loop.call_soon(enter)
    loop.run_forever()
    loop.close()
    assert caught == ["asgiref.timeout.timeout must be entered inside a task."]


def test_without_a_running_loop_it_cannot_be_created():
    with pytest.raises(RuntimeError, match="no running event loop"):
        timeout(1)


def test_a_limit_that_is_no_number_is_rejected_at_the_call():
    async def main():
        with pytest.raises(TypeError, match="number of seconds or None, not '5'"):
            timeout("5")

    asyncio.run(main())
