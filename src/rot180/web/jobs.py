"""A bounded queue of slow jobs; equal jobs run once, and jobs that nobody waits for are dropped."""

import asyncio
import heapq
from collections.abc import Callable, Coroutine, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import Any, TypeVar

from starlette.requests import Request

from rot180.web.errors import Busy

Item = TypeVar("Item")
Made = TypeVar("Made")


class ClientDisconnected(Exception):
    """The client has disconnected, so nobody needs a response."""


@dataclass(order=True)
class _Job:
    """A queued job. Urgent jobs come first; others are served in order."""

    place: tuple[bool, int]
    key: Hashable = field(compare=False)
    group: Hashable = field(compare=False)
    item: Any = field(compare=False)
    make: Callable[[Sequence[Any]], Sequence[Any]] = field(compare=False)
    made: "asyncio.Future[Any]" = field(compare=False)
    waiters: int = field(default=0, compare=False)
    begun: bool = field(default=False, compare=False)


class JobQueue:
    """A queue of jobs for a few threads. It belongs to one event loop.

    Args:
        threads: how many jobs run at once.
        most: how many jobs may wait; more are refused.
        together: how many jobs of one group run in one call.
    """

    def __init__(self, threads: int, most: int = 400, together: int = 16) -> None:
        self._threads, self._most, self._together = threads, most, together
        self._pool = ThreadPoolExecutor(threads, "rot180-web")
        self._jobs: dict[Hashable, _Job] = {}
        self._queue: list[_Job] = []
        self._running = 0
        self._number = count()
        self._tasks: set[asyncio.Task[None]] = set()
        self.dropped = 0

    def close(self) -> None:
        """Start no more jobs."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    @property
    def waiting(self) -> int:
        """Number of jobs that have not started."""
        return sum(not job.begun for job in self._jobs.values())

    async def submit(
        self, request: Request, key: Hashable, make: Callable[[], Made], urgent: bool = False
    ) -> Made:
        """Queue a job for a request, and wait for its result.

        Args:
            request: the request; the job is dropped if its client, and all others, disconnect.
            key: identity of the result: jobs with the same key are one job.
            make: computes the result, in a thread.
            urgent: whether it runs before jobs that are not.

        Raises:
            Busy: too many jobs wait.
            ClientDisconnected: the client has disconnected.
        """
        return await self.submit_grouped(request, key, None, None, lambda _: [make()], urgent)

    async def submit_grouped(
        self,
        request: Request,
        key: Hashable,
        group: Hashable,
        item: Item,
        make: Callable[[Sequence[Item]], Sequence[Made]],
        urgent: bool = False,
    ) -> Made:
        """Queue a job that runs together with other jobs of its group, and wait for its result.

        ``make`` is called with the items of all jobs of the group that are waiting when the first
        of them runs, and returns a result for each.
        """
        job = self._jobs.get(key)
        if job is None:
            if self.waiting >= self._most:
                raise Busy("The server is busy. Try again in a moment.")
            made: asyncio.Future[Made] = asyncio.get_running_loop().create_future()
            place = (not urgent, next(self._number))
            job = self._jobs[key] = _Job(place, key, group, item, make, made)
            heapq.heappush(self._queue, job)
        job.waiters += 1
        self._go_on()
        try:
            return await until_disconnected(request, _result(job.made))
        finally:
            job.waiters -= 1
            if not job.waiters and not job.begun and self._jobs.pop(key, None) is not None:
                self.dropped += 1

    def _go_on(self) -> None:
        while self._running < self._threads and self._queue:
            job = heapq.heappop(self._queue)
            if job.begun or self._jobs.get(job.key) is not job:
                continue  # it ran with its group, or was dropped
            group = [job]
            if job.group is not None:
                alike = (one for one in self._queue if one.group == job.group and self._wanted(one))
                group += sorted(alike)[: self._together - 1]
            for one in group:
                one.begun = True
            self._running += 1
            task = asyncio.get_running_loop().create_task(self._done(group))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _wanted(self, job: _Job) -> bool:
        return not job.begun and self._jobs.get(job.key) is job

    async def _done(self, jobs: Sequence[_Job]) -> None:
        loop = asyncio.get_running_loop()
        try:
            call = partial(jobs[0].make, [one.item for one in jobs])
            found = await loop.run_in_executor(self._pool, call)
        except BaseException as error:
            for one in jobs:
                if not one.made.done():
                    one.made.set_exception(error)
                    one.made.exception()  # its clients may have disconnected
        else:
            for one, made in zip(jobs, found, strict=True):
                if not one.made.done():
                    one.made.set_result(made)
        finally:
            for one in jobs:
                self._jobs.pop(one.key, None)
            self._running -= 1
            self._go_on()


async def _result(made: "asyncio.Future[Made]") -> Made:
    """Wait for a result without cancelling it for others who wait."""
    return await asyncio.shield(made)


async def until_disconnected(request: Request, answer: Coroutine[Any, Any, Made]) -> Made:
    """Wait for a result until the client disconnects.

    Raises:
        ClientDisconnected: the client has disconnected.
    """
    making = asyncio.ensure_future(answer)
    leaving = asyncio.ensure_future(_left(request))
    try:
        await asyncio.wait({making, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if making.done():
            return making.result()
        raise ClientDisconnected
    finally:
        for one in (making, leaving):
            one.cancel()


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
