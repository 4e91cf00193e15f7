"""Files that say what classes are called, beside a data set or named by a person."""

import json
import os
import warnings
from pathlib import Path

import pytest

from rot180.datasets import decode_all, open_dataset
from rot180.datasets.base import image_name
from rot180.datasets.class_names import LARGEST_FILE, read_class_file
from rot180.errors import Rot180Error, Rot180Warning
from rot180.figures.context import first_of_class
from tests.datasets.dataset_files import put, put_images

FOLDERS = ("n01440764", "n01484850", "n02012849")
PICTURES = [f"{one}/a.png" for one in FOLDERS]


def as_file(directory: Path, content: str | bytes, name: str = "classes.txt") -> Path:
    return put(directory / name, content if isinstance(content, bytes) else content.encode())


TABLE = "0\tn01440764\ttench\n1\tn01484850\tshark\n2\tn02012849\tcrane\n"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("classes.txt", TABLE),
        ("classes.txt", "\ufeff" + TABLE.replace("\n", "\r\n")),
        ("classes.txt", "n01440764\ttench\nn01484850\tshark\nn02012849\tcrane\n"),
        ("classes.txt", "n01440764 tench\nn01484850  shark\n\nn02012849 crane"),
        ("classes.txt", "tench\nshark\ncrane\n"),
        ("classes.txt", "2\tcrane\n0\ttench\n1\tshark\n"),
        ("classes.json", '["tench", "shark", "crane"]'),
        (
            "classes.json",
            '{"n01440764": "tench", "n01484850": "shark", "n02012849": "crane"}',
        ),
        ("classes.json", '{"2": "crane", "1": "shark", "0": "tench"}'),
        (
            "classes.json",
            '{"0": ["n01440764", "tench"], "1": ["n01484850", "shark"],'
            ' "2": ["n02012849", "crane"]}',
        ),
    ],
)
def test_each_form_of_a_file_names_the_folders_and_the_outputs(
    tmp_path: Path, name: str, content: str
) -> None:
    put_images(tmp_path / "set", PICTURES)
    path = as_file(tmp_path / "set", content, name)
    dataset = open_dataset(str(tmp_path / "set"), "all")
    assert dataset.classes == ("tench", "shark", "crane")
    assert getattr(dataset, "folders", ()) == FOLDERS
    assert read_class_file(path).outputs == ("tench", "shark", "crane")


def test_names_do_not_change_what_the_data_are(tmp_path: Path) -> None:
    put_images(tmp_path / "set", PICTURES)
    before = open_dataset(str(tmp_path / "set"), "all").fingerprint
    as_file(tmp_path / "set", TABLE)
    assert open_dataset(str(tmp_path / "set"), "all").fingerprint == before


def test_a_table_of_more_classes_names_those_that_are_there(tmp_path: Path) -> None:
    put_images(tmp_path / "set", [*PICTURES[1:], "n99999999/a.png"])
    as_file(tmp_path / "set", TABLE)
    assert open_dataset(str(tmp_path / "set"), "all").classes == ("shark", "crane", "n99999999")


def test_folders_of_one_name_are_told_apart(tmp_path: Path) -> None:
    put_images(tmp_path / "set", PICTURES)
    as_file(tmp_path / "set", TABLE.replace("shark", "crane"))
    named = open_dataset(str(tmp_path / "set"), "all").classes
    assert named == ("tench", "crane (n01484850)", "crane (n02012849)")


def test_a_list_of_the_folders_in_any_order_changes_nothing(tmp_path: Path) -> None:
    put_images(tmp_path / "set", ["cat/a.png", "dog/b.png"])
    as_file(tmp_path / "set", "dog\ncat\nhorse\n")
    assert open_dataset(str(tmp_path / "set"), "all").classes == ("cat", "dog")


def test_a_file_that_is_named_is_taken_and_a_split_has_that_of_its_data_set(tmp_path: Path) -> None:
    put_images(
        tmp_path / "set", [f"{split}/{one}" for split in ("train", "val") for one in PICTURES]
    )
    as_file(tmp_path / "set", TABLE)
    other = as_file(tmp_path, TABLE.replace("tench", "Tinca tinca"), "mine.tsv")
    for where in (tmp_path / "set", tmp_path / "set" / "val"):
        assert open_dataset(str(where), "all").classes[0] == "tench"
        assert open_dataset(str(where), "all", other).classes[0] == "Tinca tinca"


