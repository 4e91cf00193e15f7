"""Calls that fail once: the job ends with a sentence or goes on, and a second run ends the same."""

import errno
import os
import random
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.hostile.jobs import JOBS
from tests.hostile.runner import FINISHED, NO_MEMORY, RAISED, SAID, Runner

ERRORS = (errno.EIO, errno.ENOSPC)


@dataclass
class Tally:
    """What was tried, and what was found wrong.

    Attributes:
        tried: how many.
        wrong: a line for each that was not as it should be.
        notes: how often something else that is worth knowing happened.
    """

    tried: int = 0
    wrong: list[str] = field(default_factory=list)
    notes: dict[str, int] = field(default_factory=dict)

    def note(self, words: str) -> None:
        """Count something."""
        self.notes[words] = self.notes.get(words, 0) + 1


def reference(runner: Runner, job: str, **words: Any) -> tuple[Any, dict[str, Any]]:
    """Return what an undisturbed run gives, and what the runner said of it."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        JOBS[job].prepare(folder)
        told = runner.run(job, folder, **words)
        assert told["status"] == FINISHED, told
        return JOBS[job].result(folder), told


def failing_calls(runner: Runner, job: str, rng: random.Random, most: int) -> Tally:
    """Let calls on files fail, each in a run of its own: at most so many, drawn by chance."""
    wanted, told = reference(runner, job)
    places = range(1, told["calls"] + 1)
    tally = Tally()
    for place in sorted(rng.sample(places, min(most, len(places)))):
        error = rng.choice(ERRORS)
        what = f"{job}: call {place} of {told['calls']} fails with {os.strerror(error)}"
        _try(runner, job, wanted, tally, what, fail=place, error=error)
    return tally


def failing_memory(runner: Runner, job: str, rng: random.Random, most: int) -> Tally:
    """Let requests for memory fail, each in a run of its own: at most so many, drawn by chance."""
    wanted, told = reference(runner, job)
    places = range(1, told["blocks"] + 1)
    tally = Tally()
    for place in sorted(rng.sample(places, min(most, len(places)))):
        what = f"{job}: request {place} of {told['blocks']} for memory fails"
        _try(runner, job, wanted, tally, what, fail_block=place)
    return tally


def _try(runner: Runner, job: str, wanted: Any, tally: Tally, what: str, **words: Any) -> None:
    tally.tried += 1
    folder = Path(tempfile.mkdtemp(prefix="hostile-fault-"))
    try:
        JOBS[job].prepare(folder)
        told = runner.run(job, folder, **words)
        status, said = told["status"], told["said"]
        tally.note({FINISHED: "went on", SAID: "said so"}.get(status, "ended otherwise"))
        # Without memory a library may even end the process, as those written in Rust do.
        memory = "fail_block" in words and (status in (NO_MEMORY, RAISED) or status < 0)
        if status not in (FINISHED, SAID) and not memory:
            tally.wrong.append(f"{what}: status {status}: {said}")
        JOBS[job].check(folder)
        if status != FINISHED:
            again = runner.run(job, folder)
            if again["status"] != FINISHED:
                tally.wrong.append(f"{what} ({said}); then: {again['said']}")
                return
        if JOBS[job].result(folder) != wanted:
            tally.wrong.append(f"{what} ({said}): the result is another")
        left = sorted(one.name for one in folder.iterdir() if one.name.startswith("."))
        if left:
            tally.note(f"left behind: {', '.join(left)}")
    except Exception as error:
        tally.wrong.append(f"{what}: {type(error).__name__}: {error}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
