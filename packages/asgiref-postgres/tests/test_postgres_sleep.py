"""When a reader polls, and when senders must notify it, with a fake clock."""

from asgiref.postgres._pump import Sleep


def test_a_reader_that_finds_nothing_sleeps_and_one_that_finds_rows_wakes_up() -> None:
    sleep = Sleep()
    sleep.has_read(1.0, None, found=True, more=False)
    assert sleep.mark(1.1) is None
    sleep.has_read(1.1, None, found=False, more=False)
    assert sleep.mark(1.1 + Sleep.AWAKE / 2) is None
    assert sleep.mark(1.2) is True
    sleep.has_read(1.2, True, found=False, more=False)
    assert sleep.mark(1.3) is None
    sleep.has_read(1.3, None, found=True, more=False)
    assert sleep.mark(1.3) is False


def test_a_reader_that_finds_rows_stays_awake_however_long_its_transactions_take() -> None:
    sleep = Sleep()
    for second in range(10):
        sleep.has_read(float(second), None, found=True, more=False)
        assert sleep.mark(second + 0.9) is None


def test_an_awake_reader_polls_soon_after_a_row_and_then_less_often() -> None:
    sleep, now = Sleep(), 2.0
    delays: list[float] = []
    for found in (True, False, False, False, False, True):
        sleep.has_read(now, None, found=found, more=False)
        delays.append(round(sleep.next_poll - now, 6))
        now = sleep.next_poll
    assert delays == [0.0005, 0.001, 0.002, 0.004, 0.004, 0.0005]


def test_a_sleeping_reader_polls_less_and_less_often() -> None:
    sleep, now = Sleep(), 5.0
    delays: list[float] = []
    for mark in (True, *[None] * 12):
        sleep.has_read(now, mark, found=False, more=False)
        delays.append(round(sleep.next_poll - now, 6))
        now = sleep.next_poll
    assert delays == sorted(delays)
    assert delays[0] < 0.01
    assert delays[-1] == Sleep.LONGEST


def test_a_reader_reads_again_at_once_while_rows_remain() -> None:
    sleep = Sleep()
    sleep.has_read(3.0, None, found=True, more=True)
    assert sleep.next_poll == 3.0
