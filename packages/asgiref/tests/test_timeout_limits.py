"""The deprecated asgiref.timeout.timeout cancels its block at the limit, and has no other
effect."""

import asyncio

import pytest

from asgiref.timeout import timeout

pytestmark = pytest.mark.filterwarnings("ignore:asgiref.timeout:DeprecationWarning")


async def wait_without_end():
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
def test_a_plain_with_block_ends_in_timeout_error(seconds):
    async def main():
        limit = timeout(seconds)
        with pytest.raises(TimeoutError), limit:
            await wait_without_end()
        assert limit.expired is True
        assert asyncio.current_task().cancelling() == 0

    asyncio.run(main())


@pytest.mark.parametrize("seconds", [0.01, 0, -1])
def test_an_async_with_block_ends_in_timeout_error(seconds):
    async def main():
        limit = timeout(seconds)
        with pytest.raises(TimeoutError):
            async with limit:
                await wait_without_end()
        assert limit.expired is True
        assert asyncio.current_task().cancelling() == 0

    asyncio.run(main())


def test_a_block_that_ends_in_time_is_not_cancelled():
    async def main():
        async with timeout(60) as limit:
            assert 0 < limit.remaining <= 60
            await asyncio.sleep(0)
        assert limit.expired is False

    asyncio.run(main())


def test_the_timer_does_not_outlive_the_block():
    async def main():
        with timeout(0):
            pass  # no await, so the limit cannot pass inside
        for _ in range(3):
            await asyncio.sleep(0)
        assert asyncio.current_task().cancelling() == 0

    asyncio.run(main())


def test_none_means_no_limit_and_needs_no_task():
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
            await wait_without_end()
        assert limit.remaining == 0.0

    asyncio.run(main())


def test_another_cancellation_stays_a_cancellation():
    async def main():
        async def limited():
            with timeout(60):
                await wait_without_end()

        task = asyncio.create_task(limited())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())


def test_a_cancellation_at_the_same_time_as_the_limit_wins():
    async def main():
        async def limited():
            with timeout(0):
                asyncio.get_running_loop().call_soon(task.cancel)
                await wait_without_end()

        task = asyncio.create_task(limited())
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())


def test_an_enclosing_asyncio_timeout_does_not_expire():
    async def main():
        async with asyncio.timeout(60) as outer:
            with pytest.raises(TimeoutError), timeout(0):
                await wait_without_end()
            await asyncio.sleep(0)
        assert outer.expired() is False

    asyncio.run(main())


def test_the_blocks_error_is_not_replaced():
    async def main():
        async def fails_when_cancelled():
            try:
                await wait_without_end()
            except asyncio.CancelledError:
                raise LookupError("mine") from None

        with pytest.raises(LookupError, match="mine"), timeout(0):
            await fails_when_cancelled()
        assert asyncio.current_task().cancelling() == 0

    asyncio.run(main())


def test_it_can_be_entered_again_but_not_twice_at_once():
    async def main():
        limit = timeout(60)
        with limit, pytest.raises(RuntimeError, match="already in use: entered"):
            limit.__enter__()
        with limit:
            assert limit.expired is False

    asyncio.run(main())


def test_entering_it_outside_a_task_is_an_error():
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


def test_creating_it_without_a_running_loop_is_an_error():
    with pytest.raises(RuntimeError, match="no running event loop"):
        timeout(1)


def test_a_limit_that_is_not_a_number_is_rejected():
    async def main():
        with pytest.raises(TypeError, match="number of seconds or None, not '5'"):
            timeout("5")

    asyncio.run(main())
