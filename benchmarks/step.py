"""One training step of the two-layer network: rot180's equations, PyTorch, and other NumPy code.

A step is forward, backward and update (gradient descent, rate 0.01, momentum 0.9, softmax
cross-entropy) on 128 images of 32x32x3 in float32. Before anything is timed, the engines have to
agree, on the same weights and images, about the gradients (in float64) and about the losses after
three steps. Then they take turns: in each round every engine takes one step that is not timed and
some that are, and its time is divided by that of PyTorch channels-last in the same round. Each
engine finds the images in the memory layout that it prefers.

Memory is the largest resident set of a process that imports and runs only this engine.

NumpyDL, which is optional, takes 8 images at most, and one step of them takes it some 20 seconds:
it takes one step, in the process that shows its memory, and its time is scaled to 128 images.
See ``engines/numpydl.py`` for what it computes differently. To install it:

    pip install --no-build-isolation npdl

The benchmark itself (Linux and macOS):

    python benchmarks/step.py [--rounds 10] [--steps 5] [--threads 2] [--no-npdl]
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from importlib import import_module
from importlib.util import find_spec

import engines
import numpy as np
from measuring import machine, processors

BATCH = 128
REFERENCE = "channels-last"
ROWS: dict[str, tuple[str, str, dict]] = {
    "equations": ("rot180 equations", "equations", {}),
    "channels-last": ("PyTorch eager, channels-last", "pytorch", {"channels_last": True}),
    "contiguous": ("PyTorch eager, contiguous", "pytorch", {"channels_last": False}),
    "textbook": ("textbook im2col, NumPy's threads", "textbook", {}),
    "textbook-1": ("textbook im2col, one thread", "textbook", {"threads": 1}),
    "npdl": ("NumpyDL", "numpydl", {}),
}
NAMES = [name for name in ROWS if name != "npdl"]


def loaded(name: str) -> Callable[[engines.Task], engines.Engine]:
    """Import what an engine needs; return what makes one."""
    _, module, options = ROWS[name]
    return partial(import_module(f"engines.{module}").Engine, **options)


def step(engine: engines.Engine) -> float:
    """Take one step; return the loss before it."""
    loss = engine.forward_backward()
    engine.update()
    return loss


# In a process of its own: memory.


def largest() -> float:
    """Return the largest resident set of this process so far, in MB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def alone(name: str, threads: int) -> dict[str, float]:
    """Run one engine; return MB after its imports and at most, and seconds of the last step."""
    images, steps = BATCH, 3
    make = loaded(name)
    if name == "npdl":
        images, steps = import_module("engines.numpydl").MOST_IMAGES, 1
    imports = largest()
    engine = make(engines.task(images, threads))
    for _ in range(steps):
        started = time.perf_counter()
        step(engine)
        seconds = time.perf_counter() - started
    return {"imports": imports, "peak": largest(), "seconds": seconds, "images": images}


