"""Turns the first SIGTERM or SIGINT into a polite request; the second one ends the process as usual."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

NUMBERS = (signal.SIGTERM, signal.SIGINT)


@contextlib.contextmanager
def stop_requested() -> Iterator[Callable[[], bool]]:
    """Inside the block, a function that says whether a signal asked to stop. Only the main thread can listen."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return
    previous = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def ask(number: int, _frame: FrameType | None) -> None:
        asked.set()
        signal.signal(number, previous[signal.Signals(number)])

    for number in previous:
        signal.signal(number, ask)
    try:
        yield asked.is_set
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """Signals that come inside the block are delivered after it; to processes started inside, once they let them through."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, NUMBERS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def outlive_first_signal(_worker: int) -> None:
    """In a loading process started inside :func:`held_back`: it goes on when its whole group is asked to stop.

    Schedulers and Ctrl-C signal the group. A loading process that died of it would end the training with an error before its state is
    saved; so it leaves stopping to its owner, as PyTorch ends it with the owner. A second signal ends it.
    """

    def first(number: int, _frame: FrameType | None) -> None:
        signal.signal(number, lambda _number, _frame: os._exit(1))

    for number in NUMBERS:
        signal.signal(number, first)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, NUMBERS)


@contextlib.contextmanager
def stopped_at_once(stopped: Callable[[], Exception]) -> Iterator[None]:
    """SIGTERM inside the block raises what ``stopped`` makes, wherever the main thread is: for work that has nothing to save."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise stopped()

    previous = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
