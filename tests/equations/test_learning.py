"""Networks learn by their gradients, on one thread and on several, and the seed decides how."""

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rot180.equations import (
    SGD,
    Adam,
    Convolution,
    DataParallel,
    Dense,
    Dropout,
    Flatten,
    MaxPool,
    Network,
    Optimizer,
    Quadratic,
    ReLU,
    Sigmoid,
    Tanh,
    fit,
)
from tests.equations.cases import (
    Array,
    classes,
    normal,
    relative,
)

seeds = st.integers(0, 99)


OPTIMIZERS: dict[str, Callable[[], Optimizer]] = {
    "descent": lambda: SGD(0.5),
    "momentum": lambda: SGD(0.1, momentum=0.9),
    "nesterov": lambda: SGD(0.1, momentum=0.9, nesterov=True),
    "adam": lambda: Adam(0.03),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("last", [Sigmoid, Tanh])
def test_exclusive_or_is_learned(name: str, last: type[Sigmoid] | type[Tanh]) -> None:
    rng = np.random.default_rng(1)
    net = Network([Dense(2, 8, rng), Tanh(), Dense(8, 1, rng), last()], Quadratic())
    x, y = np.array([[0.0, 0], [0, 1], [1, 0], [1, 1]]), np.array([[0.0], [1], [1], [0]])
    rounds = 300 if last is Tanh else 1500
    history = fit(net, x, y, epochs=rounds, batch=4, optimizer=OPTIMIZERS[name]())
    assert np.abs(net.scores(x) - y).max() < 0.2
    assert history[-1]["cost"] < history[0]["cost"] / 10
    assert np.isnan(history[-1]["accuracy"])  # one output is no class


def stripes(n: int, seed: int) -> tuple[Array, Array]:
    """Draw noisy stripes, upright (class 0) or level (class 1), of any phase."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n)
    wave = np.sin(np.arange(8) * 1.5 + rng.uniform(0, 6, (n, 1)))
    level = np.broadcast_to(wave[:, :, None], (n, 8, 8))
    pattern = np.where(labels[:, None, None] == 0, level.transpose(0, 2, 1), level)
    return (pattern + rng.normal(0, 0.3, pattern.shape))[:, None], labels


def striped(seed: int = 0) -> Network:
    """Return a network that can distinguish the stripes."""
    rng = np.random.default_rng(seed)
    return Network(
        {
            "conv": Convolution(1, 4, 3, rng=rng),
            "relu": ReLU(),
            "pool": MaxPool(2),
            "flatten": Flatten(),
            "head": Dense(4 * 9, 2, rng),
        }
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", [*OPTIMIZERS, "default"])
def test_stripes_are_learned_with_a_convolution(name: str) -> None:
    net, (x, labels), epochs_seen = striped(), stripes(640, 0), []
    optimizer = {**OPTIMIZERS, "default": lambda: None}[name]()
    history = fit(
        net,
        x,
        labels,
        epochs=4,
        batch=16,
        optimizer=optimizer,
        on_epoch=lambda *values: epochs_seen.append(values),
    )
    assert net.accuracy(*stripes(200, 1)) > 0.95
    assert [tuple(epoch.values()) for epoch in history] == epochs_seen
    assert [list(epoch) for epoch in history] == [["epoch", "cost", "accuracy"]] * 4
    assert [epoch["epoch"] for epoch in history] == [1, 2, 3, 4]
    assert history[-1]["cost"] < history[0]["cost"]
    assert 0.95 < history[-1]["accuracy"] <= 1


def test_the_history_is_that_of_the_images_before_their_step() -> None:
    net, (x, labels) = striped(), stripes(50, 0)
    costs, _ = striped().five_steps(x, labels)
    right = (striped().scores(x).argmax(1) == labels).mean()
    (epoch,) = fit(net, x, labels, batch=16, optimizer=SGD(1e-300))  # nothing moves
    assert epoch["cost"] == pytest.approx(costs.mean(), rel=1e-12)
    assert epoch["accuracy"] == right


def test_one_step_goes_downhill_by_the_rate_times_the_gradient() -> None:
    net, (x, labels) = striped(), stripes(30, 0)
    _, gradients = striped().five_steps(x, labels)
    fit(net, x, labels, batch=30, optimizer=SGD(0.25))
    for name, w in striped().weights.items():
        assert relative(net.weights[name], w - 0.25 * gradients[name]) < 1e-12


def dropping(seed: int = 0) -> Network:
    """Return a network with 6 inputs, 3 classes and dropout."""
    rng = np.random.default_rng(seed)
    layers = {"hidden": Dense(6, 20, rng), "tanh": Tanh(), "dropout": Dropout(0.4)}
    return Network({**layers, "head": Dense(20, 3, rng)})


def test_the_seed_decides() -> None:
    x, labels = normal(40, 6), classes(3, 40)
    trained = []
    for seed, threads in ((1, 1), (1, 1), (2, 1), (1, 3), (1, 3)):
        net = dropping()
        fit(net, x, labels, epochs=3, batch=16, seed=seed, threads=threads)
        trained.append(net.weights)
    for name in trained[0]:
        assert np.array_equal(trained[0][name], trained[1][name])
        assert np.array_equal(trained[3][name], trained[4][name])  # whichever thread finished first
        assert relative(trained[3][name], trained[0][name]) < 1e-10
        assert relative(trained[2][name], trained[0][name]) > 1e-3


def test_the_seed_decides_the_order_of_the_images() -> None:
    x, labels = stripes(60, 0)
    trained = []
    for seed in (1, 1, 2):
        net = striped()
        fit(net, x, labels, batch=16, seed=seed)
        trained.append(net.weights["conv.w"])
    assert np.array_equal(trained[0], trained[1])
    assert relative(trained[2], trained[0]) > 1e-3


def test_nothing_is_dropped_after_training() -> None:
    net, x = dropping(), normal(20, 6)
    net.set_training(True)
    assert not np.array_equal(net.five_steps(x, classes(3, 20))[0], 0)
    assert np.array_equal(net.scores(x), net.scores(x))
    kept = Network({name: layer for name, layer in net.layers.items() if name != "dropout"})
    assert np.array_equal(net.scores(x), kept.scores(x))
    fit(net, x, classes(3, 20))
    assert np.array_equal(net.scores(x), kept.scores(x))
    labels = kept.scores(x).argmax(1)
    labels[:5] = (labels[:5] + 1) % 3
    assert net.accuracy(x, labels) == net.accuracy(x, np.eye(3)[labels]) == 0.75


# Threads.


def flat(arrays: dict[str, Array]) -> Array:
    """Return all numbers in one row, in the order of the names."""
    return np.concatenate([arrays[name].ravel() for name in sorted(arrays)])


@pytest.mark.slow
@settings(max_examples=20, deadline=None)
@given(
    batches=st.lists(st.integers(1, 30), min_size=1, max_size=3),
    threads=st.integers(1, 4),
    micro_batch=st.integers(1, 31),
    seed=seeds,
)
def test_threads_return_the_gradients_of_one_pass(
    batches, threads: int, micro_batch: int, seed: int
) -> None:
    alone, together = striped(seed), striped(seed)
    with DataParallel(together, threads, micro_batch) as parallel:
        for number, n in enumerate(batches):
            x, labels = stripes(n, seed + number)
            costs, gradients = alone.five_steps(x, labels)
            result = parallel.five_steps(x, labels)
            assert relative(flat(result.gradients), flat(gradients)) < 1e-12
            assert result.cost == pytest.approx(costs.mean(), rel=1e-12)
            assert (result.images, result.correct) == (
                n,
                (alone.a["head"].argmax(1) == labels).sum(),
            )
            for weights in (
                alone.weights,
                together.weights,
            ):  # they read the weights in each batch
                weights["conv.w"][...] *= 1.5
                weights["head.b"][...] += 0.25


@pytest.mark.slow
@settings(max_examples=10, deadline=None)
@given(threads=st.integers(2, 4), micro_batch=st.integers(1, 12), seed=seeds)
def test_what_is_dropped_does_not_depend_on_the_number_of_threads(
    threads, micro_batch, seed
) -> None:
    x, labels = normal(30, 6, seed=seed), classes(3, 30, seed)
    with (
        DataParallel(dropping(), 1, micro_batch, seed) as single,
        DataParallel(dropping(), threads, micro_batch, seed) as many,
        DataParallel(dropping(), 1, micro_batch, seed + 1) as other,
    ):
        steps = []
        for _ in range(3):
            expected, actual, apart = (
                flat(parallel.five_steps(x, labels).gradients) for parallel in (single, many, other)
            )
            assert relative(actual, expected) < 1e-12
            assert relative(apart, expected) > 1e-3
            steps.append(expected)
    for first, second in itertools.pairwise(steps):
        assert relative(first, second) > 1e-3  # drawn anew in each step


def test_micro_batches_do_not_drop_the_same() -> None:
    net = Network({"dropout": Dropout(0.5), "head": Dense(50, 2)})
    net.weights["head.w"][...] = 0
    x, labels = np.ones((2, 50)), np.array([0, 0])
    with DataParallel(net, micro_batch=1) as parallel:
        gradient = parallel.five_steps(x, labels).gradients["head.w"]
    # To each weight an image adds nothing or its error, which is 1/2 here; its sign is the class's.
    assert np.array_equal(np.unique(gradient.round(12)), [-1, -0.5, 0, 0.5, 1])
