"""The engines of a training: PyTorch, and rot180's own equations in NumPy.

Both update the weights of the same model, in place, by the same recipe.
"""

import os
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from threadpoolctl import ThreadpoolController
from torch import Tensor
from torch.nn import functional as F
from torch.optim.lr_scheduler import LambdaLR

from rot180 import equations
from rot180.errors import Rot180Error, suggest
from rot180.models.two_layer import TwoLayer, equations_network
from rot180.training.muon import Muon
from rot180.training.recipe import Recipe
from rot180.training.schedules import Schedule


@runtime_checkable
class Engine(Protocol):
    """Back-propagation and the updates of the weights."""

    def step(self, x: Float[Tensor, "n h w c"], labels: Int[np.ndarray, " n"]) -> tuple[float, int]:
        """Take one step; return the mean loss and the number of correct predictions."""

    def state(self) -> dict[str, Tensor]:
        """Return the state of the optimizers."""

    def restore(self, state: Mapping[str, Tensor], steps: int) -> None:
        """Continue after so many steps, from what :meth:`state` returned.

        Raises:
            Rot180Error: the state is not that of an engine of this kind for this network.
        """

    def close(self) -> None:
        """End all threads."""


class TorchEngine:
    """Autograd and PyTorch's optimizers, on the device of the model."""

    def __init__(self, model: TwoLayer, recipe: Recipe, schedule: Schedule) -> None:
        self.model, self.smoothing, self.schedule = model, recipe.smoothing, schedule
        second = model.conv2.weight
        biases = [p for p in model.parameters() if p.ndim == 1]
        weights = [p for p in model.parameters() if p.ndim > 1 and p is not second]
        groups = [
            {"params": weights, "weight_decay": recipe.weight_decay},
            {"params": biases, "weight_decay": 0.0},
        ]
        self.optimizers = [
            torch.optim.SGD(groups, lr=recipe.rate, momentum=0.9, nesterov=True),
            Muon([second], lr=recipe.kernel_rate),
        ]
        self.schedulers = [LambdaLR(optimizer, schedule) for optimizer in self.optimizers]

    def step(self, x: Float[Tensor, "n h w c"], labels: Int[np.ndarray, " n"]) -> tuple[float, int]:
        """Take one step; see :class:`Engine`."""
        y = torch.from_numpy(labels).to(x.device)
        scores = self.model.train()(x.permute(0, 3, 1, 2))
        loss = F.cross_entropy(scores, y, label_smoothing=self.smoothing)
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        for optimizer, scheduler in zip(self.optimizers, self.schedulers, strict=True):
            optimizer.step()
            scheduler.step()
        return float(loss.detach()), int((scores.detach().argmax(1) == y).sum())

    def state(self) -> dict[str, Tensor]:
        """Return the state of the optimizers."""
        return {
            f"{number}.{index}.{name}": values
            for number, optimizer in enumerate(self.optimizers)
            for index, state in optimizer.state_dict()["state"].items()
            for name, values in state.items()
        }

    def restore(self, state: Mapping[str, Tensor], steps: int) -> None:
        """Continue after so many steps; see :class:`Engine`."""
        sgd, muon = (
            [w for group in optimizer.param_groups for w in group["params"]]
            for optimizer in self.optimizers
        )
        expected = {f"0.{index}.momentum_buffer": w.shape for index, w in enumerate(sgd)}
        expected |= {f"1.{index}.average": w.shape for index, w in enumerate(muon)}
        _check_state(state, expected)
        states: list[dict[int, dict[str, Any]]] = [{} for _ in self.optimizers]
        for key, values in state.items():
            number, index, name = key.split(".", 2)
            states[int(number)].setdefault(int(index), {})[name] = values.clone()
        for optimizer, restored in zip(self.optimizers, states, strict=True):
            optimizer.load_state_dict({**optimizer.state_dict(), "state": restored})
        self.schedulers = [
            LambdaLR(optimizer, self.schedule, last_epoch=steps - 1)
            for optimizer in self.optimizers
        ]

    def close(self) -> None:
        """Do nothing: there are no threads to end."""


