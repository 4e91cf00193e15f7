"""What the tests of pages share: the pages' own helpers can be imported."""

import sys
from collections.abc import Iterator

import pytest

from tests.docs.pages import DOCS


@pytest.fixture(autouse=True, scope="package")
def helpers() -> Iterator[None]:
    """Put the pages' helpers where their kernels have them."""
    sys.path.insert(0, str(DOCS / "_ext"))
    yield
    sys.path.remove(str(DOCS / "_ext"))
