"""The deconvnet: a feature goes back to the pixels, by the same convolutions as the error.

Zeiler & Fergus (ECCV 2014) keep one feature map, set all else to zero, and walk back: unpool,
rectify, filter with the transposed kernels. Unpooling by switches is the error's way through a
maximum; filtering is the full convolution with the rotated kernel. Only the rectifier differs.
"""

from typing import Any

import numpy as np

from rot180.equations.activations import ReLU
from rot180.equations.convolution import Array
from rot180.equations.network import Network
from rot180.equations.pooling import MaxPool
from rot180.errors import Rot180Error, as_int, check_choice

METHODS = ("deconvnet", "gradient", "guided")
UNPOOLINGS = ("switches", "repeat")


def project(
    network: Network,
    x: Array,
    layer: str,
    feature: int,
    position: tuple[int, int] | str | None = None,
    method: str = "deconvnet",
    unpool: str = "switches",
) -> Array:
    """Carry a feature, or a unit of it, back to the pixels of the images.

    The signal starts with the activation itself, after the rectifier that directly follows the
    layer, where one does. Biases take no part.

    Args:
        network: the network.
        x: images (n, c, h, w).
        layer: name of a layer whose output is maps (n, c, y, x), as a convolution's.
        feature: number of one of these maps.
        position: None for the whole map, "peak" for its strongest unit on each image, or (y, x).
        method: at a rectifier the signal s becomes max(s, 0) ("deconvnet"), s where the unit fired
            and else 0 ("gradient"), or max(s, 0) where it fired and else 0 ("guided").
        unpool: at a maximum, "switches" (to where it was) or "repeat" (to the whole window).

    Returns:
        (n, c, h, w), in the units of the images.

    Raises:
        Rot180Error: there is no such layer, feature, position, method or unpooling.

    Example:
        >>> import numpy as np
        >>> from rot180.equations import Convolution, Network, ReLU, project
        >>> network = Network({"conv": Convolution(1, 2, 3), "relu": ReLU()})
        >>> image = np.random.default_rng(0).normal(size=(1, 1, 5, 5))
        >>> project(network, image, "conv", feature=1, position="peak").shape
        (1, 1, 5, 5)
    """
    network.training(False)
    network.input(x)
    network.feed_forward()
    top, signal = start(network, layer, feature, position)
    return signals(network, top, signal, method, unpool)[""]


def start(network: Network, layer: str, feature: int, position: Any = None) -> tuple[str, Array]:
    """Return where the way back begins, after the rectifier if there is one, and the signal there.

    The network has to have been fed forward. Arguments and errors as for :func:`project`.
    """
    names = list(network.layers)
    check_choice(layer, "layer", names)
    after = names.index(layer) + 1
    rectified = after < len(names) and isinstance(network.layers[names[after]], ReLU)
    top = names[after] if rectified else layer
    a, feature = network.a[top], as_int(feature, "The feature")
    if a.ndim != 4 or not 0 <= feature < a.shape[1]:
        raise Rot180Error(f"There is no feature {feature} in '{layer}', whose maps are {a.shape}.")
    signal = np.zeros_like(a)
    if isinstance(position, np.ndarray):
        position = tuple(position.tolist())
    match position:
        case None:
            signal[:, feature] = a[:, feature]
        case "peak":
            for image, one in enumerate(a[:, feature]):
                y, x = np.unravel_index(one.argmax(), one.shape)
                signal[image, feature, y, x] = one[y, x]
        case (_, _) if all(
            0 <= as_int(one, "A coordinate of a position") < size
            for one, size in zip(position, a.shape[2:], strict=True)
        ):
            y, x = position
            signal[:, feature, y, x] = a[:, feature, y, x]
        case _:
            raise Rot180Error(
                f"There is no position {position} in '{layer}', whose maps are {a.shape[2]}x"
                f"{a.shape[3]}; it is None, 'peak', or (y, x)."
            )
    return top, signal


def signals(
    network: Network,
    top: str,
    signal: Array,
    method: str = "deconvnet",
    unpool: str = "switches",
) -> dict[str, Array]:
    """Walk back from the output of a layer, and return the signal at the output of each below it.

    The pixels stand under the empty name. Arguments and errors as for :func:`project`.
    """
    check_choice(method, "method", METHODS)
    check_choice(unpool, "unpooling", UNPOOLINGS)
    names = ["", *network.layers]
    found = {top: signal}
    for place in range(names.index(top), 0, -1):
        layer = network.layers[names[place]]
        if isinstance(layer, ReLU):
            if method != "deconvnet":
                signal = signal * layer.derivative()
            if method != "gradient":
                signal = np.maximum(signal, 0)
        elif isinstance(layer, MaxPool) and unpool == "repeat":
            signal = layer.repeat(signal).copy()
        else:
            signal = layer.backward(signal).copy()
        found[names[place - 1]] = signal
    return found
