import signal
import threading

import pytest

from medanomaly.training.preempt import stop_requested

SIGNALS = [signal.SIGTERM, signal.SIGINT]


@pytest.fixture(params=SIGNALS, ids=["SIGTERM", "SIGINT"])
def number(request: pytest.FixtureRequest) -> signal.Signals:
    chosen: signal.Signals = request.param
    return chosen


def test_the_first_signal_asks_and_the_second_is_as_it_was_outside(number: signal.Signals) -> None:
    outside: list[int] = []
    before = signal.signal(number, lambda received, _frame: outside.append(received))
    try:
        with stop_requested() as stop:
            assert not stop()
            signal.raise_signal(number)
            assert stop()
            assert outside == []
            signal.raise_signal(number)
            assert outside == [number]
    finally:
        signal.signal(number, before)


def test_the_handlers_come_back_after_the_block_even_after_an_error(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with pytest.raises(ZeroDivisionError), stop_requested() as stop:
        print(1 / stop())
    assert signal.getsignal(number) is before


def test_the_handlers_are_others_inside_the_block(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with stop_requested():
        assert signal.getsignal(number) is not before
    assert signal.getsignal(number) is before


def test_a_thread_that_cannot_listen_runs_all_the_same() -> None:
    heard: list[bool] = []

    def work() -> None:
        with stop_requested() as stop:
            heard.append(stop())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert heard == [False]
