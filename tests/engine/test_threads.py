from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event, Thread

import pytest
import torch

from memae.engine.threads import available_threads, one_thread


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def in_a_new_thread(ask: Callable[[], int]) -> int:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(ask).result()


def test_a_block_takes_one_thread_and_gives_the_others_back() -> None:
    with one_thread():
        assert (torch.get_num_threads(), available_threads()) == (1, 1)
        with one_thread():
            assert (torch.get_num_threads(), available_threads()) == (1, 1)
        assert (torch.get_num_threads(), available_threads()) == (1, 1)
    assert (torch.get_num_threads(), available_threads()) == (2, 2)


def test_a_thread_that_starts_while_another_is_in_a_block_may_take_all_threads() -> None:
    with one_thread():
        assert in_a_new_thread(available_threads) == 2


def test_a_block_that_begins_within_the_block_of_another_thread_leaves_the_process_as_it_was() -> None:
    began, ended = Event(), Event()

    def longer() -> None:
        with one_thread():
            began.set()
            assert ended.wait(10)

    with one_thread():
        thread = Thread(target=longer)
        thread.start()
        assert began.wait(10)
    ended.set()
    thread.join()
    assert torch.get_num_threads() == 2
    assert in_a_new_thread(torch.get_num_threads) == 2
