"""The model of an atlas: loaded by the name in the atlas, and checked by its fingerprint."""

from dataclasses import dataclass
from math import isclose
from pathlib import Path
from typing import Any

from rot180.atlas.atlas import Atlas
from rot180.atlas.identity import ScanIdentity
from rot180.atlas.offline import DownloadNeeded, check_torchvision, is_missing, offline
from rot180.datasets.base import portable
from rot180.errors import Rot180Error
from rot180.files import is_file
from rot180.graph.fingerprint import fingerprint
from rot180.graph.network import Network
from rot180.models.checkpoint import SHIPPED
from rot180.models.load import is_checkpoint, is_offered, load_model
from rot180.models.model import Model
from rot180.projection.automatic import use_measurements


class OtherNetwork(Rot180Error):
    """A model that is not the one that was scanned."""


def load_scanned_model(
    atlas: Atlas,
    model: str | None = None,
    weights: Any = None,
    size: Any = None,
    mean: Any = None,
    std: Any = None,
    classes: Any = None,
    device: Any = "auto",
) -> Model:
    """Load the model that was scanned; arguments left out are taken from the atlas.

    A checkpoint that is not where it was is looked for beside the atlas. Weights that only the
    atlas names are not downloaded: they are used if they are on this machine already.

    Args:
        atlas: the atlas.
        model: its name, as :func:`rot180.load` takes it; None: the name that the atlas tells.
        weights, size, mean, std, classes, device: see :func:`rot180.models.load.load_model`.

    Raises:
        Rot180Error: the atlas does not name the model, or names code, which is not run because a
            file says so, or weights that are not on this machine; or the model cannot be loaded.
            That it is the same is checked by :class:`ScannedModel`.
    """
    told = model is None
    if model is None:
        if not atlas.model:
            raise Rot180Error(
                f"{atlas.path} does not name the model that was scanned: name it with --model."
            )
        if not _can_be(atlas.model):
            raise Rot180Error(
                f"{atlas.path} names a model that cannot be ({atlas.model[:60]!r}): name the one "
                "that was scanned with --model."
            )
        model = _beside(atlas.model, atlas.path)
        if is_code(model):
            unknown = "" if "weights" in atlas.metadata else " (and --weights, where it had any)"
            had = f" --weights PATH/{atlas.weights}" if atlas.weights else unknown
            place = "PATH/" if ".py:" in model else ""
            raise Rot180Error(
                f"{atlas.path} is a scan of {model}, which is code, and code is not run because a "
                f"file says so. Say it yourself: --model {place}{model}"
                f"{'' if weights is not None else had}."
            )
        path = Path(model)
        if path.suffix.lower() == ".safetensors" and not is_file(path):
            raise Rot180Error(
                f"{atlas.path} is a scan of {path.name}, which is neither beside it nor here: say "
                f"where it is, with --model PATH/{path.name}."
            )
        if weights is None and atlas.weights:
            raise Rot180Error(
                f"{atlas.path} is a scan of {model} with weights of {atlas.weights}: give both, "
                f"--model {model} --weights PATH/{atlas.weights}."
            )
    if not is_checkpoint(model):
        by_mean, by_std, _ = ScanIdentity.for_atlas(atlas).preprocessing
        size, mean, std = size or atlas.size, mean or by_mean, std or by_std
    if not told:
        return _with_names(load_model(model, weights, size, mean, std, classes, device), atlas)
    try:
        with offline():
            check_torchvision(model)
            found = load_model(model, weights, size, mean, std, classes, device)
            return _with_names(found, atlas)
    except (DownloadNeeded, Rot180Error) as error:
        if not is_missing(error):
            raise
        raise Rot180Error(
            f"{atlas.path} is a scan of {model}, whose weights are not on this machine, and "
            "nothing is downloaded because a file says so. To download them, say it yourself: "
            f"--model {model}."
        ) from error


def _can_be(name: str) -> bool:
    """Say whether a file's name of a model can be one: printed in a line, and short enough."""
    return name.isprintable() and all(
        len(part.encode()) <= _LONGEST for part in name.replace("\\", "/").split("/")
    )


_LONGEST = 255
"""Bytes in the name of a file or folder, on all usual file systems."""


def is_code(name: str) -> bool:
    """Say whether a model of this name is made by running somebody's Python."""
    return not is_checkpoint(name) and not is_offered(name)


def _with_names(found: Model, atlas: Atlas) -> Model:
    """Call a model's classes as the atlas calls its outputs, if nothing else does."""
    if not found.classes:
        found.classes = atlas.outputs
    return found


def _beside(model: str, atlas: Path) -> str:
    """Return where a checkpoint is: as the atlas says, seen from its own directory or from here."""
    path = Path(model)
    if path.suffix.lower() != ".safetensors":
        return model
    places = (atlas.parent / path, path, atlas.parent / path.name)
    return str(next((one for one in places if is_file(one)), path))


def is_found_again(atlas: Atlas, model: str) -> bool:
    """Return whether :func:`load_scanned_model` finds this model by the atlas alone."""
    if model in SHIPPED or is_offered(model):
        return atlas.model == model
    found, given = Path(_beside(atlas.model, atlas.path)), Path(model)
    return is_file(found) and is_file(given) and found.samefile(given)


def portable_model_name(name: str, directory: Path) -> str:
    """Return a model's name as an atlas holds it, which others may read.

    Of a path that is what lies below the atlas's own directory, or else the name of the file.
    """
    if name.startswith(("torchvision:", "timm:")):
        *words, last = name.split(":")
        return ":".join([*words, portable(last)])
    place, colon, attribute = name.rpartition(":") if ".py:" in name else (name, "", "")
    path = Path(place)
    if path.name == place:
        return name
    try:
        shown = path.resolve().relative_to(directory.resolve()).as_posix()
    except (ValueError, OSError):
        shown = path.name
    return f"{shown}{colon}{attribute}"


@dataclass(frozen=True)
class ScannedModel:
    """The network of an atlas, at hand.

    Attributes:
        model: the model, and how images are prepared for it.
        network: captured.
        prepared_alike: whether images are normalised as they were in the scan.
    """

    model: Model
    network: Network
    same_preprocessing: bool

    @classmethod
    def for_atlas(cls, atlas: Atlas, model: Any) -> "ScannedModel":
        """Capture a model, and see that it is the one that was scanned.

        Raises:
            OtherNetwork: it is another network, or has other weights.
            Rot180Error: it cannot be captured.
        """
        if not isinstance(model, Model):
            raise Rot180Error(f"The model is what rot180.load returns, not {type(model).__name__}.")
        network, who = model.network(), ScanIdentity.for_atlas(atlas)
        if fingerprint(network) != who.network:
            size = "x".join(map(str, network.input_shape[1:]))
            raise OtherNetwork(
                f"{model.name or 'This model'} at {size} is another network than that of "
                f"{atlas.path}, which is a scan of {atlas.model or 'a network without a name'} at "
                f"{atlas.size[0]}x{atlas.size[1]}: give the same model, with the same weights."
            )
        use_measurements(network, atlas.faithfulness)
        given = (*model.mean, *model.std)
        said = [number for row in who.preprocessing[:2] for number in row]
        alike = len(said) == len(given) and all(
            isclose(one, other, rel_tol=1e-5) for one, other in zip(said, given, strict=True)
        )
        return cls(model, network, alike)