WRONG = [
    (b"\xff\xfe\x00", "it is no text in UTF-8"),
    (b"", "There is no class in"),
    ("a\tb\nc\n", "its class 2 has 1 columns"),
    ("a\tb\tc\td\n", "its class 1 has 4 columns"),
    ("0\tx\ty\nzero\tz\ty\n", "but it has 'zero'"),
    ("0\tx\ta\n0\ty\tb\n", "names two classes by the index 0"),
    ("x\ta\nx\tb\n", "names two classes by the identifier 'x'"),
    ("a" * 501, "has a name of 501 characters"),
    ("one\ntwo\n", "names 2 classes, and none of the 3 class folders"),
    ("x\tone\ny\ttwo\nz\tthree\n", "names 3 classes, and none of the 3 class folders"),
]
WRONG_JSON = [
    ("{", "is no JSON"),
    ("[" * 10_000, "is no JSON"),
    ("7", "holds 7: classes are"),
    ("[1, 2, 3]", "calls a class 1"),
    ('["a", "", "b"]', "calls a class ''"),
    ('{"x": {"y": "z"}}', "calls a class {'y': 'z'}"),
    ('{"x": "a", "x": "b"}', "is no JSON"),
    ('{"0": ["k", "a"], "1": "b"}', "some classes have an identifier and others have none"),
    ("[" + "1" * 5000 + "]", "is no JSON"),
]


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        *(("classes.txt", *one) for one in WRONG),
        *(("classes.json", *one) for one in WRONG_JSON),
    ],
)
def test_a_wrong_file_is_a_sentence_where_it_is_named_and_a_remark_where_it_is_found(
    tmp_path: Path, name: str, content: str | bytes, sentence: str
) -> None:
    put_images(tmp_path / "set", PICTURES)
    path = as_file(tmp_path / "set", content, name)
    with pytest.raises(Rot180Error) as caught:
        open_dataset(str(tmp_path / "set"), "all", path)
    assert sentence in str(caught.value)
    assert str(caught.value).endswith(".")
    with pytest.warns(Rot180Warning, match="keep the names of their folders"):
        found = open_dataset(str(tmp_path / "set"), "all")
    assert found.classes == FOLDERS


def test_outputs_have_all_their_numbers(tmp_path: Path) -> None:
    path = as_file(tmp_path, "0\ta\n2\tb\n")
    with pytest.raises(Rot180Error, match="2 outputs, and none of them is 1: number them from 0"):
        _ = read_class_file(path).outputs


def test_a_file_without_end_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "classes.txt").open("wb") as file:
        file.truncate(LARGEST_FILE + 1)
    with pytest.raises(Rot180Error, match="larger than 16 MB"):
        read_class_file(tmp_path / "classes.txt")
    with pytest.raises(Rot180Error, match="it is not a regular file"):
        read_class_file("/dev/zero")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(Rot180Error, match="it is not a regular file"):
        read_class_file(tmp_path / "pipe")


def test_what_acts_on_a_terminal_is_shown(tmp_path: Path) -> None:
    path = as_file(tmp_path, json.dumps(["a\x1b]0;b\x07", "c\nd\te", "\ud800"]), "classes.json")
    assert read_class_file(path).outputs == ("a\\x1b]0;b\\x07", "c d e", "\\ud800")


@pytest.mark.parametrize("spec", ["photos", "torchvision:CIFAR10"])
def test_only_class_folders_have_files_of_classes(tmp_path: Path, spec: str) -> None:
    path = as_file(tmp_path, TABLE)
    with pytest.raises(Rot180Error, match="is no directory of them: leave it out"):
        open_dataset(spec, "all", path)
    put_images(tmp_path / "plain", ["a.png"])
    with pytest.raises(Rot180Error, match="lie in no class folders"):
        open_dataset(str(tmp_path / "plain"), "all", path)


def test_images_have_names_within_their_data_set(tmp_path: Path) -> None:
    put_images(tmp_path / "set", PICTURES)
    as_file(tmp_path / "set", TABLE)
    dataset = open_dataset(str(tmp_path / "set"), "all")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        array = decode_all(dataset, (8, 8), 3)
    for one in (dataset, array):
        assert [image_name(one, n) for n in range(3)] == PICTURES
        assert str(tmp_path) in one.describe(0)
    assert first_of_class(array, "n02012849") == first_of_class(array, "crane") == 2
