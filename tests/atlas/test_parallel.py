"""Batches that are worked on at once come in order, whatever happens to them."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import rot180
from rot180.atlas.parallel import ordered_map
from tests.atlas.scans import same_rows

CPU = torch.device("cpu")


@pytest.fixture(params=[1, 2, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def test_results_come_in_order(threads: int) -> None:
    def slow(item: int) -> int:
        time.sleep(0.002 * (item % 3))
        return item * item

    found = list(ordered_map(slow, range(40), CPU))
    assert found == [(one, one * one) for one in range(40)]
    assert torch.get_num_threads() == threads


def test_few_items_are_taken_ahead(threads: int) -> None:
    taken = []

    def items() -> Iterator[int]:
        for one in range(100):
            taken.append(one)
            yield one

    going = ordered_map(lambda one: one, items(), CPU)
    for _ in range(5):
        next(going)
    assert len(taken) <= 5 + threads + 1
    going.close()


def test_an_error_is_raised_in_its_place(threads: int) -> None:
    def fails(item: int) -> int:
        if item >= 7:
            raise ValueError(item)
        return item

    found = []
    with pytest.raises(ValueError, match="7"):
        found.extend(one for one, _ in ordered_map(fails, range(30), CPU))
    going = ordered_map(fails, range(30), CPU)
    assert [next(going)[0] for _ in range(7)] == list(range(7))
    with pytest.raises(ValueError, match="7"):
        next(going)
    assert not [one for one in threading.enumerate() if one.name.startswith("rot180-scan")]


def test_each_batch_has_threads_of_its_own(threads: int) -> None:
    found = {n for _, n in ordered_map(lambda _: torch.get_num_threads(), range(8), CPU)}
    assert found == {1}
    shared = ordered_map(lambda _: torch.get_num_threads(), range(8), CPU, apart=False)
    assert {n for _, n in shared} == {threads}


@pytest.mark.slow
def test_a_scan_of_convolutions_is_the_same_with_any_number_of_threads(tmp_path: Path) -> None:
    # The fully connected layer is left out: on some processors the library that multiplies its
    # matrix splits long sums among the threads, and the last digit depends on how.
    model, data = rot180.load("two-layer"), rot180.open_dataset("photos", "test")
    before = torch.get_num_threads()
    try:
        for number in (1, 2):
            torch.set_num_threads(number)
            rot180.scan(model, data, tmp_path / str(number), layers="conv*", batch=16).close()
    finally:
        torch.set_num_threads(before)
    same_rows(tmp_path / "1", tmp_path / "2")
