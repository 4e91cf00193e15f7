"""What makes two scans the same, so that one can resume the other, and parts can be joined."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rot180.atlas.feature import is_number
from rot180.atlas.options import ScanModel, ScanOptions
from rot180.datasets import Dataset
from rot180.errors import Rot180Error
from rot180.graph.fingerprint import fingerprint

if TYPE_CHECKING:
    from rot180.atlas.atlas import Atlas


@dataclass(frozen=True)
class ScanIdentity:
    """Network, data and settings of a scan; two atlases of equal identity hold the same numbers.

    Attributes:
        network: fingerprint of what it computes, weights included.
        data: fingerprint of the data set.
        preprocessing: mean and deviation of each channel, and the size of the images.
        layers: their names.
        examples, sample: how many are kept.
        pictures: how they are stored.
        batch: images in a batch. Results of a network may differ in the last digit from one size of
            batch to another.
    """

    network: str
    data: str
    preprocessing: tuple[tuple[float, ...], ...]
    layers: tuple[str, ...]
    examples: int
    sample: int
    pictures: str
    batch: int

    def to_json(self) -> dict[str, Any]:
        """Return the identity as JSON values."""
        return asdict(self)

    @classmethod
    def for_scan(
        cls,
        model: ScanModel,
        data: Dataset,
        layers: Sequence[str],
        options: ScanOptions,
        batch: int,
    ) -> "ScanIdentity":
        """Return the identity of a scan that is to be made."""
        size = tuple(map(float, model.network.input_shape))
        return cls(
            fingerprint(model.network),
            data.fingerprint,
            (model.mean, model.std, size),
            tuple(layers),
            options.examples,
            options.sample,
            options.images,
            batch,
        )

    @classmethod
    def for_atlas(cls, atlas: "Atlas") -> "ScanIdentity":
        """Return the identity that an atlas holds.

        Raises:
            Rot180Error: the atlas holds none, or a damaged one.
        """
        given = atlas.metadata.get("identity")
        names = {one.name for one in fields(cls)}
        if not isinstance(given, dict) or set(given) != names or not _can_be(given):
            raise Rot180Error(f"{atlas.path} does not say what it is a scan of: it is damaged.")
        tuples = {
            name: _tuples(value) if isinstance(value, list) else value
            for name, value in given.items()
        }
        return cls(**tuples)


def _can_be(given: dict[str, Any]) -> bool:
    """Return whether the values of an identity are of the right types."""
    words = all(isinstance(given[one], str) for one in ("network", "data", "pictures"))
    counts = all(isinstance(given[one], int) for one in ("examples", "sample", "batch"))
    layers, rows = given["layers"], given["preprocessing"]
    named = isinstance(layers, list) and all(isinstance(one, str) for one in layers)
    three = isinstance(rows, list) and len(rows) == 3 and all(isinstance(r, list) for r in rows)
    return words and counts and named and three and all(is_number(n) for row in rows for n in row)


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


_WORDS = {
    "network": "another network, or other weights",
    "data": "other images",
    "preprocessing": "images that were prepared in another way",
    "layers": "other layers",
    "examples": "another number of examples",
    "sample": "another number of sampled images",
    "pictures": "pictures stored in another way",
    "batch": "another size of batch",
}


def check_same(there: ScanIdentity, wanted: ScanIdentity, path: Path) -> None:
    """Raise Rot180Error if a file holds another scan than the one that is wanted."""
    different = [name for name in _WORDS if getattr(there, name) != getattr(wanted, name)]
    if different:
        shown = "; ".join(_WORDS[name] for name in different)
        raise Rot180Error(
            f"{path} holds another scan: {shown}. Give another file, or remove this one."
        )
