"""Checkpoints: a trained two-layer network with its metadata in one safetensors file."""

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
from rot180.models.model import Model
from rot180.models.preprocessing import image_size, per_channel
from rot180.models.tensor_file import load_tensors, save_tensors
from rot180.models.two_layer import TwoLayer, equations_network
from rot180.visible import visible

FORMAT = "rot180 checkpoint 1"
SHIPPED = {"two-layer": "two-layer-cifar10.safetensors"}
"""Trained networks that come with the package: name and file."""
_LARGEST_NUMBER = 1e30
"""Bound on the absolute value of numbers in a history."""


@dataclass
class Checkpoint(Model):
    """A trained two-layer network with its preprocessing and its training history.

    Attributes:
        data: "name" and "fingerprint" of the training data.
        recipe: settings of the training (see :class:`rot180.training.recipe.Recipe`).
        history: one mapping per epoch, with "epoch", "loss", "accuracy", "held_out", "seconds".
        notes: other records, by name.
    """

    model: TwoLayer
    data: dict[str, str] = field(default_factory=dict)
    recipe: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, float]] = field(default_factory=list)
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def caption(self) -> str:
        """Description of the network and its training data for the captions of figures."""
        return f"two-layer network trained on {self.data.get('name', 'unknown data')}"

    def equations(self) -> equations.Network:
        """Return a copy of the network in NumPy, float64. Layers have the names of the modules."""
        model = copy.deepcopy(self.model).cpu().double()
        return equations_network(model)

    def save(self, path: str | Path) -> None:
        """Write the checkpoint, as a whole or not at all.

        Raises:
            Rot180Error: the file cannot be written.
        """
        metadata = {
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
        save_tensors(path, self.model.state_dict(), metadata)


def load_checkpoint(path: str | Path, device: str | torch.device = "cpu") -> Checkpoint:
    """Load a checkpoint that ``rot180 train`` wrote, or a network that comes with the package.

    Args:
        path: a safetensors file, or "two-layer" for the shipped network trained on CIFAR-10.
        device: "cpu", "cuda", "mps", or "auto".

    Raises:
        Rot180Error: the device or the file does not exist; the file is not a safetensors file, is
            damaged, or holds another architecture or values that are not finite.
    """
    torch_device = resolve_device(device)
    name = str(path)
    path = _checkpoint_file(name)
    tensors, metadata = load_tensors(path)
    if metadata.get("format") != FORMAT or metadata.get("architecture") != "two-layer":
        architecture = metadata.get("architecture")
        shown = shortened(architecture) if architecture else "no rot180 architecture"
        raise Rot180Error(
            f"{path} is not a checkpoint of the two-layer network: its metadata name {shown}. Make "
            "one with 'rot180 train'. To use weights of another model, name the model with --model "
            "and its weights with --weights."
        )
    checkpoint = _from_metadata(metadata, path, name)
    weights = check_state_dict(checkpoint.model.state_dict(), tensors, path)
    copies = {name: tensor.clone() for name, tensor in weights.items()}
    checkpoint.model.load_state_dict(copies, assign=True)
    checkpoint.model.to(torch_device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    return checkpoint


def check_state_dict(
    expected: Mapping[str, Tensor], tensors: Mapping[str, Tensor], path: Path
) -> dict[str, Tensor]:
    """Return the weights of a file in float32, after names, shapes and types were compared.

    Args:
        expected: state dict of the model; its names and shapes are compared.
        tensors: weights in the file.
        path: path of the file, for the message.

    Raises:
        Rot180Error: names, shapes, types or values are not those of this architecture.
    """
    for name in [*expected, *tensors]:
        shapes = [tuple(x[name].shape) if name in x else None for x in (expected, tensors)]
        if shapes[0] != shapes[1]:
            shown = ["absent" if shape is None else shortened(shape) for shape in shapes]
            raise Rot180Error(
                f"{path} does not hold the weights that its metadata describe: '{name[:80]}' "
                f"should be {shown[0]} and is {shown[1]}."
            )
        if not tensors[name].is_floating_point():
            dtype = str(tensors[name].dtype).removeprefix("torch.")
            raise Rot180Error(
                f"The weights '{name}' in {path} are of the type {dtype}; they have to be real "
                "floating-point numbers."
            )
    weights = {name: tensor.float() for name, tensor in tensors.items()}
    for name, tensor in weights.items():
        if not torch.isfinite(tensor).all():
            raise Rot180Error(
                f"The weights '{name}' in {path} hold values that are infinite or NaN in float32."
            )
    return weights


def _from_metadata(metadata: dict[str, Any], path: Path, name: str) -> Checkpoint:
    """Return the checkpoint that the metadata describe, with weights on the "meta" device.

    Raises:
        Rot180Error: an entry is missing or invalid.
    """
    try:
        mean, std = (per_channel(metadata[what], what) for what in ("mean", "std"))
        if len(mean) != len(std):
            raise Rot180Error("There are as many means as deviations.")
        size = image_size(tuple(_of_type(metadata, "size", list)))
        classes = _of_type(metadata, "classes", list)
        hidden = as_int(metadata["hidden"], "The number of hidden neurons")
        if not all(isinstance(class_name, str) for class_name in classes):
            raise Rot180Error("Names of classes are text.")
        data = _of_type(metadata, "data", dict)
        if not all(isinstance(text, str) for text in data.values()):
            raise Rot180Error("The name and the fingerprint of the data are text.")
        history = checked_history(metadata["history"])
        recipe, notes = _of_type(metadata, "recipe", dict), _of_type(metadata, "notes", dict)
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
        model, escape_names(classes), mean, std, size, data, recipe, history, notes, name=name
    )


def escape_names(names: Iterable[str]) -> tuple[str, ...]:
    """Return class names as a checkpoint stores them: control characters and line ends escaped."""
    return tuple(visible(name).replace("\n", r"\n").replace("\t", r"\t") for name in names)


def checked_history(history: Any) -> list[dict[str, float]]:
    """Return the history of a training: a mapping of names to numbers for each epoch.

    Raises:
        Rot180Error: the value has another form.
    """
    rows: list[Any] = history if isinstance(history, list) else [None]
    for row in rows:
        if not isinstance(row, dict) or not all(_is_number(value) for value in row.values()):
            raise Rot180Error(
                f"The history has finite numbers by name for each epoch, not {shortened(row)}."
            )
    return rows


def _is_number(value: Any) -> bool:
    # The comparison is false for NaN, too.
    return type(value) in (int, float) and -_LARGEST_NUMBER < value < _LARGEST_NUMBER


def _of_type(metadata: dict[str, Any], name: str, expected: type) -> Any:
    if not isinstance(metadata[name], expected):
        what = "a list" if expected is list else "a mapping"
        raise Rot180Error(f"'{name}' has to be {what}, not {shortened(metadata[name])}.")
    return metadata[name]


def _checkpoint_file(name: str) -> Path:
    if name in SHIPPED:
        return Path(__file__).parent / SHIPPED[name]
    path = Path(name)
    if not is_file(path):
        raise Rot180Error(
            f"There is no checkpoint at {name[:300]}. Give the path of a safetensors file that "
            f"'rot180 train' wrote, or a name: {suggest(SHIPPED, name)}."
        )
    return path
