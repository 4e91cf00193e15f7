"""Event files hold what a training reports."""

from pathlib import Path

import pytest

from rot180.training.loop import train
from tests.training.helpers import RECIPE, stripes


@pytest.mark.slow
def test_event_files_can_be_read_back(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from rot180.training.tensorboard import TensorBoardLogger

    events = TensorBoardLogger(tmp_path / "events")
    found = train(
        stripes(64, 0), stripes(50, 1), RECIPE, tmp_path / "x.safetensors", callbacks=(events,)
    )
    read = EventAccumulator(str(tmp_path / "events")).Reload()
    held_out = [one.value for one in read.Scalars("epoch/held_out")]
    assert held_out == pytest.approx([one["held_out"] for one in found.history])
    assert len(read.Scalars("step/loss")) == 6
