"""Does the cost of ``rot180 inspect`` grow as the depth of a network, or faster?

Plain networks (convolution, batch normalisation, ReLU) and residual ones of more and more layers:
the processor's seconds for PyTorch's export, for the rest of ``rot180.capture``, for the report.
What the last two cost a layer stays as it is where the cost grows as the depth.

    python benchmarks/depth.py [--layers 50 100 200 400] [--channels 8] [--size 32]
"""

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from measuring import figure, machine
from torch import Tensor, nn

import rot180


class Block(nn.Module):
    """Two layers and a sum around them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(*layer(channels), *layer(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Add what the layers make of the maps to the maps."""
        return x + self.inner(x)


def layer(channels: int) -> tuple[nn.Module, ...]:
    """Return a layer that lets its input pass, so that values stay as they are at any depth."""
    convolution = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
    nn.init.dirac_(convolution.weight)
    return convolution, nn.BatchNorm2d(channels), nn.ReLU()


def plain(depth: int, channels: int) -> nn.Module:
    return nn.Sequential(*(one for _ in range(depth) for one in layer(channels))).eval()


def residual(depth: int, channels: int) -> nn.Module:
    return nn.Sequential(*(Block(channels) for _ in range(depth // 2))).eval()


def seconds(call: Callable[[], Any]) -> tuple[Any, float]:
    """Return what a call returns, and the seconds that the processor was at work for it."""
    started = time.process_time()
    found = call()
    return found, time.process_time() - started


@contextmanager
def clocked() -> Iterator[list[float]]:
    """Note the seconds that PyTorch takes to export, while others ask for it."""
    found: list[float] = []

    def noted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **named: Any) -> Any:
            result, taken = seconds(lambda: function(*given, **named))
            found.append(taken)
            return result

        return call

    program = torch.export.ExportedProgram
    with (
        patch.object(torch.export, "export", noted(torch.export.export)),
        patch.object(program, "run_decompositions", noted(program.run_decompositions)),
    ):
        yield found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, nargs="+", default=[50, 100, 200, 400])
    parser.add_argument("--channels", type=int, default=8)
    parser.add_argument("--size", type=int, default=32, help="rows and columns of the image")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    print(machine(1))
    x = torch.zeros(1, asked.channels, asked.size, asked.size)
    print("Seconds that the processor was at work; of capture those beside the export.")
    print(
        f"{'network':>9} {'layers':>6} {'export':>7} {'capture':>8} {'report':>7} "
        f"{'ms per layer':>13}"
    )
    for name, make in (("plain", plain), ("residual", residual)):
        rot180.report(rot180.capture(make(2, asked.channels), x))  # what is made once
        for depth in asked.layers:
            model = make(depth, asked.channels)
            with clocked() as export:
                net, capture = seconds(lambda model=model: rot180.capture(model, x))
            _, report = seconds(net.report)
            capture -= sum(export)
            print(
                f"{name:>9} {depth:>6} {figure(sum(export)):>7} {figure(capture):>8} "
                f"{figure(report):>7} {figure(1000 * (capture + report) / depth):>13}",
                flush=True,
            )


if __name__ == "__main__":
    main()
