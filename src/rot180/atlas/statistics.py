"""The statistics of features, computed from the sums of a scan in float64.

:data:`STATISTICS` is the one list of them. The columns of the table ``feature``, their checks, the
orders of features and the table on the page about the atlas are made from it, so a new statistic is
one entry here.

In the formulas i runs over the N images, p over the P positions of a map; a_ip is the activation,
m_i = max_p a_ip the peak of an image. Where positions are sampled (see
:meth:`rot180.atlas.feature_index.LayerSlice.sample_positions`), s runs over the S samples of all
images.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from sys import float_info
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64

from rot180.atlas.accumulator import UNIT, ScanState
from rot180.atlas.colour_fit import ColourFit, fit_colours
from rot180.atlas.feature_index import FeatureIndex


def maximum(state: ScanState) -> Float64[np.ndarray, " f"]:
    """Return the largest activation on any image, max_i m_i; NaN before the first image."""
    known = state.best_image[:, 0] >= 0
    return np.where(known, state.best[:, 0], np.nan).astype(np.float64)


def mean(state: ScanState) -> Float64[np.ndarray, " f"]:
    """Return the mean activation, sum_ip a_ip / (N P)."""
    means: Float64[np.ndarray, " f"] = state.mean * _units(state) / max(state.images, 1)
    return means


def mean_peak(state: ScanState) -> Float64[np.ndarray, " f"]:
    """Return the mean of the images' peaks, sum_i m_i / N."""
    means: Float64[np.ndarray, " f"] = state.peaks.sum(0) * _units(state) / max(state.images, 1)
    return means


def _units(state: ScanState) -> Float64[np.ndarray, " f"]:
    return state.index.scales * UNIT


def firing_positions(state: ScanState) -> Float64[np.ndarray, " f"]:
    """Return the share of positions where a feature fires, |{(i, p): a_ip > 0}| / (N P)."""
    index = state.index
    positions = index.per_feature([layer.height * layer.width for layer in index.layers])
    shares: Float64[np.ndarray, " f"] = state.fired / (positions * max(state.images, 1))
    return shares


def firing_images(state: ScanState) -> Float64[np.ndarray, " f"]:
    """Return the share of images where a feature fires anywhere, |{i: m_i > 0}| / N."""
    shares: Float64[np.ndarray, " f"] = state.fired_images / max(state.images, 1)
    return shares


def dead(state: ScanState) -> Bool[np.ndarray, " f"]:
    """Return whether a feature fires nowhere: no m_i is above 0."""
    silent: Bool[np.ndarray, " f"] = state.fired_images == 0
    return silent


def class_means(state: ScanState) -> Float64[np.ndarray, "k f"]:
    """Return the mean peak on the images of each class c, sum_{i in c} m_i / N_c.

    It is NaN for classes without images.
    """
    counts = state.class_images[:-1, None]
    with np.errstate(invalid="ignore", divide="ignore"):
        means: Float64[np.ndarray, "k f"] = state.peaks[:-1] * _units(state) / counts
    return means


