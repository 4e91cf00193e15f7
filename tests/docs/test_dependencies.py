"""The files that name versions agree, and the audit says what it did not look at."""

import tomllib
from pathlib import Path

from tests.audit import verdict

ROOT = Path(__file__).resolve().parents[2]


def test_the_oldest_versions_are_the_lower_bounds() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = (ROOT / "constraints-oldest.txt").read_text().splitlines()
    bounds = {one.replace(">=", "==") for one in project["dependencies"]}
    assert {one for one in lines if not one.startswith("#")} == bounds


def test_an_audit_that_reached_nothing_does_not_look_like_a_clean_one() -> None:
    skipped = {"name": "a", "skip_reason": "not found"}
    clean = {"name": "b", "version": "1", "vulns": []}
    weak = {"name": "c", "version": "2", "vulns": [{"id": "PYSEC-1", "fix_versions": ["3"]}]}
    status, lines = verdict({"dependencies": [skipped]})
    assert (status, "nothing was checked" in lines[0]) == (0, True)
    status, lines = verdict({"dependencies": [skipped, clean]})
    assert (status, lines[-1]) == (0, "1 of 2 packages were checked.")
    assert "know them: a." in lines[0]
    status, lines = verdict({"dependencies": [clean, weak]})
    assert (status, lines[0]) == (1, "c 2: PYSEC-1, mended in 3")
