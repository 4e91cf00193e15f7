"""A trained network in one safetensors file, with all that later commands need."""

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from rot180 import equations
from rot180.device import chosen_device
from rot180.errors import Rot180Error, listed
from rot180.files import written_whole
from rot180.networks.engines import equations_network
from rot180.networks.model import NamedModel
from rot180.networks.two_layer import TwoLayer

FORMAT = "rot180 checkpoint 1"
SHIPPED = {"two-layer": "two-layer-cifar10.safetensors"}
"""Names of trained networks inside the package, and their files."""


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
    place = chosen_device(device)
    name = str(path)
    path = _file(name)
    tensors, about = load_tensors(path)
    if about.get("format") != FORMAT or about.get("architecture") != "two-layer":
        found = about.get("architecture") or "no rot180 architecture"
        raise Rot180Error(
            f"{path} is not a checkpoint of the two-layer network: its metadata name {found}. Make "
            "one with 'rot180 train'; weights of another model are given with --weights, and "
            "--model names the model that they belong to."
        )
    try:
        size = (int(about["size"][0]), int(about["size"][1]))
        with torch.random.fork_rng(devices=[]):  # the first weights are drawn, and replaced below
            model = TwoLayer(len(about["classes"]), len(about["mean"]), size, int(about["hidden"]))
        checkpoint = Checkpoint(
            model,
            tuple(map(str, about["classes"])),
            tuple(map(float, about["mean"])),
            tuple(map(float, about["std"])),
            size,
            dict(about["data"]),
            dict(about["recipe"]),
            list(about["history"]),
            dict(about["notes"]),
            name=name,
        )
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise Rot180Error(f"The metadata of {path} are damaged ({error!r}).") from error
    fill(checkpoint.model, tensors, path)
    checkpoint.model.to(place, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    return checkpoint


def fill(model: TwoLayer, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Copy weights into a model.

    Raises:
        Rot180Error: names, shapes or values are not those of this architecture.
    """
    wanted = model.state_dict()
    for name in [*wanted, *tensors]:
        shapes = [tuple(x[name].shape) if name in x else None for x in (wanted, tensors)]
        if shapes[0] != shapes[1]:
            raise Rot180Error(
                f"{path} does not hold the weights that its metadata promise: '{name}' should be "
                f"{shapes[0] or 'absent'} and is {shapes[1] or 'absent'}."
            )
        if not torch.isfinite(tensors[name]).all():
            raise Rot180Error(
                f"The weights '{name}' in {path} hold values that are infinite or NaN."
            )
    model.load_state_dict(tensors)


def save_tensors(path: str | Path, tensors: Mapping[str, Tensor], about: dict[str, Any]) -> None:
    """Write tensors with a description, whole or not at all."""
    plain = {name: one.detach().cpu().contiguous() for name, one in tensors.items()}
    with written_whole(path) as beside:
        try:
            save_file(plain, beside, {"rot180": json.dumps(about)})
        except SafetensorError as error:  # it wraps the operating system's errors
            raise OSError(str(error)) from error


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what :func:`save_tensors` wrote. Nothing in the file is executed.

    Raises:
        Rot180Error: it is no safetensors file, or a damaged one.
    """
    try:
        with safe_open(path, framework="pt") as opened:
            about = json.loads((opened.metadata() or {}).get("rot180", "{}"))
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise Rot180Error(
            f"{path} cannot be read as a safetensors file: it is damaged, cut short, or of another "
            f"kind ({error})."
        ) from error
    if not isinstance(about, dict):
        raise Rot180Error(f"The metadata of {path} are damaged.")
    return tensors, about


def _file(name: str) -> Path:
    if name in SHIPPED:
        return Path(__file__).parent / SHIPPED[name]
    path = Path(name)
    if not path.is_file():
        raise Rot180Error(
            f"There is no checkpoint at {path}. Give the path of a safetensors file that "
            f"'rot180 train' wrote, or a name: {listed(SHIPPED, name)}."
        )
    return path
