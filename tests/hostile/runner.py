"""Runs jobs in processes in which calls fail; it is run as a program, under the shim.

``python -m tests.hostile.runner`` loads everything once and forks a process for each line of JSON
on its standard input; it answers with a line for each.
"""

import ctypes
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

SHIM = Path(__file__).with_name("shim.c")
FINISHED, SAID, RAISED, NO_MEMORY = 0, 3, 4, 5
SECONDS = 60


class Runner:
    """The other side: starts the program, and orders jobs from it.

    Args:
        place: a folder for the compiled shim.
    """

    def __init__(self, place: Path) -> None:
        shim = place / "shim.so"
        compiler = os.environ.get("CC", "cc")
        subprocess.run(
            [compiler, "-shared", "-fPIC", "-O2", "-o", str(shim), str(SHIM), "-ldl"], check=True
        )
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.hostile.runner"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).resolve().parents[2],
            stderr=subprocess.DEVNULL,  # libraries without memory have much to say
            env={**os.environ, "LD_PRELOAD": str(shim), "OMP_NUM_THREADS": "1"},
        )
        self._answer()

    def run(self, job: str, folder: Path, **words: Any) -> dict[str, Any]:
        """Run a job in a folder.

        Args:
            job: its name among ``JOBS``.
            folder: it works in.
            words: ``fail`` (the number of the call that fails), ``error`` (its number),
                ``fail_block`` (the number of the request for memory that fails), ``log`` (a path
                to which everything that is written is recorded).

        Returns:
            "status", "calls" and "blocks" (how many there were), "said" (the sentence).
        """
        assert self._process.stdin is not None
        order = {"job": job, "folder": str(folder), **words}
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the process that runs jobs has ended"
        return dict(json.loads(line))

    def close(self) -> None:
        """End the program."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(20)


def _child(order: dict[str, Any], answers: int) -> None:
    """Run a job in a process of its own, and write down what came of it."""
    from rot180.errors import Rot180Error
    from tests.hostile.jobs import JOBS, small

    small()
    shim = ctypes.CDLL(None)
    shim.watched_calls.restype = shim.watched_blocks.restype = ctypes.c_long
    log = -1
    if "log" in order:
        log = os.open(order["log"], os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
    signal.alarm(SECONDS)
    said, status = "", FINISHED
    folder = Path(order["folder"])
    fail, block = order.get("fail", 0), order.get("fail_block", 0)
    shim.watch(str(folder).encode(), ctypes.c_long(fail), order.get("error", 5),
               ctypes.c_long(block), log)  # fmt: skip
    try:
        JOBS[order["job"]].run(folder)
    except Rot180Error as error:
        said, status = str(error), SAID
    except MemoryError as error:
        said, status = repr(error), NO_MEMORY
    except BaseException as error:
        said, status = f"{type(error).__name__}: {error}", RAISED
    calls, blocks = shim.watched_calls(), shim.watched_blocks()
    shim.watch(b"", ctypes.c_long(0), 0, ctypes.c_long(0), -1)
    found = {"status": status, "said": said, "calls": calls, "blocks": blocks}
    os.write(answers, json.dumps(found).encode())


def main() -> None:
    """Answer orders until there are no more."""
    import torch

    from tests.hostile.jobs import JOBS, small

    torch.set_num_threads(1)  # no pool of threads that a fork would not have
    small()
    for job in JOBS.values():
        with tempfile.TemporaryDirectory() as folder:
            job.prepare(Path(folder))
            job.run(Path(folder))
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        answers, told = os.pipe()
        child = os.fork()
        if not child:
            os.close(answers)
            try:
                _child(order, told)
            finally:
                os._exit(0)
        os.close(told)
        with os.fdopen(answers, "rb") as stream:
            answer = stream.read()
        _, status = os.waitpid(child, 0)
        ended = os.waitstatus_to_exitcode(status)
        found = json.loads(answer) if answer else {"status": ended or 99, "said": "", "calls": 0}
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
    os._exit(0)  # what libraries do at their end takes long