class EquationsEngine:
    """Back-propagation in NumPy. Each batch is divided among as many threads as there are CPUs.

    Raises:
        Rot180Error: the model is not on the CPU.
    """

    def __init__(self, model: TwoLayer, recipe: Recipe, schedule: Schedule) -> None:
        self.network = equations_network(model, recipe.smoothing)
        self.recipe, self.blas, self.schedule = recipe, ThreadpoolController(), schedule
        self.second = equations.Muon(recipe.kernel_rate)
        self.others = equations.SGD(
            recipe.rate, momentum=0.9, nesterov=True, weight_decay=recipe.weight_decay
        )
        self.team = equations.DataParallel(self.network, threads=_processors(), seed=recipe.seed)

    def step(self, x: Float[Tensor, "n h w c"], labels: Int[np.ndarray, " n"]) -> tuple[float, int]:
        """Take one step; see :class:`Engine`."""
        factor = self.schedule(self.team.steps)
        with self.blas.limit(limits=1, user_api="blas"):  # the threads of the team suffice
            found = self.team.five_steps(x.numpy().transpose(0, 3, 1, 2), labels)
        self.second.rate = factor * self.recipe.kernel_rate
        self.others.rate = factor * self.recipe.rate
        gradients = dict(found.gradients)
        weights = self.network.weights
        self.second.step(weights, {"conv2.w": gradients.pop("conv2.w")})
        self.others.step(weights, gradients)
        return found.cost, int(found.correct)

    def state(self) -> dict[str, Tensor]:
        """Return the state of the optimizers."""
        return {
            f"{attribute}:{name}": torch.from_numpy(values)
            for attribute, optimizer in (("second", self.second), ("others", self.others))
            for name, values in optimizer.state.items()
        }

    def restore(self, state: Mapping[str, Tensor], steps: int) -> None:
        """Continue after so many steps; see :class:`Engine`."""
        expected: dict[str, tuple[int, ...]] = {}
        for name, w in self.network.weights.items():
            second = name == "conv2.w"
            expected[f"second:{name}/mean" if second else f"others:{name}/velocity"] = w.shape
        _check_state(state, expected)
        for key, tensor in state.items():
            attribute, _, name = key.partition(":")
            values = tensor.numpy().copy()
            memory = getattr(self, attribute).state
            memory[name] = equations.channels_last(values) if values.ndim == 4 else values
        self.team.steps = steps

    def close(self) -> None:
        """End the threads of the team."""
        self.team.close()


ENGINES: dict[str, type[TorchEngine] | type[EquationsEngine]] = {
    "pytorch": TorchEngine,
    "equations": EquationsEngine,
}


def make_engine(name: str, model: TwoLayer, recipe: Recipe, schedule: Schedule) -> Engine:
    """Return a new engine for a model.

    Args:
        name: "pytorch" or "equations".
        model: network whose weights the engine updates.
        recipe: settings of the training.
        schedule: factor of the learning rates for each step.

    Raises:
        Rot180Error: there is no engine of this name, or it does not support the model's device.
    """
    check_engine(name)
    return ENGINES[name](model, recipe, schedule)


def check_engine(name: str) -> None:
    """Check the name of an engine.

    Raises:
        Rot180Error: there is no engine of this name.
    """
    if name not in ENGINES:
        raise Rot180Error(f"There is no engine '{name}'. There are: {suggest(ENGINES, name)}.")


def _check_state(state: Mapping[str, Tensor], expected: Mapping[str, tuple[int, ...]]) -> None:
    """Check that the state of an engine has these names and shapes, and finite values.

    Raises:
        Rot180Error: names, shapes, types or values are others.
    """
    for name in [*expected, *state]:
        shapes = [tuple(expected[name]) if name in expected else None]
        shapes.append(tuple(state[name].shape) if name in state else None)
        if shapes[0] != shapes[1]:
            shown = ["absent" if shape is None else str(shape)[:80] for shape in shapes]
            raise Rot180Error(f"'{name[:80]}' should be {shown[0]} and is {shown[1]}.")
        values = state[name]
        if values.dtype != torch.float32:
            dtype = str(values.dtype).removeprefix("torch.")
            raise Rot180Error(f"'{name}' is of the type {dtype}.")
        if not torch.isfinite(values).all():
            raise Rot180Error(f"'{name}' holds values that are infinite or NaN.")


def _processors() -> int:
    """Return the number of CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
