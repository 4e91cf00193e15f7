"""The deconvnet: projects a feature to the pixels, by the convolutions that carry the error.

Zeiler & Fergus (ECCV 2014) keep one feature map, set all others to zero, and go backward: unpool,
rectify, filter with the transposed kernels. Unpooling by switches is the backward pass of a
maximum, and filtering is the full convolution with the rotated kernel. Only the rectifier differs
from the backward pass of the error.
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
    """Project a feature, or one unit of it, to the pixels of the images.

    The signal starts with the activation, after the rectifier if one follows the layer directly.
    Biases do not enter.

    Args:
        network: the network.
        x: (n, c, h, w), images.
        layer: name of a layer whose output is maps (n, c, y, x), for example a convolution.
        feature: number of one of these maps.
        position: None for the whole map, "peak" for its strongest unit on each image, or (y, x).
        method: rule for the signal s at a rectifier: max(s, 0) ("deconvnet"); s where the unit
            fired, else 0 ("gradient"); max(s, 0) where the unit fired, else 0 ("guided").
        unpool: rule for a maximum: its signal goes to its position ("switches") or to the whole
            window ("repeat").

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
    network.set_training(False)
    network.input(x)
    network.feed_forward()
    top, signal = seed_signal(network, layer, feature, position)
    return backward_signals(network, top, signal, method, unpool)[""]


def seed_signal(
    network: Network, layer: str, feature: int, position: Any = None
) -> tuple[str, Array]:
    """Return the layer at which a projection starts, and the signal at its output.

    The layer is the rectifier if one follows ``layer`` directly. The network must have taken its
    forward pass. Arguments and errors are those of :func:`project`.
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
            for image, feature_map in enumerate(a[:, feature]):
                y, x = np.unravel_index(feature_map.argmax(), feature_map.shape)
                signal[image, feature, y, x] = feature_map[y, x]
        case (_, _) if all(
            0 <= as_int(coordinate, "A coordinate of a position") < size
            for coordinate, size in zip(position, a.shape[2:], strict=True)
        ):
            y, x = position
            signal[:, feature, y, x] = a[:, feature, y, x]
        case _:
            raise Rot180Error(
                f"There is no position {position} in '{layer}', whose maps are {a.shape[2]}x"
                f"{a.shape[3]}; it is None, 'peak', or (y, x)."
            )
    return top, signal


def backward_signals(
    network: Network,
    top: str,
    signal: Array,
    method: str = "deconvnet",
    unpool: str = "switches",
) -> dict[str, Array]:
    """Return the signal at the output of each layer, from a given one down to the pixels.

    The signal at the pixels has the empty name.

    Args:
        network: the network, after its forward pass.
        top: name of the layer at whose output the signal starts.
        signal: (n, c, y, x), the signal at that output.
        method, unpool: see :func:`project`.

    Raises:
        Rot180Error: there is no such method or unpooling.
    """
    check_choice(method, "method", METHODS)
    check_choice(unpool, "unpooling", UNPOOLINGS)
    names = ["", *network.layers]
    by_layer = {top: signal}
    for position in range(names.index(top), 0, -1):
        layer = network.layers[names[position]]
        if isinstance(layer, ReLU):
            if method != "deconvnet":
                signal = signal * layer.derivative()
            if method != "gradient":
                signal = np.maximum(signal, 0)
        elif isinstance(layer, MaxPool) and unpool == "repeat":
            signal = layer.repeat(signal).copy()
        else:
            signal = layer.backward(signal).copy()
        by_layer[names[position - 1]] = signal
    return by_layer
