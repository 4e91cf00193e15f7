"""A trained network in one safetensors file, with all that later commands need."""

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rot180 import equations
from rot180.device import resolve_device
from rot180.errors import Rot180Error, as_int, shortened, suggest
from rot180.files import is_file
from rot180.networks.engines import equations_network
from rot180.networks.model import NamedModel
from rot180.networks.preprocessing import image_size, per_channel
from rot180.networks.stored import load_tensors, save_tensors
from rot180.networks.two_layer import TwoLayer
from rot180.visible import visible

FORMAT = "rot180 checkpoint 1"
SHIPPED = {"two-layer": "two-layer-cifar10.safetensors"}
"""Names of trained networks inside the package, and their files."""
_FAR = 1e30
"""No number in a history comes near it."""


@dataclass
class Checkpoint(NamedModel):
    """A trained two-layer network and how to use it.

    Attributes:
        data: the training data: "name" and "fingerprint".
        recipe: the settings of the training (see :class:`rot180.networks.recipe.Recipe`).
        history: one mapping an epoch, with "epoch", "loss", "accuracy", "held_out", "seconds".
        notes: anything else to be recorded, by name.
    """

    model: TwoLayer
    data: dict[str, str] = field(default_factory=dict)
    recipe: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, float]] = field(default_factory=list)
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def origin(self) -> str:
        """The network and its training data, in words, for captions."""
        return f"two-layer network trained on {self.data.get('name', 'unknown data')}"

    def equations(self) -> equations.Network:
        """Return the network in NumPy, float64, for tracing and for reading along.

        Its weights are copies; layers have the names of the model's modules.
        """
        model = copy.deepcopy(self.model).cpu().double()
        return equations_network(model)

    def save(self, path: str | Path) -> None:
        """Write the file whole, or leave the old one.

        Raises:
            Rot180Error: the file cannot be written.
        """
        about = {
            "format": FORMAT,
            "architecture": "two-layer",
            "hidden": self.model.head.in_features if self.model.hidden is not None else 0,
            "classes": self.classes,
            "mean": self.mean,
            "std": self.std,
            "size": self.size,
            "data": self.data,
            "recipe": self.recipe,
            "history": self.history,
            "notes": self.notes,
        }
        save_tensors(path, self.model.state_dict(), about)


