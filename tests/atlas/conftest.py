"""Atlases to look into: a whole one, a part of one, and a copy to damage."""

import shutil
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
