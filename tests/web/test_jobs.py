"""Work is done once, in turn, within bounds, and not for those who have left."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from rot180.web.errors import Busy
from rot180.web.jobs import ClientDisconnected, JobQueue


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
        jobs, gate = JobQueue(2), Gate()
        asking = [asyncio.create_task(jobs.submit(Asker(), "key", gate)) for _ in range(20)]
        await asyncio.sleep(0.02)
        gate.open.set()
        assert await asyncio.gather(*asking) == [1] * 20
        assert await jobs.submit(Asker(), "key", gate) == 2  # it is no cache
        jobs.close()

    in_a_loop_of_its_own(run)


def test_what_nobody_waits_for_is_dropped() -> None:
    async def run() -> None:
        jobs, gate, made = JobQueue(1), Gate(), []
        first = asyncio.create_task(jobs.submit(Asker(), "first", gate))
        await until(gate.begun.is_set)
        leaving = [Asker() for _ in range(5)]
        asking = [
            asyncio.create_task(jobs.submit(one, n, lambda n=n: made.append(n)))
            for n, one in enumerate(leaving)
        ]
        stays = asyncio.create_task(jobs.submit(Asker(), 3, lambda: made.append("stays")))
        await asyncio.sleep(0.02)
        assert jobs.waiting == 5
        for one in leaving:
            one.leave()
        found = await asyncio.gather(*asking, return_exceptions=True)
        assert all(isinstance(one, ClientDisconnected) for one in found)
        assert (jobs.dropped, jobs.waiting) == (4, 1)  # the fifth has another who waits
        gate.open.set()
        await first
        await stays
        assert made == [3]
        jobs.close()

    in_a_loop_of_its_own(run)


def test_no_more_wait_than_may() -> None:
    async def run() -> None:
        jobs, gate = JobQueue(1, most=3), Gate()
        first = asyncio.create_task(jobs.submit(Asker(), "first", gate))
        await until(gate.begun.is_set)
        asking = [asyncio.create_task(jobs.submit(Asker(), n, lambda: None)) for n in range(3)]
        await asyncio.sleep(0.02)
        with pytest.raises(Busy, match="Try again"):
            await jobs.submit(Asker(), "too many", lambda: None)
        again = asyncio.create_task(jobs.submit(Asker(), 1, lambda: None))  # is waiting already
        gate.open.set()
        await asyncio.gather(first, again, *asking)
        assert await jobs.submit(Asker(), "later", lambda: 5) == 5
        jobs.close()

    in_a_loop_of_its_own(run)


def test_what_is_urgent_goes_first_and_groups_together() -> None:
    async def run() -> None:
        jobs, gate, order = JobQueue(1, together=3), Gate(), []

        def make(items: Sequence[int]) -> list[int]:
            order.append(list(items))
            return [item * item for item in items]

        first = asyncio.create_task(jobs.submit(Asker(), "first", gate))
        await until(gate.begun.is_set)
        asking = [
            asyncio.create_task(jobs.submit_grouped(Asker(), ("g", n), "group", n, make))
            for n in range(5)
        ]
        other = asyncio.create_task(jobs.submit(Asker(), "other", lambda: order.append("other")))
        await asyncio.sleep(0.02)
        urgent = asyncio.create_task(
            jobs.submit(Asker(), "urgent", lambda: order.append("urgent"), urgent=True)
        )
        await asyncio.sleep(0.02)
        gate.open.set()
        assert await asyncio.gather(*asking) == [0, 1, 4, 9, 16]
        await asyncio.gather(first, other, urgent)
        assert order == ["urgent", [0, 1, 2], [3, 4], "other"]
        jobs.close()

    in_a_loop_of_its_own(run)


def test_an_error_reaches_all_who_ask_and_the_work_goes_on() -> None:
    async def run() -> None:
        jobs = JobQueue(1)

        def fails() -> None:
            raise ValueError("no")

        asking = [jobs.submit(Asker(), "bad", fails) for _ in range(3)]
        found = await asyncio.gather(*asking, return_exceptions=True)
        assert [str(one) for one in found] == ["no"] * 3
        assert await jobs.submit(Asker(), "bad", lambda: "well") == "well"
        jobs.close()

    in_a_loop_of_its_own(run)


def test_one_who_leaves_does_not_stop_what_others_wait_for() -> None:
    async def run() -> None:
        jobs, gate, leaving = JobQueue(1), Gate(), Asker()
        one = asyncio.create_task(jobs.submit(leaving, "key", gate))
        two = asyncio.create_task(jobs.submit(Asker(), "key", gate))
        await until(gate.begun.is_set)
        leaving.leave()
        with pytest.raises(ClientDisconnected):
            await one
        gate.open.set()
        assert await two == 1
        jobs.close()

    in_a_loop_of_its_own(run)
