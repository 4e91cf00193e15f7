"""Work is done once, in turn, within bounds, and not for those who have left."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from rot180.web.failures import Busy
from rot180.web.work import Gone, Work


class Asker:
    """Stands for a request; it leaves when it is told to."""

    def __init__(self) -> None:
        self._left = asyncio.Event()

    def leave(self) -> None:
        self._left.set()

    async def receive(self) -> dict[str, Any]:
        await self._left.wait()
        return {"type": "http.disconnect"}


class Gate:
    """Something to make that waits until it may go on, and counts."""

    def __init__(self) -> None:
        self.open, self.begun, self.made = threading.Event(), threading.Event(), 0

    def __call__(self) -> int:
        self.begun.set()
        assert self.open.wait(10)
        self.made += 1
        return self.made


def in_a_loop_of_its_own(run: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run it in another thread: this one may hold the loop of a browser."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(lambda: asyncio.run(run())).result()


async def until(true: Any) -> None:
    for _ in range(1000):
        if true():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("It did not happen.")


def test_the_same_is_made_once_for_all_who_ask() -> None:
    async def run() -> None:
        work, gate = Work(2), Gate()
        asking = [asyncio.create_task(work.one(Asker(), "key", gate)) for _ in range(20)]
        await asyncio.sleep(0.02)
        gate.open.set()
        assert await asyncio.gather(*asking) == [1] * 20
        assert await work.one(Asker(), "key", gate) == 2  # it is no cache
        work.close()

    in_a_loop_of_its_own(run)


def test_what_nobody_waits_for_is_dropped() -> None:
    async def run() -> None:
        work, gate, made = Work(1), Gate(), []
        first = asyncio.create_task(work.one(Asker(), "first", gate))
        await until(gate.begun.is_set)
        leaving = [Asker() for _ in range(5)]
        asking = [
            asyncio.create_task(work.one(one, n, lambda n=n: made.append(n)))
            for n, one in enumerate(leaving)
        ]
        stays = asyncio.create_task(work.one(Asker(), 3, lambda: made.append("stays")))
        await asyncio.sleep(0.02)
        assert work.waiting == 5
        for one in leaving:
            one.leave()
        found = await asyncio.gather(*asking, return_exceptions=True)
        assert all(isinstance(one, Gone) for one in found)
        assert (work.dropped, work.waiting) == (4, 1)  # the fifth has another who waits
        gate.open.set()
        await first
        await stays
        assert made == [3]
        work.close()

    in_a_loop_of_its_own(run)


def test_no_more_wait_than_may() -> None:
    async def run() -> None:
        work, gate = Work(1, most=3), Gate()
        first = asyncio.create_task(work.one(Asker(), "first", gate))
        await until(gate.begun.is_set)
        asking = [asyncio.create_task(work.one(Asker(), n, lambda: None)) for n in range(3)]
        await asyncio.sleep(0.02)
        with pytest.raises(Busy, match="Try again"):
            await work.one(Asker(), "too many", lambda: None)
        again = asyncio.create_task(work.one(Asker(), 1, lambda: None))  # is waiting already
        gate.open.set()
        await asyncio.gather(first, again, *asking)
        assert await work.one(Asker(), "later", lambda: 5) == 5
        work.close()

    in_a_loop_of_its_own(run)


def test_what_is_urgent_goes_first_and_groups_together() -> None:
    async def run() -> None:
        work, gate, order = Work(1, together=3), Gate(), []

        def make(items: Sequence[int]) -> list[int]:
            order.append(list(items))
            return [item * item for item in items]

        first = asyncio.create_task(work.one(Asker(), "first", gate))
        await until(gate.begun.is_set)
        asking = [
            asyncio.create_task(work.several(Asker(), ("g", n), "group", n, make)) for n in range(5)
        ]
        other = asyncio.create_task(work.one(Asker(), "other", lambda: order.append("other")))
        await asyncio.sleep(0.02)
        urgent = asyncio.create_task(
            work.one(Asker(), "urgent", lambda: order.append("urgent"), urgent=True)
        )
        await asyncio.sleep(0.02)
        gate.open.set()
        assert await asyncio.gather(*asking) == [0, 1, 4, 9, 16]
        await asyncio.gather(first, other, urgent)
        assert order == ["urgent", [0, 1, 2], [3, 4], "other"]
        work.close()

    in_a_loop_of_its_own(run)


def test_an_error_reaches_all_who_ask_and_the_work_goes_on() -> None:
    async def run() -> None:
        work = Work(1)

        def fails() -> None:
            raise ValueError("no")

        asking = [work.one(Asker(), "bad", fails) for _ in range(3)]
        found = await asyncio.gather(*asking, return_exceptions=True)
        assert [str(one) for one in found] == ["no"] * 3
        assert await work.one(Asker(), "bad", lambda: "well") == "well"
        work.close()

    in_a_loop_of_its_own(run)


def test_one_who_leaves_does_not_stop_what_others_wait_for() -> None:
    async def run() -> None:
        work, gate, leaving = Work(1), Gate(), Asker()
        one = asyncio.create_task(work.one(leaving, "key", gate))
        two = asyncio.create_task(work.one(Asker(), "key", gate))
        await until(gate.begun.is_set)
        leaving.leave()
        with pytest.raises(Gone):
            await one
        gate.open.set()
        assert await two == 1
        work.close()

    in_a_loop_of_its_own(run)
