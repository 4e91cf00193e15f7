"""Run several batches at once, and yield the results in order.

On a CPU, one batch per core is faster than all cores on one batch: the cores need not wait for each
other after every step, and other work, such as reading images, delays a single batch only. Batches
of small images share all threads instead: their steps are so short that a core would often be idle.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Barrier
from typing import TypeVar

import torch

_MOST = 4
"""Maximal number of batches at once: each takes the memory of a forward pass."""

Item = TypeVar("Item")
Result = TypeVar("Result")


def ordered_map(
    call: Callable[[Item], Result],
    items: Iterable[Item],
    device: torch.device,
    apart: bool = True,
) -> Generator[tuple[Item, Result], None, None]:
    """Call a function with each item, several at once on a CPU; yield (item, result) in order.

    An exception is raised when its item's turn comes; the results of later calls are discarded.

    Args:
        call: function of one item; it is called in other threads.
        items: the items; they are drawn in this thread, few ahead of the results.
        device: device that the calls use; calls run one at a time unless it is a CPU.
        apart: whether each call has its own share of PyTorch's threads, or all share them.
    """
    threads = torch.get_num_threads()
    workers = min(threads, _MOST) if device.type == "cpu" else 1
    if workers == 1:
        for item in items:
            yield item, call(item)
        return
    begun = Barrier(workers + 1)

    def begin() -> None:
        if apart:
            torch.set_num_threads(max(1, threads // workers))
            torch.get_num_threads()  # fixes the number for this thread
        begun.wait()

    pending: deque[tuple[Item, Future[Result]]] = deque()
    with ThreadPoolExecutor(workers, "rot180-scan", begin) as pool:
        for _ in range(workers):
            pool.submit(int)  # starts a thread
        begun.wait()
        torch.set_num_threads(threads)  # for this thread and later ones
        try:
            for item in items:
                pending.append((item, pool.submit(call, item)))
                if len(pending) > workers:
                    first, made = pending.popleft()
                    yield first, made.result()
            while pending:
                first, made = pending.popleft()
                yield first, made.result()
        finally:
            for _, made in pending:
                made.cancel()