def load(path: str | Path, device: str | torch.device = "cpu") -> Checkpoint:
    """Load a checkpoint that ``rot180 train`` wrote, or a network that comes with the package.

    Args:
        path: a safetensors file, or "two-layer" for the shipped network trained on CIFAR-10.
        device: where to put it: "cpu", "cuda", "mps", or "auto".

    Raises:
        Rot180Error: the device or the file does not exist; the file is no safetensors file or a
            damaged one, holds another architecture, or values that are not numbers.
    """
    place = resolve_device(device)
    name = str(path)
    path = _file(name)
    tensors, about = load_tensors(path)
    if about.get("format") != FORMAT or about.get("architecture") != "two-layer":
        named = about.get("architecture")
        found = shortened(named) if named else "no rot180 architecture"
        raise Rot180Error(
            f"{path} is not a checkpoint of the two-layer network: its metadata name {found}. Make "
            "one with 'rot180 train'; weights of another model are given with --weights, and "
            "--model names the model that they belong to."
        )
    checkpoint = _described(about, path, name)
    weights = fitting(checkpoint.model.state_dict(), tensors, path)
    copies = {one: x.clone() for one, x in weights.items()}
    checkpoint.model.load_state_dict(copies, assign=True)
    checkpoint.model.to(place, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    return checkpoint


def fitting(
    wanted: Mapping[str, Tensor], tensors: Mapping[str, Tensor], path: Path
) -> dict[str, Tensor]:
    """Return weights from a file in float32, after names, shapes and types were compared.

    Args:
        wanted: what a model has; of these, names and shapes count.
        tensors: from the file.
        path: of the file.

    Raises:
        Rot180Error: names, shapes, types or values are not those of this architecture.
    """
    for name in [*wanted, *tensors]:
        shapes = [tuple(x[name].shape) if name in x else None for x in (wanted, tensors)]
        if shapes[0] != shapes[1]:
            said = ["absent" if one is None else shortened(one) for one in shapes]
            raise Rot180Error(
                f"{path} does not hold the weights that its metadata promise: '{name[:80]}' should "
                f"be {said[0]} and is {said[1]}."
            )
        if not tensors[name].is_floating_point():
            kind = str(tensors[name].dtype).removeprefix("torch.")
            raise Rot180Error(
                f"The weights '{name}' in {path} are of the type {kind}; they have to be real "
                "floating-point numbers."
            )
    found = {name: x.float() for name, x in tensors.items()}
    for name, x in found.items():
        if not torch.isfinite(x).all():
            raise Rot180Error(
                f"The weights '{name}' in {path} hold values that are infinite or NaN in float32."
            )
    return found


def _described(about: dict[str, Any], path: Path, name: str) -> Checkpoint:
    """Read the metadata: a checkpoint whose weights have shapes, and no memory yet.

    Raises:
        Rot180Error: something is missing in them or is not what it should be.
    """
    try:
        mean, std = (per_channel(about[one], one) for one in ("mean", "std"))
        if len(mean) != len(std):
            raise Rot180Error("There are as many means as deviations.")
        size = image_size(tuple(_of_kind(about, "size", list)))
        classes = _of_kind(about, "classes", list)
        hidden = as_int(about["hidden"], "The number of hidden neurons")
        if not all(isinstance(one, str) for one in classes):
            raise Rot180Error("Names of classes are text.")
        data = _of_kind(about, "data", dict)
        if not all(isinstance(one, str) for one in data.values()):
            raise Rot180Error("The name and the fingerprint of the data are text.")
        history = checked_history(about["history"])
        recipe, notes = _of_kind(about, "recipe", dict), _of_kind(about, "notes", dict)
    except KeyError as error:
        raise Rot180Error(f"The metadata of {path} are damaged: {error} is missing.") from error
    except Rot180Error as error:
        raise Rot180Error(f"The metadata of {path} are damaged. {error}") from error
    try:
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            model = TwoLayer(len(classes), len(mean), size, hidden)
    except Rot180Error as error:
        raise Rot180Error(f"The metadata of {path} name no such network. {error}") from error
    return Checkpoint(
        model, in_one_line(classes), mean, std, size, data, recipe, history, notes, name=name
    )


def in_one_line(names: Iterable[str]) -> tuple[str, ...]:
    """Return names of classes as a checkpoint has them: nothing in them does anything."""
    return tuple(visible(one).replace("\n", r"\n").replace("\t", r"\t") for one in names)


def checked_history(found: Any) -> list[dict[str, float]]:
    """Return what is the history of a training, numbers by name for each epoch.

    Raises:
        Rot180Error: it is something else.
    """
    rows: list[Any] = found if isinstance(found, list) else [None]
    for row in rows:
        if not isinstance(row, dict) or not all(_is_number(one) for one in row.values()):
            raise Rot180Error(
                f"The history has finite numbers by name for each epoch, not {shortened(row)}."
            )
    return rows


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and -_FAR < value < _FAR  # false for NaN, too


def _of_kind(about: dict[str, Any], name: str, kind: type) -> Any:
    if not isinstance(about[name], kind):
        what = "a list" if kind is list else "a mapping"
        raise Rot180Error(f"'{name}' has to be {what}, not {shortened(about[name])}.")
    return about[name]


def _file(name: str) -> Path:
    if name in SHIPPED:
        return Path(__file__).parent / SHIPPED[name]
    path = Path(name)
    if not is_file(path):
        raise Rot180Error(
            f"There is no checkpoint at {name[:300]}. Give the path of a safetensors file that "
            f"'rot180 train' wrote, or a name: {suggest(SHIPPED, name)}."
        )
    return path
