"""Atlases to look into: a whole one, a part of one, and a copy to damage."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.atlas.scans import scanned


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scanned(tmp_path_factory.mktemp("atlas") / "a.atlas")


@pytest.fixture(scope="session")
def part(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scanned(tmp_path_factory.mktemp("part") / "a.atlas", shard=(2, 3))


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(whole, tmp_path / "copy.atlas"))


@pytest.fixture
def somebody() -> Iterator[Path]:
    """A directory, as somebody sees it who may not write everywhere."""
    if not hasattr(os, "seteuid"):
        pytest.skip("there are no such users here")
    root = Path(tempfile.mkdtemp())
    root.chmod(0o755)
    user = os.geteuid()
    try:
        yield root
    finally:
        os.seteuid(user)
        for one in root.rglob("*"):
            one.chmod(0o755)
        root.chmod(0o755)
        shutil.rmtree(root)
