"""``python -m tests.hostile``: the campaign, with a table of what was tried and what was found."""

import argparse
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.hostile.clients import an_atlas, rude_clients
from tests.hostile.faults import Tally, failing_calls, failing_memory
from tests.hostile.jobs import JOBS
from tests.hostile.mutations import KINDS, damaged_files
from tests.hostile.power import failing_power
from tests.hostile.runner import Runner
from tests.hostile.soak import soak

_ALL_CALLS = 10**6


def parts(scale: float, seed: int, place: Path) -> Iterator[tuple[str, Callable[[], Tally]]]:
    """Yield the parts of a campaign; at a scale of 1 they take some ten minutes on two cores."""

    def some(count: int) -> int:
        return max(1, round(count * scale))

    for kind in KINDS:
        yield f"damaged files: {kind}", lambda kind=kind: damaged_files(kind, seed, some(260))
    yield "rude clients", lambda: rude_clients(an_atlas(place), seed, some(2600))
    yield "fifty clients", lambda: soak(an_atlas(place), seed, 40 * scale)
    if shutil.which(os.environ.get("CC", "cc")) is None or sys.platform != "linux":
        print("There is no C compiler, or this is not Linux: no calls fail, and no power.")
        return
    runner = Runner(place)
    rng = random.Random(seed)
    for job in JOBS:
        yield (
            f"failing calls: {job}",
            lambda job=job: failing_calls(runner, job, rng, some(80)),
        )
        yield (
            f"failing memory: {job}",
            lambda job=job: failing_memory(runner, job, rng, some(40)),
        )
        yield f"failing power: {job}", lambda job=job: failing_power(runner, job, rng, some(80))
    runner.close()


def main() -> int:
    """Run the campaign; the exit status is 1 if anything was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.hostile", description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="how much of everything; 1")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="parts whose names hold this")
    asked = parser.parse_args()
    found = 0
    print(f"{'part':40} {'tried':>6} {'found':>6} {'s':>6}  what came of it")
    with tempfile.TemporaryDirectory(prefix="hostile-") as place:
        for name, run in parts(asked.scale, asked.seed, Path(place)):
            if asked.only not in name:
                continue
            began = time.perf_counter()
            tally = run()
            seconds = time.perf_counter() - began
            notes = "; ".join(f"{count} {words}" for words, count in sorted(tally.notes.items()))
            print(f"{name:40} {tally.tried:6} {len(tally.wrong):6} {seconds:6.0f}  {notes[:200]}")
            for line in tally.wrong:
                print(f"    {line}"[:600])
            sys.stdout.flush()
            found += len(tally.wrong)
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
