"""Work on several batches at once, handed on in order.

On a processor, one batch in one thread on each core is faster than all cores on one batch, because
nobody waits for anybody after every step, and what else has to run (reading images, say) delays one
batch only. Small images are different: their steps are so short that a core would often be idle,
so their batches share all threads.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Barrier
from typing import TypeVar

import torch

_MOST = 4
"""Batches at once, at most: each takes the memory of a forward pass."""

Item = TypeVar("Item")
Made = TypeVar("Made")


def ordered_map(
    call: Callable[[Item], Made],
    items: Iterable[Item],
    device: torch.device,
    apart: bool = True,
) -> Generator[tuple[Item, Made], None, None]:
    """Call with each item, several at once on a processor, and give item and result in order.

    An exception of a call is raised in its place; what was begun after it is dropped.

    Args:
        call: what to do with an item; it is called in threads.
        items: they are taken in this thread, few ahead of what is handed on.
        device: where the work is; elsewhere than on a processor it is done one by one.
        apart: whether each call has threads of PyTorch to itself, or all share them.
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
            torch.get_num_threads()  # from now on this thread keeps its number
        begun.wait()

    waiting: deque[tuple[Item, Future[Made]]] = deque()
    with ThreadPoolExecutor(workers, "rot180-scan", begin) as pool:
        for _ in range(workers):
            pool.submit(int)  # starts a thread
        begun.wait()
        torch.set_num_threads(threads)  # of this thread and others to come
        try:
            for item in items:
                waiting.append((item, pool.submit(call, item)))
                if len(waiting) > workers:
                    first, made = waiting.popleft()
                    yield first, made.result()
            while waiting:
                first, made = waiting.popleft()
                yield first, made.result()
        finally:
            for _, made in waiting:
                made.cancel()
