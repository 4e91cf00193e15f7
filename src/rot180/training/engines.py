"""What takes the steps of a training: PyTorch, or rot180's own equations in NumPy.

Both work on the weights of the same model, in place, and follow the same recipe.
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

from rot180 import equations
from rot180.errors import Rot180Error, as_int, suggest
from rot180.models.two_layer import TwoLayer, equations_network
from rot180.training.muon import Muon
from rot180.training.recipe import Recipe


@runtime_checkable
class Engine(Protocol):
    """Back-propagation and the step downhill."""

    def step(
        self, x: Float[Tensor, "n h w c"], labels: Int[np.ndarray, " n"], share: float
    ) -> tuple[float, int]:
        """Take one step at a share of the recipe's rates; return mean loss and hits."""

    def state(self) -> dict[str, Tensor]:
        """Return what is remembered between steps, besides the weights."""

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take back what :meth:`state` returned.

        Raises:
            Rot180Error: this is the state of another network, or of none.
        """

    def close(self) -> None:
        """Let go of threads."""


class TorchEngine:
    """Autograd and PyTorch's optimizers, on the device of the model."""

    def __init__(self, model: TwoLayer, recipe: Recipe) -> None:
        self.model, self.smoothing = model, recipe.smoothing
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

    def step(
        self, x: Float[Tensor, "n h w c"], labels: Int[np.ndarray, " n"], share: float
    ) -> tuple[float, int]:
        """Take one step; see :class:`Engine`."""
        y = torch.from_numpy(labels).to(x.device)
        scores = self.model.train()(x.permute(0, 3, 1, 2))
        loss = F.cross_entropy(scores, y, label_smoothing=self.smoothing)
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = share * optimizer.defaults["lr"]
            optimizer.step()
        return float(loss.detach()), int((scores.detach().argmax(1) == y).sum())

    def state(self) -> dict[str, Tensor]:
        """Return the optimizers' memory."""
        return {
            f"{number}.{place}.{name}": one
            for number, optimizer in enumerate(self.optimizers)
            for place, state in optimizer.state_dict()["state"].items()
            for name, one in state.items()
        }

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take it back."""
        smooth, kernels = (
            [w for group in one.param_groups for w in group["params"]] for one in self.optimizers
        )
        wanted = {f"0.{place}.momentum_buffer": w.shape for place, w in enumerate(smooth)}
        wanted |= {f"1.{place}.average": w.shape for place, w in enumerate(kernels)}
        _check_state(state, wanted)
        states: list[dict[int, dict[str, Any]]] = [{} for _ in self.optimizers]
        for key, one in state.items():
            number, place, name = key.split(".", 2)
            states[int(number)].setdefault(int(place), {})[name] = one.clone()
        for optimizer, found in zip(self.optimizers, states, strict=True):
            optimizer.load_state_dict({**optimizer.state_dict(), "state": found})

    def close(self) -> None:
        """Nothing to let go of."""


class EquationsEngine:
    """The five steps in NumPy, each batch shared among as many threads as there are processors.

    Raises:
        Rot180Error: the model is on another device than the processor.
    """

    def __init__(self, model: TwoLayer, recipe: Recipe) -> None:
        self.network = equations_network(model, recipe.smoothing)
        self.recipe, self.blas = recipe, ThreadpoolController()
        self.second = equations.Orthogonal(recipe.kernel_rate)
        self.others = equations.SGD(
            recipe.rate, momentum=0.9, nesterov=True, weight_decay=recipe.weight_decay
        )
        self.team = equations.Team(self.network, threads=_processors(), seed=recipe.seed)

    def step(
        self, x: Float[Tensor, "n h w c"], labels: Int[np.ndarray, " n"], share: float
    ) -> tuple[float, int]:
        """Take one step; see :class:`Engine`."""
        with self.blas.limit(limits=1, user_api="blas"):  # the team has the threads
            found = self.team.five_steps(x.numpy().transpose(0, 3, 1, 2), labels)
        self.second.rate = share * self.recipe.kernel_rate
        self.others.rate = share * self.recipe.rate
        gradients = dict(found.gradients)
        weights = self.network.weights
        self.second.step(weights, {"conv2.w": gradients.pop("conv2.w")})
        self.others.step(weights, gradients)
        return found.cost, int(found.right)

    def state(self) -> dict[str, Tensor]:
        """Return the optimizers' memory and the number of steps taken."""
        state = {"steps": torch.tensor(self.team.steps)}
        for what, optimizer in (("second", self.second), ("others", self.others)):
            for name, one in optimizer.state.items():
                state[f"{what}:{name}"] = torch.from_numpy(one)
        return state

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take it back."""
        wanted: dict[str, tuple[int, ...]] = {"steps": ()}
        for name, w in self.network.weights.items():
            second = name == "conv2.w"
            wanted[f"second:{name}/mean" if second else f"others:{name}/velocity"] = w.shape
        _check_state(state, wanted)
        for key, one in state.items():
            what, _, name = key.partition(":")
            if what == "steps":
                self.team.steps = as_int(one.item(), "The number of steps")
            else:
                values = one.numpy().copy()
                memory = getattr(self, what).state
                memory[name] = equations.channels_last(values) if values.ndim == 4 else values

    def close(self) -> None:
        """End the team's threads."""
        self.team.close()


ENGINES: dict[str, type[TorchEngine] | type[EquationsEngine]] = {
    "pytorch": TorchEngine,
    "equations": EquationsEngine,
}


def make_engine(name: str, model: TwoLayer, recipe: Recipe) -> Engine:
    """Return the engine of this name for a model.

    Raises:
        Rot180Error: there is none, or it cannot work where the model is.
    """
    check_engine(name)
    return ENGINES[name](model, recipe)


def check_engine(name: str) -> None:
    """Look a name up.

    Raises:
        Rot180Error: there is no engine of this name.
    """
    if name not in ENGINES:
        raise Rot180Error(f"There is no engine '{name}'. There are: {suggest(ENGINES, name)}.")


def _check_state(state: Mapping[str, Tensor], wanted: Mapping[str, tuple[int, ...]]) -> None:
    """See that what was remembered is of this network.

    Raises:
        Rot180Error: names, shapes, types or values are others.
    """
    for name in [*wanted, *state]:
        shapes = [tuple(wanted[name]) if name in wanted else None]
        shapes.append(tuple(state[name].shape) if name in state else None)
        if shapes[0] != shapes[1]:
            said = ["absent" if one is None else str(one)[:80] for one in shapes]
            raise Rot180Error(f"'{name[:80]}' should be {said[0]} and is {said[1]}.")
        one = state[name]
        whole = name == "steps"
        if one.dtype != (torch.int64 if whole else torch.float32):
            raise Rot180Error(f"'{name}' is of the type {str(one.dtype).removeprefix('torch.')}.")
        if not torch.isfinite(one).all() or (whole and int(one) < 1):
            raise Rot180Error(f"'{name}' holds values that no step leaves.")


def _processors() -> int:
    """Return how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
