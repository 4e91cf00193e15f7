"""A part of the hostile campaign (``make hostile`` runs all of it), and tests of its own tools."""

import os
import random
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hostile.clients import rude_clients
from tests.hostile.faults import failing_calls, failing_memory
from tests.hostile.jobs import JOBS
from tests.hostile.mutations import KINDS, damaged_files
from tests.hostile.power import Call, Disk, failing_power
from tests.hostile.runner import Runner
from tests.hostile.soak import digest, kind_of, soak
from tests.web.atlases import late_one

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    if sys.platform != "linux" or shutil.which(os.environ.get("CC", "cc")) is None:
        pytest.skip("there is no C compiler, or this is not Linux: no call can be made to fail")
    found = Runner(tmp_path_factory.mktemp("shim"))
    yield found
    found.close()


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files_are_read_or_refused_with_a_sentence(kind: str) -> None:
    tally = damaged_files(kind, 180, 40)
    assert tally.tried == 40
    assert tally.wrong == []


@pytest.mark.parametrize("job", JOBS)
@pytest.mark.parametrize("failing", [failing_calls, failing_memory, failing_power])
def test_what_fails_once_is_said_and_a_second_run_ends_the_same(
    runner: Runner, job: str, failing
) -> None:
    tally = failing(runner, job, random.Random(180), 12)
    assert tally.tried > 0
    assert tally.wrong == []


def test_rude_clients_get_answers(tmp_path: Path) -> None:
    tally = rude_clients(late_one(tmp_path), 180, 300)
    assert tally.tried == 300
    assert tally.wrong == []
    assert tally.notes["4xx"] > 100


def test_fifty_clients_get_what_one_gets_for_some_time(tmp_path: Path) -> None:
    tally = soak(late_one(tmp_path), 180, 4)
    assert tally.wrong == []
    assert tally.notes["right"] >= 50


def test_an_answer_with_other_bytes_or_another_status_is_not_right() -> None:
    wanted = digest((200, b"a page"))
    assert kind_of((200, b"a page"), wanted) == "right"
    assert kind_of((503, b"try again"), wanted) == "busy"
    for other in ((200, b"another page"), (404, b"a page"), (500, b"")):
        assert kind_of(other, wanted) not in ("right", "busy")


def test_what_was_not_synced_may_be_lost_when_the_power_fails(tmp_path: Path) -> None:
    """The disk that is made up forgets what it may forget, and keeps what it has to keep."""
    path = str(tmp_path / "x")

    def call(kind: str, data: bytes = b"", at: int = 0, second: str = "", name: str = path) -> Call:
        return Call(kind, name, second, at, data)

    seen = set()
    for seed in range(60):
        disk = Disk(tmp_path, {})
        disk.do(call("c"))
        disk.do(call("w", b"a" * 1024))
        disk.do(call("s"))
        disk.do(call("w", b"b" * 1024))
        (content,) = disk.after_power_failed(random.Random(seed)).values()
        seen.add(content)
    whole = {b"a" * 1024, b"b" * 1024}
    assert whole < seen <= whole | {b"a" * 512 + b"b" * 512, b"b" * 512 + b"a" * 512}

    other = str(tmp_path / "y")
    names = set()
    for seed in range(40):
        disk = Disk(tmp_path, {"y": b"old"})
        disk.do(call("c"))
        disk.do(call("w", b"new"))
        disk.do(call("s"))
        disk.do(call("r", second=other))
        found = disk.after_power_failed(random.Random(seed))
        names.add((*found,))
        assert found[other] == (b"old" if path in found else b"new")
        disk.do(call("s", name=str(tmp_path)))
        assert disk.after_power_failed(random.Random(seed)) == {other: b"new"}
    assert len(names) == 2
