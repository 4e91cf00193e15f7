"""The training recipe: all settings of a training in one value that the checkpoint stores."""

from dataclasses import asdict, dataclass, fields
from typing import Any

from rot180.errors import Rot180Error


@dataclass(frozen=True)
class Recipe:
    """Settings of a training run.

    Attributes:
        epochs: number of passes over the training images.
        batch: number of images per step.
        rate: maximal learning rate of SGD with Nesterov momentum 0.9, for the fully connected
            weights, the biases and the kernels of the first layer. These kernels start as the
            principal components of patches (see ``rot180.training.patch_pca``).
        kernel_rate: largest step of the kernels of the second layer, for orthogonalised momentum
            (as :class:`rot180.equations.Muon`).
        weight_decay: of all weights that SGD trains.
        warm_up: share of the steps in which the rates rise linearly; then they fall to zero.
        smoothing: share of the target that is spread over all classes.
        averaging: share of the steps over which the weights are averaged.
        shift: maximal shift of an image in either direction, in pixels; edges are repeated.
        flip: whether half of the images are mirrored.
        grey: share of the images that lose their colour.
        hue: maximal rotation of the colours around the grey axis, in degrees.
        seed: seed of the weights, of the order of the images and of all other random numbers.
    """

    epochs: int = 12
    batch: int = 128
    rate: float = 0.02
    kernel_rate: float = 0.02
    weight_decay: float = 5e-4
    warm_up: float = 0.15
    smoothing: float = 0.1
    averaging: float = 0.05
    shift: int = 2
    flip: bool = True
    grey: float = 0.0
    hue: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name, low, high in (
            ("epochs", 1, 10**6),
            ("batch", 1, 2**20),
            ("rate", 0, 1e3),
            ("kernel_rate", 0, 1e3),
            ("weight_decay", 0, 1),
            ("warm_up", 0, 1),
            ("smoothing", 0, 0.99),
            ("averaging", 0, 1),
            ("shift", 0, 2**12),
            ("grey", 0, 1),
            ("hue", 0, 180),
            ("seed", 0, 2**31),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise Rot180Error(f"{name} is {value}; it has to lie between {low} and {high}.")

    def to_json(self) -> dict[str, Any]:
        """Return the settings by name."""
        return asdict(self)

    @classmethod
    def from_json(cls, given: dict[str, Any]) -> "Recipe":
        """Return the recipe with these settings.

        Raises:
            Rot180Error: the name of a setting is unknown, or a value is out of range.
        """
        unknown = set(given) - {field.name for field in fields(cls)}
        if unknown:
            raise Rot180Error(f"The training recipe has settings that are not known: {unknown}.")
        return cls(**given)


PHOTOS = Recipe(epochs=10, grey=0.5, hue=180.0, shift=4)
"""Recipe for few photographs: colours are varied, so that the network has to learn shapes."""


def recipe_for(data: str) -> Recipe:
    """Return the recipe for a data set, given as in ``--data``."""
    return PHOTOS if data == "photos" else Recipe()
