"""``rot180.compare``: which features of two networks correspond, over the same images."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64

from rot180.atlas.atlas import Atlas
from rot180.atlas.identity import ScanIdentity
from rot180.errors import Rot180Error

_FEW = 8
"""Images that both have sampled, below which nothing is said."""


@dataclass(frozen=True)
class Match:
    """A feature of the first atlas, and the feature of the second that goes with it most.

    Attributes:
        channel: of the first.
        other: of the second; None where the first never varies.
        correlation: of their peaks over the images that both have sampled; NaN likewise.
        mutual: whether the second's best partner is the first, too.
    """

    channel: int
    other: int | None
    correlation: float
    mutual: bool


@dataclass(frozen=True)
class Comparison:
    """How the features of two layers correspond.

    Attributes:
        layer, other_layer: of the first and the second atlas.
        images: how many the correlations are over.
        matches: for each feature of the first its best partner.
        appeared: features of the second that fire, and of which the first has none like it.
        vanished: features of the first that fire, and of which the second has none like it.
        died, revived: features that fire in the first and are dead in the second under the same
            number, and the other way round; empty unless the layers have equally many features.
    """

    layer: str
    other_layer: str
    images: int
    matches: tuple[Match, ...]
    appeared: tuple[int, ...]
    vanished: tuple[int, ...]
    died: tuple[int, ...]
    revived: tuple[int, ...]

    def __str__(self) -> str:
        best = [one.correlation for one in self.matches if one.other is not None]
        mutual = sum(one.mutual for one in self.matches)
        middle = f"{np.median(best):.2f}" if best else "-"
        return (
            f"{self.layer} and {self.other_layer}: {mutual} of {len(self.matches)} features are "
            f"each other's best partners, median correlation {middle} over {self.images} images; "
            f"{len(self.vanished)} vanished, {len(self.appeared)} appeared, {len(self.died)} died."
        )


MATCH_THRESHOLD = 0.5
"""A correlation below which a feature has no partner."""


def compare(
    first: Any,
    second: Any,
    layer: Any = None,
    other_layer: Any = None,
    like: float = MATCH_THRESHOLD,
) -> list[Comparison]:
    """Find for each feature of an atlas the one of another that it goes with.

    The measure is Pearson's correlation of the features' peaks over the images that both atlases
    have sampled: sum_i (a_i - mean a)(b_i - mean b) over the root of both sums of squares.

    Args:
        first, second: atlases over the same data: two checkpoints, or two networks.
        layer: of the first; None: each that the second has by the same name.
        other_layer: of the second; None: of the same name.
        like: the correlation from which on features count as alike.

    Raises:
        Rot180Error: these are no atlases, or of other data, or a layer does not exist, or they have
            no layer in common.
    """
    for one in (first, second):
        if not isinstance(one, Atlas):
            raise Rot180Error(f"compare takes atlases of rot180.open, not {type(one).__name__}.")
    if ScanIdentity.for_atlas(first).data != ScanIdentity.for_atlas(second).data:
        raise Rot180Error(
            f"{first.path} and {second.path} are scans of different data ({first.data}; "
            f"{second.data}): features are compared over the same images."
        )
    if layer is not None:
        pairs = [(first[layer].name, second[other_layer or layer].name)]
    else:
        if other_layer is not None:
            raise Rot180Error("Name the layer of the first atlas, too.")
        pairs = [(name, name) for name in first.layers if name in second.layers]
    if not pairs:
        raise Rot180Error(
            f"{first.path} and {second.path} have no layer of the same name: name one of each."
        )
    return [_compared(first, second, one, two, like) for one, two in pairs]


def _compared(first: Atlas, second: Atlas, one: str, two: str, like: float) -> Comparison:
    a, b = common_peaks(first, second, one, two)
    found = correlation_matrix(a, b)
    fires = [np.array([not x for (x,) in _dead(*where)]) for where in ((first, one), (second, two))]
    known = np.where(np.isnan(found), -np.inf, found)
    best, best_back = known.argmax(1), known.argmax(0)
    matches = []
    for channel, other in enumerate(best.tolist()):
        value = float(known[channel, other])
        if value == -np.inf:
            matches.append(Match(channel, None, float("nan"), False))
        else:
            matches.append(Match(channel, other, value, int(best_back[other]) == channel))
    same = len(fires[0]) == len(fires[1])
    return Comparison(
        one,
        two,
        len(a),
        tuple(matches),
        _numbers(fires[1] & (known.max(0) < like)),
        _numbers(fires[0] & (known.max(1) < like)),
        _numbers(fires[0] & ~fires[1]) if same else (),
        _numbers(~fires[0] & fires[1]) if same else (),
    )


def common_peaks(first: Atlas, second: Atlas, one: str, two: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the peaks (images, features) of two layers on the images that both have sampled.

    Raises:
        Rot180Error: these are too few.
    """
    images, a = first.sample(one)
    others, b = second.sample(two)
    both, mine, its = np.intersect1d(images, others, return_indices=True)
    if len(both) < _FEW:
        raise Rot180Error(
            f"The atlases have {len(both)} sampled images in common, too few to compare features "
            f"over. Scan both with a sample of the same size, of at least {_FEW} images."
        )
    return a[mine], b[its]


def _dead(atlas: Atlas, layer: str) -> list[Any]:
    found = atlas.rows("SELECT dead FROM feature WHERE layer = ? ORDER BY channel", layer)
    atlas.check(len(found) == len(atlas[layer]), "feature")
    atlas.check(all(one in (None, 0, 1) for (one,) in found), "feature.dead")
    return found


def _numbers(chosen: Bool[np.ndarray, " c"]) -> tuple[int, ...]:
    return tuple(np.flatnonzero(chosen).tolist())


def correlation_matrix(a: np.ndarray, b: np.ndarray) -> Float64[np.ndarray, "c d"]:
    """Return the correlation of each column of a (n, c) with each of b (n, d); NaN of flat ones."""
    standard = []
    for one in (a, b):
        x = one.astype(np.float64)
        x = x - x.mean(0)
        length = np.sqrt((x * x).sum(0))
        length[length <= 1e-9 * np.abs(one).max(0, initial=0).astype(np.float64)] = np.nan
        standard.append(x / np.where(length > 0, length, np.nan))
    found: Float64[np.ndarray, "c d"] = np.clip(standard[0].T @ standard[1], -1, 1)
    return found
