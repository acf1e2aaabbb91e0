"""The first Ctrl-C is kept until the work asks for it, the second one is not."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator

import pytest

from memae.training.interrupt import Interrupt


@pytest.fixture(autouse=True)
def python_handles_ctrl_c() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def ctrl_c() -> None:
    signal.raise_signal(signal.SIGINT)  # os.kill may reach another thread, and then this one hears of it too late


def test_the_first_one_waits_until_it_is_asked_for() -> None:
    with Interrupt() as interrupt:
        interrupt.check()
        ctrl_c()
        assert interrupt.asked
        with pytest.raises(KeyboardInterrupt):
            interrupt.check()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_the_second_one_ends_the_work_where_it_stands() -> None:
    with pytest.raises(KeyboardInterrupt), Interrupt():
        ctrl_c()
        ctrl_c()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_handler_of_the_callers_own_stays() -> None:
    seen: list[int] = []
    mine = lambda number, _frame: seen.append(number)  # noqa: E731  one short rule of several
    signal.signal(signal.SIGINT, mine)
    with Interrupt() as interrupt:
        ctrl_c()
        assert seen == [signal.SIGINT]
        assert not interrupt.asked
    assert signal.getsignal(signal.SIGINT) is mine


def test_outside_of_the_main_thread_nothing_is_handled() -> None:
    found: list[bool] = []

    def work() -> None:
        with Interrupt():
            found.append(signal.getsignal(signal.SIGINT) is signal.default_int_handler)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [True]
