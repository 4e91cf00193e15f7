"""The second lesson: a unit of a tiny network is projected to the pixels by three methods."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from rot180.equations import Convolution, MaxPool, Network, Quadratic, ReLU
from rot180.equations.convolution import Array, rot180
from rot180.equations.deconvnet import METHODS, UNPOOLINGS, backward_signals, seed_signal
from rot180.equations.trace import Sum, Trace
from rot180.equations.wiring import Factor
from rot180.errors import Rot180Error, check_choice
from rot180.web.lessons.parse import format_grid, parse_grid
from rot180.web.lessons.serialise import Rows, SumView, rows, sum_view

SIZE = 6
"""Rows and columns of the image."""

PRESETS: dict[str, tuple[str, ...]] = {
    "bar": ("008100", "009200", "019200", "019100", "029000", "028000"),
    "edge": ("001688", "001788", "002798", "002899", "003899", "013899"),
    "corner": ("000000", "000000", "006777", "007888", "007899", "007899"),
    "cross": ("005600", "006700", "569865", "678976", "007600", "006500"),
}
"""Images to begin with: a grey from 0 to 9 for each pixel."""

FIRST = "-1,1,0;-2,2,0;-1,1,0|-1,-2,-1;1,2,1;0,0,0"
"""Kernels of the first convolution: bright to the right of dark, and bright below dark."""

SECOND = "1,-1;1,1|-1,1;2,1|1,1;-1,1|1,-1;-1,2"
"""Kernels of the second: feature 0 on the two maps below, then feature 1."""

LAYERS = ("conv1", "relu1", "pool1", "conv2", "relu2")
CHOICES = {"preset": tuple(PRESETS), "unpool": UNPOOLINGS, "feature": ("0", "1")}

Grids = list[Rows]
"""The maps of a layer, one for each feature."""


@dataclass(frozen=True)
class Unit:
    """A unit; its ``activation`` is the start of the backward pass."""

    feature: int
    y: int
    x: int
    activation: float


@dataclass(frozen=True)
class MethodTrace:
    """The backward pass of one method.

    Attributes:
        signals: the signal at the output of each layer, and the projection under "pixels".
        sums: the products behind each entry of "pool1" and "pixels"; products that contain a
            zero are left out.
    """

    signals: dict[str, Grids]
    sums: dict[str, list[SumView]]


@dataclass(frozen=True)
class ProjectionView:
    """A tiny network on a small image, and a unit projected to the pixels.

    Attributes:
        state: the query parameters of this lesson.
        unpool: the unpooling, "switches" or "repeat".
        image: the pixels.
        first, second: kernels of both convolutions, features times channels of them.
        first_turned, second_turned: the same, rotated by 180 degrees.
        maps: the output of each layer, forward.
        switches: of each pooled map, window by window, the (row, column) its maximum came from.
        sums: of "conv1" and "conv2", entry by entry, the products behind it; without zeros.
        unit: the projected unit.
        ways: the backward pass of each method.
        differs: whether the methods disagree, for each entry of each layer and of "pixels".
    """

    state: dict[str, str]
    unpool: str
    image: Rows
    first: Grids
    second: Grids
    first_turned: Grids
    second_turned: Grids
    maps: dict[str, Grids]
    switches: list[list[list[list[int]]]]
    sums: dict[str, list[SumView]]
    unit: Unit
    ways: dict[str, MethodTrace]
    differs: dict[str, list[list[list[bool]]]]


@lru_cache(16)  # a page and its JSON share the result
def build(
    preset: str = "",
    image: str = "",
    first: str = "",
    second: str = "",
    feature: str = "0",
    unit: str = "",
    unpool: str = "switches",
) -> ProjectionView:
    """Return the lesson for the query parameters of a URL.

    Args:
        preset: name of an image; by default the first, unless ``image`` is given.
        image: a grid instead of a preset.
        first, second: kernels, each a grid, with | between them.
        feature: feature of the second convolution, 0 or 1.
        unit: position ``y,x`` of the unit; by default the strongest.
        unpool: "switches" or "repeat".

    Raises:
        Rot180Error: a value is invalid.
    """
    check_choice(unpool, "unpooling", UNPOOLINGS)
    if feature not in CHOICES["feature"]:
        raise Rot180Error(f"The feature is 0 or 1, not '{feature}'.")
    preset = "" if image else preset or next(iter(PRESETS))
    if preset:
        check_choice(preset, "image", PRESETS)
        pixels = [[float(one) for one in line] for line in PRESETS[preset]]
    else:
        pixels = _exactly(image, "image", SIZE)
    kernels = _kernels(first or FIRST, "first kernels", 2, 3)
    others = _kernels(second or SECOND, "second kernels", 4, 2)
    made = _network(np.array(kernels)[:, None], np.array(others).reshape(2, 2, 2, 2))
    trace = Trace(made, np.array(pixels)[None, None])
    chosen = _unit(trace.network, int(feature), unit)
    state = {
        "preset": preset,
        "image": "" if preset else format_grid(pixels),
        "first": "|".join(map(format_grid, kernels)),
        "second": "|".join(map(format_grid, others)),
        "feature": feature,
        "unit": unit and f"{chosen.y},{chosen.x}",
        "unpool": unpool,
    }
    return _projected(trace, chosen, unpool, {k: v for k, v in state.items() if v})


def _projected(trace: Trace, unit: Unit, unpool: str, state: dict[str, str]) -> ProjectionView:
    network = trace.network
    first, second = network.weights["conv1.w"], network.weights["conv2.w"]
    maps = {name: trace.a[name][0] for name in LAYERS}
    pool = network.layers["pool1"]
    assert isinstance(pool, MaxPool)
    switches = pool.switches[0]
    top, signal = seed_signal(network, "conv2", unit.feature, (unit.y, unit.x))
    found = {method: backward_signals(network, top, signal, method, unpool) for method in METHODS}
    return ProjectionView(
        state=state,
        unpool=unpool,
        image=rows(trace.network.x[0, 0]),
        first=_grids(first),
        second=_grids(second),
        first_turned=_grids(rot180(first)),
        second_turned=_grids(rot180(second)),
        maps={name: _grids(one) for name, one in maps.items()},
        switches=[
            [
                [
                    [2 * y + int(number) // 2, 2 * x + int(number) % 2]
                    for x, number in enumerate(line)
                ]
                for y, line in enumerate(one)
            ]
            for one in switches
        ],
        sums={
            name: [
                _named(trace.z(name, (0, *at)), first.shape, second.shape)
                for at in np.ndindex(maps[name].shape)
            ]
            for name in ("conv1", "conv2")
        },
        unit=unit,
        ways={
            method: _method_trace(trace, unit, method, unpool, found[method]) for method in METHODS
        },
        differs={name: _differs(found, key) for name, key in _passed()},
    )


def _method_trace(
    trace: Trace, unit: Unit, method: str, unpool: str, found: dict[str, Array]
) -> MethodTrace:
    network = trace.network
    first, second = network.weights["conv1.w"].shape, network.weights["conv2.w"].shape
    sums = {}
    for name, at in (("pool1", "pool1"), ("pixels", "")):
        entries = []
        for place in np.ndindex(found[at].shape):
            taken = trace.projection(
                "conv2", unit.feature, place, at, (unit.y, unit.x), method, unpool
            )
            entries.append(_named(taken, first, second))
        sums[name] = entries
    return MethodTrace(
        signals={name: _grids(found[key]) for name, key in _passed()},
        sums=sums,
    )


def _passed() -> Iterator[tuple[str, str]]:
    """Yield the names of signals, here and in ``backward_signals``, from the top to the pixels."""
    yield from ((name, name) for name in reversed(LAYERS))
    yield "pixels", ""


def _differs(found: dict[str, dict[str, Array]], key: str) -> list[list[list[bool]]]:
    one, *others = (found[method][key] for method in METHODS)
    apart = np.any([np.abs(one - other) > 1e-12 for other in others], axis=0)
    said: list[list[list[bool]]] = apart.reshape(-1, *apart.shape[-2:]).tolist()
    return said


_NAMES = {
    "x": "x",
    "conv1.w": "w1",
    "conv1.b": "b1",
    "conv1.z": "z1",
    "conv1.signal": "s1",
    "pool1.a": "p",
    "pool1.signal": "sp",
    "conv2.w": "w2",
    "conv2.b": "b2",
    "conv2.z": "z2",
    "conv2.signal": "s2",
    "relu2.signal": "s2",
    "relu2.passes": "passes",
    "projection": "x̂",
}
"""Short names of what stands in the sums of this network."""


def _named(found: Sum, first: tuple[int, ...], second: tuple[int, ...]) -> SumView:
    """Return a sum with short names, without the number of the image and products with a zero."""
    single = {"x", "conv1.w", "projection"}  # have one channel, which needs no number

    def short(factor: Factor | Sum) -> tuple[str, tuple[int, ...]]:
        index = tuple(factor.index)
        if factor.name == "conv1.w":
            return "w1", (index[0], *index[2:])
        if factor.name in single:
            return _NAMES[factor.name], index[2:]
        return _NAMES[factor.name], index if factor.name.endswith((".w", ".b")) else index[1:]

    terms = []
    for term in found.terms:
        if all(factor.value for factor in term):
            named = (replace(f, name=short(f)[0], index=short(f)[1]) for f in term)
            terms.append(tuple(named))
    name, index = short(found)
    whole = Sum(name, index, found.value, tuple(terms))
    kernel = (first[0], *first[2:]) if any(f.name == "w1" for t in terms for f in t) else second
    return sum_view(whole, kernel, ("w1", "w2"))


def _network(first: Array, second: Array) -> Network:
    """Return the network: two features of 3x3, ReLU, pooling, two features of 2x2, ReLU."""
    made = Network(
        {
            "conv1": Convolution(1, 2, 3, padding="same"),
            "relu1": ReLU(),
            "pool1": MaxPool(2),
            "conv2": Convolution(2, 2, 2),
            "relu2": ReLU(),
        },
        Quadratic(),
    )
    none = np.zeros(2)
    made.load({"conv1.w": first, "conv1.b": none, "conv2.w": second, "conv2.b": none})
    return made


def _unit(network: Network, feature: int, asked: str) -> Unit:
    """Return the unit that is asked for as y,x; the strongest of the feature if none is.

    Raises:
        Rot180Error: there is no such unit.
    """
    a = network.a["relu2"][0, feature]
    y, x = (int(one) for one in np.unravel_index(a.argmax(), a.shape))
    if asked:
        parts = asked.split(",")
        if len(parts) != 2 or not all(one in ("0", "1") for one in parts):
            raise Rot180Error(
                f"There is no unit '{asked}': the maps are 2x2, and a unit is y,x, as 0,1."
            )
        y, x = int(parts[0]), int(parts[1])
    return Unit(feature, y, x, float(a[y, x]))


def _kernels(text: str, what: str, count: int, size: int) -> Grids:
    parts = text.split("|")
    if len(parts) != count:
        raise Rot180Error(
            f"The {what} are {count} grids with | between them; there are {len(parts)}."
        )
    return [_exactly(one, f"{what}' grid {k}", size) for k, one in enumerate(parts, 1)]


def _exactly(text: str, what: str, size: int) -> Rows:
    found = parse_grid(text, what, (size, size))
    if len(found) != size or len(found[0]) != size:
        raise Rot180Error(
            f"The {what} is {len(found)}x{len(found[0])}; in this lesson it is {size}x{size}."
        )
    return found


def _grids(values: Any) -> Grids:
    """Return the maps in the last two axes, one after the other."""
    flat = np.asarray(values)
    return [rows(one) for one in flat.reshape(-1, *flat.shape[-2:])]