def class_selectivity(means: Float64[np.ndarray, "k f"]) -> Float64[np.ndarray, " f"]:
    """Return how much stronger a feature is on its best class than on the others, from 0 to 1.

    (mu_max - mu_rest) / (mu_max + mu_rest), where mu_max is the largest mean peak of a class and
    mu_rest the mean over the other classes; negative means count as 0. NaN for fewer than two
    classes with images, and for a feature that does not fire.

    Source: Morcos et al., On the importance of single directions for generalization, ICLR 2018.
    """
    known = means[~np.isnan(means).any(1)]
    if len(known) < 2:
        return np.full(means.shape[1], np.nan)
    known = np.maximum(known, 0)
    largest = known.max(0)
    rest = (known.sum(0) - largest) / (len(known) - 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        selectivity: Float64[np.ndarray, " f"] = (largest - rest) / (largest + rest)
    return selectivity


def best_class(
    means: Float64[np.ndarray, "k f"], silent: Bool[np.ndarray, " f"]
) -> Float64[np.ndarray, " f"]:
    """Return the class with the largest mean peak; NaN for dead features, and without classes."""
    if not len(means) or np.isnan(means).all():
        return np.full(means.shape[1], np.nan)
    known = np.where(np.isnan(means), -np.inf, means)
    best: Float64[np.ndarray, " f"] = known.argmax(0).astype(np.float64)
    best[silent] = np.nan
    return best


class StatisticInputs:
    """What statistics are computed from: the state of a scan, and the results several share.

    Attributes:
        state: sums after the images scanned so far.
    """

    def __init__(self, state: ScanState) -> None:
        self.state = state

    @property
    def index(self) -> FeatureIndex:
        """The features of the scan."""
        return self.state.index

    @cached_property
    def class_means(self) -> Float64[np.ndarray, "k f"]:
        """Mean peak on each class."""
        return class_means(self.state)

    @cached_property
    def colour_fit(self) -> ColourFit:
        """Fit of the features to the colours."""
        return fit_colours(self.state)

    def colour_coefficient(self, channel: int) -> Float64[np.ndarray, " f"]:
        """Return the coefficients of red (0), green or blue; NaN for grey images."""
        if self.index.colours != 3:
            return np.full(self.index.features, np.nan)
        coefficients: Float64[np.ndarray, " f"] = self.colour_fit.coefficients[channel]
        return coefficients


@dataclass(frozen=True)
class Statistic:
    """A number about each feature: a column of the table ``feature``.

    Attributes:
        name: name of the column.
        note: what it is, in a few words: the comment in the schema.
        formula: its definition, in the Markdown of the documents.
        compute: returns its value for each feature; NaN where it is not defined.
        bounds: the smallest and the largest possible value.
        whole: whether values are whole numbers.
        is_class: whether values are numbers of classes.
        orders: names of the orders by this statistic, each with its direction, ASC or DESC.
    """

    name: str
    note: str
    formula: str
    compute: Callable[[StatisticInputs], np.ndarray]
    bounds: tuple[float, float] = (-float_info.max, float_info.max)
    whole: bool = False
    is_class: bool = False
    orders: Mapping[str, str] = field(default_factory=dict)

    @property
    def column(self) -> str:
        """Definition of the column in SQL, without its comment."""
        references = " REFERENCES class (number)" if self.is_class else ""
        return f"{self.name} {'INTEGER' if self.whole else 'REAL'}{references}"

    def stored(self, value: float) -> float | int | None:
        """Return a value as it is stored: None instead of NaN."""
        if value != value:
            return None
        return int(value) if self.whole else float(value)

    def allows(self, values: Sequence[Any], classes: int) -> bool:
        """Return whether a file may hold these values.

        Args:
            values: as SQLite returns them, one for each feature.
            classes: number of classes.
        """
        low, high = (0, classes - 1) if self.is_class else self.bounds
        kinds = int if self.whole else int | float
        return all(
            value is None or (isinstance(value, kinds) and low <= value <= high) for value in values
        )


STATISTICS = (
    Statistic(
        "max",
        "largest activation",
        r"$\max_i m_i$",
        lambda inputs: maximum(inputs.state),
        orders={"strongest": "DESC", "weakest": "ASC"},
    ),
    Statistic(
        "mean",
        "mean activation, over all positions of all images",
        r"$\sum_{i,p} a_{i,p} / (N P)$",
        lambda inputs: mean(inputs.state),
    ),
    Statistic(
        "mean_peak",
        "mean over the images of the largest activation on each",
        r"$\sum_i m_i / N$",
        lambda inputs: mean_peak(inputs.state),
    ),
    Statistic(
        "firing_positions",
        "share of positions with an activation above 0",
        r"share of all $(i, p)$ with $a_{i,p} > 0$",
        lambda inputs: firing_positions(inputs.state),
        bounds=(0, 1),
    ),
    Statistic(
        "firing_images",
        "share of images with an activation above 0",
        r"share of all $i$ with $m_i > 0$",
        lambda inputs: firing_images(inputs.state),
        bounds=(0, 1),
        orders={"rarest": "ASC", "most-common": "DESC"},
    ),
    Statistic(
        "dead",
        "1: fires nowhere",
        r"1 if no $m_i$ is above 0",
        lambda inputs: dead(inputs.state),
        bounds=(0, 1),
        whole=True,
    ),
    Statistic(
        "class_selectivity",
        "from 0 to 1, of mean peaks (Morcos et al. 2018)",
        r"$(\mu_{\max} - \mu_{\text{rest}}) / (\mu_{\max} + \mu_{\text{rest}})$, where "
        r"$\mu_{\max}$ is the largest mean peak of a class, and $\mu_{\text{rest}}$ the mean over "
        "the other classes; negative means count as 0 (Morcos et al. 2018)",
        lambda inputs: class_selectivity(inputs.class_means),
        orders={"class": "DESC"},
    ),
    Statistic(
        "best_class",
        "the class with the largest mean peak",
        r"the class $c$ with the largest mean peak, $\mu_c$",
        lambda inputs: best_class(inputs.class_means, dead(inputs.state)),
        whole=True,
        is_class=True,
    ),
    Statistic(
        "colour_r2",
        "share of the variance explained by local colour",
        "share of the variance explained by least squares on the mean red, green and blue under "
        "the receptive field",
        lambda inputs: inputs.colour_fit.explained,
        orders={"colour": "DESC"},
    ),
    Statistic(
        "brightness_r2",
        "share explained by local brightness alone",
        "share of the variance explained by the mean of the three alone",
        lambda inputs: inputs.colour_fit.by_brightness,
    ),
    *(
        Statistic(
            name,
            f"activation for the full range of {name}",
            f"coefficient of {name} in the fit by colour: activation for the full range of it, "
            "with the others fixed",
            partial(StatisticInputs.colour_coefficient, channel=channel),
        )
        for channel, name in enumerate(("red", "green", "blue"))
    ),
    Statistic(
        "brightness",
        "activation for the full range of all three together",
        "sum of the three coefficients: activation for the full range of all three together",
        lambda inputs: inputs.colour_fit.coefficients.sum(0),
        orders={"bright": "DESC", "dark": "ASC"},
    ),
)
"""All statistics, in the order of their columns."""

BY_NAME = {statistic.name: statistic for statistic in STATISTICS}
