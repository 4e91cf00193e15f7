"""Small data sets in every form that rot180 opens, written by the tests themselves."""

import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from rot180.datasets import Dataset


def pixels(seed: int, height: int = 8, width: int = 10, channels: int = 3) -> np.ndarray:
    """Noise, the same for the same seed."""
    shape = (height, width, channels)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def encoded(array: np.ndarray, kind: str = "PNG") -> bytes:
    """The bytes of an image file."""
    buffer = io.BytesIO()
    Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array).save(buffer, kind)
    return buffer.getvalue()


def put(path: Path, data: bytes) -> Path:
    """Write a file and the directories above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def put_images(root: Path, names: Sequence[str], seed: int = 0) -> Path:
    """PNG files of noise below ``root``."""
    for number, name in enumerate(names):
        put(root / name, encoded(pixels(seed + number)))
    return root


def put_parquet(
    path: Path,
    images: Sequence[bytes | None],
    labels: Sequence[int | None] | None = None,
    names: Sequence[str] = (),
    *,
    column: str = "image",
    plain: bool = False,
    group: int = 4,
) -> Path:
    """A Parquet file in the layout of Hugging Face's ``datasets``."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if plain:
        table = {column: pa.array(images, pa.binary())}
    else:
        rows = [{"bytes": data, "path": "x.png"} for data in images]
        kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
        table = {column: pa.array(rows, kind)}
    if labels is not None:
        table["label"] = pa.array(labels, pa.int64())
    made = pa.table(table)
    if names:
        info = {"info": {"features": {"label": {"names": list(names), "_type": "ClassLabel"}}}}
        made = made.replace_schema_metadata({"huggingface": json.dumps(info)})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(made, path, row_group_size=group)
    return path


def put_binary_cifar(root: Path, records: int = 3) -> np.ndarray:
    """The binary CIFAR-10 with a few records a file; returns the train images (n, 32, 32, 3)."""
    images = []
    for name in [*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"]:
        content = b""
        for record in range(records):
            image = pixels(len(images), 32, 32)
            images.append(image)
            content += bytes([(len(images) - 1) % 10]) + image.transpose(2, 0, 1).tobytes()
            assert len(content) == 3073 * (record + 1)
        put(root / name, content)
    classes = "airplane automobile bird cat deer dog frog horse ship truck"
    put(root / "batches.meta.txt", (classes.replace(" ", "\n") + "\n\n").encode())
    return np.stack(images[: 5 * records])


def everything(dataset: Dataset) -> list[bytes]:
    """The pixels of every image."""
    return [dataset.image(index).tobytes() for index in range(len(dataset))]
