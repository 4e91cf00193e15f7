"""What benchmarks share: the facts that times depend on, clocks, and the figures of a table.

It imports no PyTorch before that is asked for: ``step.py`` shows what its engines take of memory.
"""

import math
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np


def processors() -> int:
    """Return how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def machine(threads: int) -> str:
    """Return processors, threads and versions."""
    import torch

    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    return (
        f"{processors()} processors ({platform.machine()}), {threads} threads; "
        f"Python {platform.python_version()}, PyTorch {torch.__version__}, "
        f"NumPy {np.__version__} with {blas['name']} {blas['version']}"
    )


def timed(call: Callable[[], Any]) -> tuple[Any, float]:
    """Return what a call returns, and its seconds."""
    started = time.perf_counter()
    found = call()
    return found, time.perf_counter() - started


def several(call: Callable[[], Any], seconds: float = 0.5) -> list[float]:
    """Call untimed, as another left the caches; then for so long, but 3 to 200 times."""
    call()
    found: list[float] = []
    while len(found) < 3 or (sum(found) < seconds and len(found) < 200):
        found.append(timed(call)[1])
    return found


def apart(found: Any, wanted: Any) -> float:
    """Return the largest difference over the largest value."""
    largest, difference = (float(one.abs().max()) for one in (wanted, found - wanted))
    assert math.isfinite(difference), "The results hold values that are not finite."
    return difference / (largest or 1.0)


def figure(value: float | None) -> str:
    """Write three digits, without an exponent."""
    if value is None:
        return "-"
    return f"{value:.0f}" if abs(value) >= 99.95 else f"{value:#.3g}"


def spread(values: Sequence[float]) -> str:
    low, middle, high = (figure(f(values)) for f in (min, statistics.median, max))
    return f"{middle} ({low} to {high})"


def met(yes: bool) -> str:
    return "yes" if yes else "NO"
