"""The fingerprint of a captured network: 32 hexadecimal digits for what it computes."""

import hashlib
from dataclasses import fields, is_dataclass
from functools import partial
from typing import Any

from torch import Tensor

from rot180.graph.network import Network


def fingerprint(network: Network) -> str:
    """Return the start of a SHA-256 of all steps, their inputs, shapes, settings and weights.

    Two captures of the same model have the same fingerprint; names of modules do not count.
    """
    digest = hashlib.sha256()

    def add(value: Any) -> None:
        if isinstance(value, Tensor):
            add((str(value.dtype), tuple(value.shape)))
            if value.numel():
                digest.update(value.detach().cpu().contiguous().flatten().numpy().data)
        elif is_dataclass(value) and not isinstance(value, type):
            digest.update(type(value).__name__.encode())
            for field in fields(value):
                if not field.name.startswith("_"):
                    add(getattr(value, field.name))
        elif isinstance(value, tuple | list):
            digest.update(f"({len(value)}".encode())
            for item in value:
                add(item)
        elif isinstance(value, dict):
            add(sorted(value.items()))
        elif isinstance(value, partial):
            add(sorted(value.keywords.items()))
        elif isinstance(value, str | int | float | bool | None):
            digest.update(f"{value!r};".encode())
        # Anything else is a function, for which the operator's name and settings stand.

    add(network.input_shape)
    for step in network.steps:
        add((step.inputs, step.shape, step.axes))
        add(step.operator)
    add(network.outputs)
    return digest.hexdigest()[:32]
