"""What the README shows is run."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

import rot180
from rot180.cli import app

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_python_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(blocks) == 4
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for code in blocks:
        exec(compile(code, "README.md", "exec"), names)
    assert names["network"].accuracy(names["images"], names["labels"]) > 0.8
    assert isinstance(names["p"], rot180.Projection)
    assert len(names["every"]) == 64
    assert names["atlas"].complete


@pytest.mark.slow
def test_every_command_and_option_of_the_readme_exists() -> None:
    blocks = re.findall(r"```sh\n(rot180.*?)```", README, re.DOTALL)
    assert len(blocks) == 2
    for line in "".join(blocks).splitlines():
        command, *words = line.split("#")[0].replace("[", "").replace("]", "").split()[1:]
        shown = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200"}).output
        for word in words:
            if word.startswith("--"):
                assert word.rstrip(",") in shown, f"{command} {word}"


@pytest.mark.parametrize("link", re.findall(r"\]\((?!http)([^)#]+)", README))
def test_files_that_the_readme_names_exist(link: str) -> None:
    assert (Path(__file__).parents[1] / link).is_file()
