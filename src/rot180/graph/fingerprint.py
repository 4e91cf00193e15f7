"""A captured network in 32 hexadecimal digits: what it computes, weights included."""

import hashlib
from dataclasses import fields, is_dataclass
from functools import partial
from typing import Any

from torch import Tensor

from rot180.graph.network import Network


def fingerprint(network: Network) -> str:
    """Return the start of a SHA-256 of all steps, their inputs, shapes, settings and weights.

    Two captures of the same model have the same; names of modules do not count.
    """
    digest = hashlib.sha256()

    def add(value: Any) -> None:
        if isinstance(value, Tensor):
            add((str(value.dtype), tuple(value.shape)))
            if value.numel():
                digest.update(value.detach().cpu().contiguous().flatten().numpy().data)
        elif is_dataclass(value) and not isinstance(value, type):
            digest.update(type(value).__name__.encode())
            for one in fields(value):
                if not one.name.startswith("_"):
                    add(getattr(value, one.name))
        elif isinstance(value, tuple | list):
            digest.update(f"({len(value)}".encode())
            for one in value:
                add(one)
        elif isinstance(value, dict):
            add(sorted(value.items()))
        elif isinstance(value, partial):
            add(sorted(value.keywords.items()))
        elif isinstance(value, str | int | float | bool | None):
            digest.update(f"{value!r};".encode())
        # What else an operator holds are functions, which its name and its settings stand for.

    add(network.input_shape)
    for step in network.steps:
        add((step.inputs, step.shape, step.axes))
        add(step.operator)
    add(network.outputs)
    return digest.hexdigest()[:32]