def in_a_process(name: str, threads: int) -> dict[str, float]:
    """Return what :func:`alone` says in a fresh process."""
    command = [sys.executable, __file__, "--memory", "--only", name, "--threads", str(threads)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


# In turn: agreement and time.


def gradients_apart(threads: int) -> float:
    """Return the largest difference of any gradient over that gradient's largest entry.

    In float64: in float32 the order of a sum decides here and there which of two nearly equal
    values is the maximum of a window, and that alone makes a difference of about a thousandth.
    """
    task = engines.task(BATCH, threads, np.float64)
    first = loaded(REFERENCE)(task)
    first.forward_backward()
    apart = 0.0
    for name in NAMES:
        engine = loaded(name)(task)
        engine.forward_backward()
        found = engine.gradients()
        for key, wanted in first.gradients().items():
            difference = float(np.abs(found[key] - wanted).max() / np.abs(wanted).max())
            assert difference < 1e-10, f"{name}: the gradient of {key} is off by {difference:.1e}."
            apart = max(apart, difference)
    return apart


def losses_apart(all_: dict[str, engines.Engine]) -> float:
    """Take three steps and go forward once more; return the largest relative difference."""
    losses = {name: np.array([step(engine) for _ in range(4)]) for name, engine in all_.items()}
    apart = 0.0
    for name, own in losses.items():
        difference = float(np.abs(own / losses[REFERENCE] - 1).max())
        assert difference < 1e-4, f"{name}: losses {own}, not {losses[REFERENCE]}."
        apart = max(apart, difference)
    return apart


def turns(all_: dict[str, engines.Engine], rounds: int, steps: int) -> dict[str, list[float]]:
    """Return the seconds a step takes on average, of each engine in each round."""
    seconds: dict[str, list[float]] = {name: [] for name in all_}
    for number in range(rounds):
        for name in list(all_)[:: -1 if number % 2 else 1]:
            step(all_[name])  # finds the caches and threads as another engine left them
            started = time.perf_counter()
            for _ in range(steps):
                step(all_[name])
            seconds[name].append((time.perf_counter() - started) / steps)
    return seconds


# The table.


def row(label: str, seconds: list[float], ratios: list[float], memory: dict[str, float]) -> str:
    """Return a line of the table."""
    low, middle, high = (1e3 * f(seconds) for f in (min, statistics.median, max))
    ms = f"{low:.0f} / {middle:.0f} / {high:.0f}" if len(seconds) > 1 else f"{middle:.0f}"
    ratio = f"{statistics.median(ratios):.2f}"
    if len(ratios) > 1:
        ratio += f" ({min(ratios):.2f} to {max(ratios):.2f})"
    peak, imports = memory["peak"], memory["imports"]
    return (
        f"{label:<33}{ms:>20}{middle / BATCH:>10.2f}{ratio:>23}"
        f"{peak:>6.0f}{imports:>6.0f}{peak - imports:>6.0f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--steps", type=int, default=5, help="of each engine in a round")
    parser.add_argument("--threads", type=int, default=processors())
    parser.add_argument("--no-npdl", action="store_true", help="leave NumpyDL out")
    parser.add_argument("--only", choices=ROWS, help=argparse.SUPPRESS)
    parser.add_argument("--memory", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.memory:
        print(json.dumps(alone(asked.only, asked.threads)))
        return

    # Memory first: on Linux a new process inherits the largest resident set of the one that starts
    # it, so this one must not have grown yet.
    optional = ["npdl"] if find_spec("npdl") and not asked.no_npdl else []
    memory = {name: in_a_process(name, asked.threads) for name in [*NAMES, *optional]}

    task = engines.task(BATCH, asked.threads)
    all_ = {name: loaded(name)(task) for name in NAMES}
    print(f"One step on {BATCH} images of 32x32x3, float32. {machine(asked.threads)}.")
    print(
        f"Largest relative difference to {ROWS[REFERENCE][0]}: gradients in float64 "
        f"{gradients_apart(asked.threads):.0e}, losses after three steps {losses_apart(all_):.0e}."
    )
    seconds = turns(all_, asked.rounds, asked.steps)

    print(
        f"\n{'':<33}{'ms a step:':>20}{'ms an':>10}{'over channels-last:':>23}{'memory, MB:':>18}"
    )
    print(
        f"{'':<33}{'least/median/most':>20}{'image':>10}{'median (least to most)':>23}"
        f"{'peak':>6}{'imp.':>6}{'rest':>6}"
    )
    for name in NAMES:
        ratios = [a / b for a, b in zip(seconds[name], seconds[REFERENCE], strict=True)]
        print(row(ROWS[name][0], seconds[name], ratios, memory[name]))
    if "npdl" in memory:
        found = memory["npdl"]
        scaled = found["seconds"] * BATCH / found["images"]
        ratio = scaled / statistics.median(seconds[REFERENCE])
        label = f"NumpyDL, {found['images']} images, x {BATCH // found['images']}"
        print(row(label, [scaled], [ratio], found))
    elif not asked.no_npdl:
        print(f"{'NumpyDL':<33}not installed: pip install --no-build-isolation npdl")
    print(
        f"\n{asked.rounds} rounds of {asked.steps} steps. imp.: resident after the imports; "
        "rest: what the steps added to it."
    )
    if "npdl" in memory:
        print(
            f"NumpyDL: one step on {found['images']} images took {found['seconds']:.1f} s; time is "
            f"scaled to {BATCH} images, memory is that of {found['images']}."
        )


if __name__ == "__main__":
    main()
