"""``rot180.project``: which pixels made a feature fire."""

from collections.abc import Sequence
from functools import partial
from typing import Any, overload

import numpy as np
import torch
from torch import Tensor

from rot180.errors import Rot180Error, as_int
from rot180.graph.forward_pass import ForwardPass
from rot180.graph.network import Layer, Network
from rot180.projection.automatic import redraw_blank, resolve_rules
from rot180.projection.batch import UnitRequest, crop_from
from rot180.projection.compound import project_from_activations, project_from_crops
from rot180.projection.result import Projection, Projections
from rot180.projection.rules import Rules
from rot180.projection.rules import rules as named_rules

Position = tuple[int, int] | str | None
"""None: the whole map; "peak": its strongest unit; or (y, x)."""

_MEMORY = 2**25
"""Largest number of values in one tensor of a forward pass of several images."""


@overload
def project(
    network: Network,
    image: Tensor | ForwardPass,
    layer: str,
    channel: int,
    position: Position = None,
    method: str = "auto",
    unpool: str = "switches",
) -> Projection: ...
@overload
def project(
    network: Network,
    image: Tensor | ForwardPass,
    layer: str,
    channel: int | Sequence[int] | None = None,
    position: Position = None,
    method: str = "auto",
    unpool: str = "switches",
) -> Projection | Projections: ...
def project(
    network: Any,
    image: Any,
    layer: Any,
    channel: Any = None,
    position: Any = None,
    method: Any = "auto",
    unpool: Any = "switches",
) -> Projection | Projections:
    """Carry a feature back to the pixels that made it fire.

    The image goes forward to the layer. There the feature's map, or one position of it, is kept and
    all else set to zero; that signal (the activations themselves, not ones) goes back through the
    same network with every step reversed. Biases take no part.

    Args:
        network: from :func:`rot180.capture`.
        image: a normalised image (c, h, w), a batch (n, c, h, w), or what
            :func:`rot180.open_image` returned, so that the forward pass need not be repeated.
        layer: name of a layer of the network.
        channel: the feature; several; or None for all features of the layer.
        position: None for the whole feature map, "peak" for its strongest unit (the first of equal
            ones, row by row), or (y, x).
        method: one of ``rot180.projection.rules.METHODS``, or "auto": the one that was measured
            to be the most faithful at this layer (see ``rot180.projection.automatic``). That
            takes some seconds for a deep layer, once; ``rules.method`` of the result names it.
        unpool: "switches" or "repeat".

    Returns:
        A :class:`Projection` for one image and one feature, else :class:`Projections`. They are
        made in batches: the forward pass runs once for an image.

    Raises:
        Rot180Error: the layer, feature, position, method or unpooling does not exist, or the image
            is not of the size that the network was captured for.

    Source: Zeiler & Fergus, Visualizing and Understanding Convolutional Networks, ECCV 2014.

    Example:
        >>> import rot180
        >>> trained = rot180.load("two-layer")
        >>> image = trained.prepare(rot180.open_dataset("photos", "test").image(1))
        >>> p = rot180.project(trained.network(), image, "conv2", 40, position="peak")
        >>> p.position, tuple(p.box), tuple(p.pixels.shape)
        ((7, 4), (8, 2, 22, 16), (3, 14, 14))
        >>> tuple(p.full().shape)
        (3, 32, 32)
        >>> every = rot180.project(trained.network(), image, "conv2", method="guided")
        >>> len(every), tuple(every.full().shape)
        (64, (64, 3, 32, 32))
    """
    if not isinstance(network, Network):
        raise Rot180Error(
            f"project takes a network that rot180.capture returned, not {type(network).__name__}."
        )
    named_rules(method, unpool)  # says at once what is wrong
    place = network.layer(layer)
    opened = image if isinstance(image, ForwardPass) else None
    if opened is not None and opened.network is not network:
        raise Rot180Error("This image was opened by another network; open it with this one.")
    local = isinstance(position, tuple | list)
    batch = network.batch(image, finite=not local) if opened is None else opened.images
    if len(batch) == 0:
        raise Rot180Error("The batch holds no image.")
    several = opened is None and image.ndim == 4
    single = isinstance(channel, int) or (channel is not None and np.ndim(channel) == 0)
    wanted = range(place.channels) if channel is None else [channel] if single else channel
    chosen = [network.check_channel(place, one) for one in wanted]
    if not chosen:
        raise Rot180Error("No feature is chosen; channel=None stands for all of them.")
    position = check_position(place, position)
    rules = resolve_rules(network, place, method, unpool)

    if opened is None and isinstance(position, tuple):
        requests = [UnitRequest(n, place, c, position) for n in range(len(batch)) for c in chosen]
        found = project_from_crops(network, requests, crop_from(batch), rules)

        def project_again(numbers: list[int], rules: Rules) -> list[Projection]:
            these = [requests[n] for n in numbers]
            return project_from_crops(network, these, crop_from(batch), rules)

        redraw_blank(network, method, unpool, found, project_again)
    else:
        found = []
        for images in [batch] if opened is not None else torch.split(batch, _at_once(network)):
            passed = opened or ForwardPass(
                network, images, rules.backward, frozenset({place.output_step})
            )
            requests = [
                UnitRequest(
                    n, place, c, passed.peak(place, n, c) if position == "peak" else position
                )
                for n in range(len(images))
                for c in chosen
            ]
            some = project_from_activations(network, passed, requests, rules)
            anew = partial(_project_again, network, images, opened, requests)
            redraw_blank(network, method, unpool, some, anew)
            found += some
    if not several and single:
        return found[0]
    shape = (len(batch),) * several + (len(chosen),) * (not single)
    return Projections(tuple(found), shape)


def _project_again(
    network: Network,
    images: Tensor,
    opened: ForwardPass | None,
    requests: Sequence[UnitRequest],
    numbers: list[int],
    rules: Rules,
) -> list[Projection]:
    """Project some of the requests on whole images by other rules."""
    these = [requests[n] for n in numbers]
    held = frozenset(one.layer.output_step for one in these)
    passed = opened or ForwardPass(network, images, rules.backward, held)
    return project_from_activations(network, passed, these, rules)


def _at_once(network: Network) -> int:
    """Return how many images go forward together, so that no tensor becomes too large."""
    return max(1, _MEMORY // max(network.full_plan("deconvnet", frozenset()).largest, 1))


def check_position(layer: Layer, position: Any) -> Position:
    """Return the position if the layer has it.

    Raises:
        Rot180Error: it has not, or this is none.
    """
    if position is None or (isinstance(position, str) and position == "peak"):
        return position
    if isinstance(position, str) or np.shape(position) != (2,):
        raise Rot180Error(f"A position is None, 'peak' or (y, x); this one is {position!r}.")
    y, x = (as_int(one, "A coordinate of a position") for one in position)
    if not (0 <= y < layer.height and 0 <= x < layer.width):
        raise Rot180Error(
            f"The position {(y, x)} lies outside the maps of layer '{layer.name}', which have "
            f"{layer.height} rows and {layer.width} columns: y goes from 0 to {layer.height - 1}, "
            f"x from 0 to {layer.width - 1}."
        )
    return y, x
