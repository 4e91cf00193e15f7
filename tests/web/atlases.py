"""What the tests of the explorer show: small atlases, and how to ask a server for them."""

import copy
import http.client
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import numpy as np
import torch
from PIL import Image

import rot180
from rot180.atlas.reading import Atlas
from rot180.atlas.scanned import model_of
from rot180.networks.model import NamedModel


def early_and_late(folder: Path) -> tuple[Path, Path]:
    """Scan the network of the package, and one that is it with noise on its weights."""
    late = rot180.load("two-layer")
    early = copy.deepcopy(late)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in early.model.parameters():
            noise = torch.randn(weight.shape, generator=generator)
            weight.add_(noise * 0.5 * weight.std() if weight.numel() > 1 else 0)
    early.save(folder / "early.safetensors")
    data = rot180.open_dataset("photos", "test")
    paths = folder / "early.atlas", folder / "late.atlas"
    named = rot180.load(str(folder / "early.safetensors"))
    for path, model in zip(paths, (named, late), strict=True):
        rot180.scan(model, data, path, sample=200, batch=64).close()
    return paths


def opened(paths: Sequence[Path]) -> list[Atlas]:
    return [rot180.open(path) for path in paths]


def loader(atlas: Atlas) -> NamedModel:
    return model_of(atlas, device="cpu")


class Answer(NamedTuple):
    """What a server answered."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def pixels(self) -> np.ndarray:
        return np.asarray(Image.open(io.BytesIO(self.body)))


def ask(
    address: str,
    path: str,
    method: str = "GET",
    body: Any = None,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """Send one request as it is written; nothing is put in order on the way."""
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=60)
    try:
        connection.request(method, path, body, dict(headers or {}))
        answer = connection.getresponse()
        found = {name.lower(): value for name, value in answer.getheaders()}
        return Answer(answer.status, found, answer.read())
    finally:
        connection.close()
