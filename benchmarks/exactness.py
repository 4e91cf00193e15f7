"""How far is ``rot180.equations`` from PyTorch, and from finite differences? The largest errors.

Random convolutions (batch, channels, groups, kernel, stride, border), all gradients of the network
that comes with the package, and the projection of every feature of its two layers. An error is the
largest difference over the largest value.

    python benchmarks/exactness.py [--draws 300]
"""

import argparse
from collections import defaultdict

import numpy as np
import torch
from torch.nn import functional as F

import rot180
from rot180 import equations
from rot180.equations.fast.im2col import Im2Col


def error(found: np.ndarray, wanted: torch.Tensor) -> float:
    other = wanted.detach().numpy()
    apart, largest = float(np.abs(found - other).max()), float(np.abs(other).max())
    return apart / largest if largest else apart


def convolutions(draws: int) -> dict[str, float]:
    """Compare forward, error and gradient of random convolutions with autograd, in float64."""
    rng, worst = np.random.default_rng(0), defaultdict(float)
    for _ in range(draws):
        n, groups, each, share = rng.integers(1, 4, 4).tolist()
        kernel, stride = rng.integers(1, 6, 2).tolist(), tuple(rng.integers(1, 4, 2).tolist())
        borders = tuple((a, b) for a, b in rng.integers(0, 4, (2, 2)).tolist())
        size = [k + int(extra) for k, extra in zip(kernel, rng.integers(0, 7, 2), strict=True)]
        a = rng.standard_normal((n, groups * each, *size))
        w = rng.standard_normal((groups * share, each, *kernel))
        b = rng.standard_normal(len(w))
        x, weight, bias = (torch.tensor(one, requires_grad=True) for one in (a, w, b))
        z = F.conv2d(F.pad(x, (*borders[1], *borders[0])), weight, bias, stride, groups=groups)
        delta = rng.standard_normal(z.shape)
        z.backward(torch.tensor(delta))
        patches = Im2Col(stride, borders, groups)
        found = {"forward": (patches.forward(a, w, b), z)}
        found["error"] = (patches.error(delta, w), x.grad)
        found["gradient"] = (patches.gradient(delta, w), weight.grad)
        for name, (ours, theirs) in found.items():
            worst[name] = max(worst[name], error(ours, theirs))
    return worst


def network_gradients() -> tuple[float, float]:
    """Compare the two-layer network's gradients with autograd and with finite differences."""
    checkpoint = rot180.load("two-layer")
    photos = rot180.open_dataset("photos", "test")
    x = torch.stack([checkpoint.prepare(photos.image(k)) for k in range(8)]).double()
    labels = np.arange(8)
    model = checkpoint.model.double().train()
    F.cross_entropy(model(x), torch.from_numpy(labels)).backward()
    network = checkpoint.equations()
    _, found = network.five_steps(x.numpy(), labels)
    apart = 0.0
    for name, ours in found.items():
        theirs = model.get_parameter(name.replace(".w", ".weight").replace(".b", ".bias")).grad
        apart = max(apart, error(ours, theirs))
    checks = equations.check_network(network, x[:2].numpy(), labels[:2], entries=100)
    return apart, max(one.error for one in checks)


def projections() -> dict[str, float]:
    """Compare the projection of every feature, in float32 and, by all rules, in float64."""
    checkpoint = rot180.load("two-layer")
    image = checkpoint.prepare(rot180.open_dataset("photos", "test").image(1))
    worst = defaultdict(float)
    for dtype, rules in (
        (torch.float32, [("deconvnet", "switches")]),
        (
            torch.float64,
            [(m, u) for m in ("deconvnet", "gradient", "guided") for u in ("switches", "repeat")],
        ),
    ):
        model = checkpoint.model.to(dtype)
        network = equations.Network(checkpoint.equations().layers)
        for layer in network.layers.values():
            for name, w in layer.weights.items():
                layer.weights[name] = w.astype(str(dtype).removeprefix("torch."))
        x = image.to(dtype)
        captured = rot180.capture(model, x[None])
        for method, unpool in rules:
            for layer, count in (("conv1", 32), ("conv2", 64)):
                for feature in range(count):
                    theirs = rot180.project(
                        captured, x, layer, feature, method=method, unpool=unpool
                    ).full()
                    ours = equations.project(
                        network, x[None].numpy(), layer, feature, None, method, unpool
                    )[0]
                    key = f"projection, {str(dtype).removeprefix('torch.')}"
                    worst[key] = max(worst[key], error(ours, theirs))
    return worst


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=300, help="random convolutions")
    asked = parser.parse_args()
    for name, value in convolutions(asked.draws).items():
        print(f"{asked.draws} random convolutions, {name:<9} against autograd   {value:.1e}")
    autograd, differences = network_gradients()
    print(f"two-layer network, gradients against autograd            {autograd:.1e}")
    print(f"two-layer network, gradients against finite differences  {differences:.1e}")
    for name, value in projections().items():
        print(f"all 96 features, {name:<39} {value:.1e}")


if __name__ == "__main__":
    main()
