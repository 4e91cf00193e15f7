"""Logging of a training to TensorBoard event files."""

from pathlib import Path

from rot180.errors import Rot180Error


class TensorBoardLogger:
    """Writes loss, accuracies and speed to event files that TensorBoard reads.

    Args:
        directory: directory of the event files.

    Raises:
        Rot180Error: the package ``tensorboard`` is not installed.
    """

    def __init__(self, directory: str | Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise Rot180Error(
                "TensorBoard event files need the package 'tensorboard': pip install "
                "'rot180[tensorboard]'."
            ) from error
        try:
            self._writer = SummaryWriter(str(directory))
        except OSError as error:
            raise Rot180Error(f"Cannot write event files to {directory}: {error}.") from error

    def on_step(self, epoch: int, step: int, steps: int, values: dict[str, float]) -> None:
        """Write the running means of a step."""
        for name, value in values.items():
            self._writer.add_scalar(f"step/{name}", value, epoch * steps + step)

    def on_epoch(self, values: dict[str, float]) -> None:
        """Write the values of an epoch."""
        for name in ("loss", "accuracy", "held_out"):
            self._writer.add_scalar(f"epoch/{name}", values[name], int(values["epoch"]))
        self._writer.flush()
