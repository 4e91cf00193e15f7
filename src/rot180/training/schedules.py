"""How the learning rates and the averaging of weights change over the steps of a training."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from rot180.training.recipe import Recipe

Schedule = Callable[[int], float]
"""Returns the factor of the recipe's learning rates for a step, counted from 0."""
Average = Callable[[Iterable[Tensor], Iterable[Tensor], Tensor | int], None]


def learning_rate_schedule(recipe: Recipe, steps: int) -> Schedule:
    """Return a schedule that rises linearly in the warm-up and then falls linearly to zero.

    Args:
        recipe: settings, of which ``warm_up`` counts.
        steps: number of steps of the whole training.

    Example:
        >>> from rot180.training.recipe import Recipe
        >>> from rot180.training.schedules import learning_rate_schedule
        >>> schedule = learning_rate_schedule(Recipe(warm_up=0.2), 10)
        >>> [round(schedule(step), 3) for step in range(11)]
        [0.5, 1.0, 1.0, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125, 0.0]
    """
    rising = max(1.0, recipe.warm_up * steps)

    def factor(step: int) -> float:
        return min((step + 1) / rising, (steps - step) / max(1.0, steps - rising))

    return factor


def weight_average(recipe: Recipe, steps: int) -> Average:
    """Return a function for :class:`torch.optim.swa_utils.AveragedModel` (``multi_avg_fn``).

    It moves the averages towards the weights by one over the length of the average. The length is
    the share ``averaging`` of all steps, and a tenth of the steps taken while that is less.

    Args:
        recipe: settings, of which ``averaging`` counts.
        steps: number of steps of the whole training.
    """

    @torch.no_grad()
    def update(averages: Iterable[Tensor], weights: Iterable[Tensor], step: Tensor | int) -> None:
        length = min(recipe.averaging * steps, int(step) / 10) + 1
        for average, weight in zip(averages, weights, strict=True):
            average.lerp_(weight, 1 / length)

    return update
