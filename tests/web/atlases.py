"""What the tests of the explorer show: small atlases, and how to ask a server for them."""

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
from rot180.atlas.atlas import Atlas
from rot180.atlas.model import load_scanned_model
from rot180.models.model import Model


def late_one(folder: Path) -> Path:
    """Scan the network of the package."""
    return _scanned(rot180.load("two-layer"), folder / "late.atlas")


def early_one(folder: Path) -> Path:
    """Scan a network that is that of the package with noise on its weights."""
    early = rot180.load("two-layer")
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in early.model.parameters():
            noise = torch.randn(weight.shape, generator=generator)
            weight.add_(noise * 0.5 * weight.std() if weight.numel() > 1 else 0)
    early.save(folder / "early.safetensors")
    return _scanned(rot180.load(str(folder / "early.safetensors")), folder / "early.atlas")


def _scanned(model: Model, path: Path) -> Path:
    rot180.scan(model, rot180.open_dataset("photos", "test"), path, sample=200, batch=64).close()
    return path


def opened(paths: Sequence[Path]) -> list[Atlas]:
    return [rot180.open(path) for path in paths]


def loader(atlas: Atlas) -> Model:
    return load_scanned_model(atlas, device="cpu")


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
