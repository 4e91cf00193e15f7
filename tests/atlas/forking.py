"""A process that has loaded everything, and forks one for each scan that a test wants to kill.

It is run as a program: ``python -m tests.atlas.forking``. On its standard input come lines of JSON,
on its standard output it answers each with one: ``{"scan": path, ...}`` with the number of the
process that scans, ``{"wait": number}`` with its exit status, once it has ended. What a process has
to say (the sentence of its error) it writes to the path with ``.said`` added.
"""

import json
import os
import resource
import sqlite3
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

import rot180
from rot180.atlas import scan as scan_module
from rot180.atlas import writer
from rot180.cli import app
from rot180.errors import Rot180Error
from tests.atlas.scans import Odd, normalisation, small_data, small_network

IMAGES, BATCH = 320, 8
FINISHED, SAID, INTERRUPTED = 0, 3, 4


def arguments(seconds: float) -> dict[str, Any]:
    """The arguments of the scan; all that it does not depend on is the time that an image takes."""
    return {
        "model": small_network(),
        "data": Odd(small_data(IMAGES), seconds),
        "batch": BATCH,
        "examples": 9,
        "sample": 60,
        "checkpoint_seconds": 0,
        "methods": False,
        **normalisation(),
    }


def prepare(order: dict[str, Any]) -> None:
    """Change what the order says should be otherwise in this process."""
    scan_module._SHARE = order.get("share", 0)
    writer._PICTURES = 16
    if "file_size" in order:
        limit = order["file_size"]
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    if "pages" in order:
        connect = sqlite3.connect

        def small(*given: Any, **named: Any) -> sqlite3.Connection:
            connection = connect(*given, **named)
            connection.execute(f"PRAGMA max_page_count = {order['pages']}")
            return connection

        sqlite3.connect = small  # type: ignore[assignment]
    if "dies_after" in order:
        connect = sqlite3.connect

        def deadly(*given: Any, **named: Any) -> sqlite3.Connection:
            connection = connect(*given, **named)
            if not named.get("uri"):  # a writer's; a cache of few pages makes it write early
                connection.execute("PRAGMA cache_size = 40")
                connection.set_progress_handler(tick, 50)
            return connection

        left = [order["dies_after"]]

        def tick() -> int:
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), 9)
            return 0

        sqlite3.connect = deadly  # type: ignore[assignment]


def run(order: dict[str, Any]) -> int:
    """Do what was ordered, and return the exit status."""
    path = Path(order.get("scan", order.get("said", "")))
    said = path.with_name(path.name + ".said")
    said.unlink(missing_ok=True)
    if "cli" in order:
        with said.open("w") as out:
            os.dup2(out.fileno(), 1)
            os.dup2(out.fileno(), 2)
            try:
                return int(app(order["cli"], standalone_mode=False) or 0)
            except BaseException as error:
                return int(getattr(error, "exit_code", 99))
    prepare(order)
    try:
        rot180.scan(path=path, **arguments(order.get("seconds", 0.0))).close()
    except Rot180Error as error:
        said.write_text(str(error))
        return SAID
    except KeyboardInterrupt:
        return INTERRUPTED
    except BaseException as error:
        said.write_text(repr(error))
        return 99
    return FINISHED


def main() -> None:
    torch.set_num_threads(1)  # no pool of threads that a fork would not have
    with tempfile.TemporaryDirectory() as directory:
        rot180.scan(path=Path(directory) / "warm", **arguments(0.0)).close()
    answer({"ready": True})
    for line in sys.stdin:
        order = json.loads(line)
        if "wait" in order:
            _, status = os.waitpid(order["wait"], 0)
            answer({"status": os.waitstatus_to_exitcode(status)})
            continue
        child = os.fork()
        if not child:
            status = 98
            try:
                status = run(order)
            finally:
                os._exit(status)
        answer({"process": child})


def answer(words: dict[str, Any]) -> None:
    print(json.dumps(words), flush=True)


if __name__ == "__main__":
    main()
    os._exit(0)  # what libraries do at their end takes long
