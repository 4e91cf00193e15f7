"""What the tests share: where the optional real data lie, and a small cache directory."""

from collections.abc import Iterator
from pathlib import Path

import jaxtyping
import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def cifar10_parquet() -> Path:
    """A directory with CIFAR-10 as Parquet; where there is none, the test says so and skips."""
    path = SHARED / "cifar10"
    if not path.is_dir():
        pytest.skip(f"no CIFAR-10 Parquet files at {path}")
    return path


@pytest.fixture(scope="session")
def imagenet_sample() -> Path:
    """A directory of class folders with photographs, where it exists."""
    path = SHARED / "imagenet-sample"
    if not path.is_dir():
        pytest.skip(f"no photographs at {path}")
    return path


@pytest.fixture(scope="session", autouse=True)
def methods_untested() -> Iterator[None]:
    """Let scans test no methods, which takes longer than the scans, unless a test asks for it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rot180.atlas.methods.LAYERS", 0)
        yield


@pytest.fixture
def methods_tested(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let scans test the methods, as they do by default."""
    monkeypatch.setattr("rot180.atlas.methods.LAYERS", 12)


_CHECKED: set[str] = set()


@pytest.fixture(autouse=True)
def types_checked_once(request: pytest.FixtureRequest) -> Iterator[None]:
    """Check types and shapes in the first case of each test: in all of them it takes a third more.

    What functions take and return has the same types and axes in every case.
    """
    name = request.node.nodeid.partition("[")[0]
    again = name in _CHECKED and "test_checked" not in name
    _CHECKED.add(name)
    if again:
        jaxtyping.config.update("jaxtyping_disable", True)
    yield
    if again:
        jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep the tests out of the user's cache directory (one for the whole run)."""
    path = tmp_path_factory.getbasetemp() / "rot180-cache"
    monkeypatch.setenv("ROT180_CACHE", str(path))
    return path
