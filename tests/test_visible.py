"""Text from files does nothing to a terminal."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.table import Table

from rot180.cli import console
from rot180.datasets import BadImage
from rot180.errors import Rot180Error, Rot180Warning
from rot180.visible import visible
from tests.atlas.scans import change, scanned

HOSTILE = "\x1b]0;owned\x07\x1b[2J\x9b2J\u202egnp.exe\udcff"


@given(st.text(st.characters(categories=["Cc", "Cs", "Cf", "L", "Zs", "Zl", "Zp"])))
def test_what_is_visible_acts_on_nothing(text: str) -> None:
    shown = visible(text)
    shown.encode()
    assert not any(one in shown for one in "\x1b\x07\x08\r\x7f\x9b\x85\u202e\u2066\u2028")
    assert visible(shown) == shown


def test_plain_text_stays() -> None:
    text = "Ærøskøbing, 東京, \t[bold]x[/]\n👩‍👩‍👧 naïve"
    assert visible(text) == text


@pytest.mark.parametrize("as_table", [False, True])
def test_whatever_is_printed(as_table: bool, capsys: pytest.CaptureFixture[str]) -> None:
    if as_table:
        table = Table(title=HOSTILE, caption=HOSTILE)
        table.add_column(HOSTILE)
        table.add_row(HOSTILE)
        console.page().print(table)
    else:
        console.echo(HOSTILE)
    printed = capsys.readouterr().out
    assert "\\x1b" in printed
    assert not any(one in printed for one in "\x1b\x07\x9b\u202e")


@pytest.mark.slow
def test_the_names_in_an_atlas(tmp_path: Path) -> None:
    path = scanned(tmp_path / "a.atlas")
    change(path, ("UPDATE class SET name = ? || number", [HOSTILE[:-1]]))
    command = [sys.executable, "-m", "rot180", "features", str(path)]
    done = subprocess.run(command, capture_output=True, check=False, timeout=120)
    assert b"owned" in done.stdout, done.stderr
    assert b"\x1b" not in done.stdout + done.stderr
    assert b"\\x1b]0;owned" in done.stdout


@pytest.mark.parametrize("kind", [Rot180Error, BadImage, Rot180Warning])
def test_what_a_sentence_quotes_can_be_printed_and_sent(kind: type[Exception]) -> None:
    said = kind("There is no caf\udce9\x1b]0;owned\x07.")
    assert r"caf\xe9\x1b]0;owned\x07" in str(said)
    assert str(said).encode().decode() == str(said)
    assert str(Rot180Error(str(said))) == str(said)


def test_what_is_wrong_with_an_image_can_be_stored() -> None:
    error = BadImage("it names caf\udce9", "caf\udce9.png")
    assert (error.reason, error.description) == (r"it names caf\xe9", r"caf\xe9.png")
