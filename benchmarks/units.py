"""Single units, many units and whole maps carried back to pixels, on VGG-16 and ResNet-50.

Both networks are untrained: initialised by torchvision from seed 0, ResNet-50 with the statistics
of the photograph in its normalisations. The image is scikit-image's photograph of an astronaut,
the method `deconvnet` with `switches`, in float32. The parts:

units   one unit in the middle of a map of VGG-16, beside Captum's ``NeuronDeconvolution``, which
        runs the whole network forwards and the whole image backwards. Cold is a call with an
        image, its forward pass included; open is a call with what ``rot180.open_image`` returned,
        after a first one. They take turns: in each round one call of Captum and many of rot180, for
        one feature, another one in the next round; the ratio is that of the times in a round.
open    one unit in the middle of a map, the image open, for every layer of both networks.
batch   nine units of each of 64 features, on 64 crops of scikit-image's photographs:
        ``project_units`` beside ``project`` one at a time, cold, on a sample of them.
maps    the whole maps of all features of a layer: one call beside one of Captum a feature, which
        is timed for three of them and multiplied.

A limit is a ratio of multiply-adds of convolutions and linear layers. Captum's are the whole
forward pass, and all convolutions from the layer to the pixels on the way back. rot180's, for a
unit, are one channel and one position of the layer's own convolution, and of those below it the
outputs that the unit depends on; as many on the way back; when the image is open, only those. For
a whole map: the share of one feature in one forward pass up to the layer, one channel of the
layer's own convolution on the way back, and all below it.

What Captum needs is in its favour: the model is a copy, sharing the weights, whose rectifiers are
not in place (its hooks demand that), no weight asks for a gradient, and the multiplication with the
activation is not timed (for a unit; for a whole map it is a product inside the selector).

    python benchmarks/units.py [--parts units,open,batch,maps] [--maps conv1_2,conv2_2,conv3_3]
        [--rounds 7] [--size 224] [--threads 2]
"""

import argparse
import copy
import statistics
import warnings
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from captum.attr import NeuronDeconvolution
from classifiers import (
    astronaut,
    captum_macs,
    crops,
    macs,
    not_in_place,
    resnet50,
    vgg16,
)
from measuring import apart, figure, machine, met, processors, several, spread, timed
from torch import Tensor, nn

import rot180

warnings.filterwarnings("ignore", category=UserWarning)  # of Captum, at every call

Unit = tuple[int, str, int, tuple[int, int]]  # image, layer, channel, (y, x)

PARTS = ("units", "open", "batch", "maps")
LAYERS = {
    "conv1_2": "features.2",
    "conv2_2": "features.7",
    "conv3_3": "features.14",
    "conv4_3": "features.21",
    "conv5_3": "features.28",
}
# For an image of 224x224: the limit as it was reckoned beforehand, and the ratio aimed at.
COLD = {
    "conv1_2": (None, 2500),
    "conv2_2": (2200, 700),
    "conv3_3": (112, 85),
    "conv4_3": (13.6, 11),
    "conv5_3": (2.08, 1.8),
}
OPEN = {
    "conv1_2": (None, 4000),
    "conv2_2": (4400, 1200),
    "conv3_3": (224, 160),
    "conv4_3": (27, 20),
    "conv5_3": (4.2, 3.2),
}
OPEN_MS, CONV5_MS, CONV5 = 100, 160, ("features.24", "features.26", "features.28")
BATCH = {"conv1_2": 0.5, "conv2_2": 0.5, "conv3_3": 0.75}  # of the time one at a time, at most
IMAGES, FEATURES, UNITS, SAMPLE = 64, 64, 9, 48
MAPS = ("conv1_2", "conv2_2", "conv3_3")
MAPS_SHARE, MAPS_TIMED = 0.7, 3  # of the limit, at least; features that Captum is timed for


def active(net: Any, image: Tensor, layer: str, position: tuple[int, int], count: int) -> list[int]:
    """Return the first features that are active at a position; zero would have nothing to do."""
    values = rot180.feature_maps(net, image, layer)[0, :, *position]
    return values.gt(0).nonzero().flatten().tolist()[:count]


def middle(net: Any, layer: str) -> tuple[int, int]:
    return net.layers[layer].height // 2, net.layers[layer].width // 2


def beside_captum(net: Any, model: nn.Module, image: Tensor, layer: str, rounds: int) -> dict:
    """Let one layer's units take turns; return seconds of each round, and the difference."""
    position = middle(net, layer)
    channels = active(net, image, layer, position, rounds)
    rectifier = model.get_submodule(f"features.{int(layer.removeprefix('features.')) + 1}")
    captum = NeuronDeconvolution(model, rectifier)
    captum.attribute(image[None].clone(), (channels[0], *position))
    opened = rot180.open_image(net, image)
    found: dict[str, list[float]] = {"captum": [], "cold": [], "open": [], "apart": []}
    for number in range(rounds):
        channel = channels[number % len(channels)]
        x = image[None].clone()
        wanted, seconds = timed(partial(captum.attribute, x, (channel, *position)))
        found["captum"].append(seconds)
        for name, source in (("cold", image), ("open", opened)):
            call = partial(rot180.project, net, source, layer, channel, position)
            p = call()
            found["apart"].append(apart(p.full(), wanted[0] * p.activation))
            found[name].append(statistics.median(several(call)))
    return found


def exactness(net: Any, model: nn.Module, image: Tensor, layer: str, channel: int) -> list[float]:
    """Return the largest differences to Captum in float64, cold and open."""
    position = middle(net, layer)
    rectifier = model.get_submodule(f"features.{int(layer.removeprefix('features.')) + 1}")
    unit = (channel, *position)
    wanted = NeuronDeconvolution(model, rectifier).attribute(image[None].clone(), unit)[0]
    found = []
    for source in (image, rot180.open_image(net, image)):
        p = rot180.project(net, source, layer, channel, position, method="deconvnet")
        found.append(apart(p.full(), wanted * p.activation))
    return found


def units(model: nn.Module, size: int, rounds: int) -> None:
    image = astronaut(size)
    net, theirs = rot180.capture(model, image[None]), not_in_place(model)
    found = {}
    for name, layer in LAYERS.items():
        found[name] = beside_captum(net, theirs, image, layer, rounds)
    theirs = copy.deepcopy(theirs).double()
    net64, image64 = (
        rot180.capture(copy.deepcopy(model).double(), image[None].double()),
        image.double(),
    )
    for name, layer in LAYERS.items():
        channel = active(net64, image64, layer, middle(net64, layer), 1)[0]
        exact = exactness(net64, theirs, image64, layer, channel)
        found[name] |= dict(zip(("cold64", "open64"), exact, strict=True))
    for state, goals in (("cold", COLD), ("open", OPEN)):
        print(
            f"\n{state + ':':<9}{'Captum, ms':>22}{'rot180, ms':>25}{'ratio':>24}{'limit':>8}"
            f"{'set':>6}{'share':>10}{'target':>8}{'met':>5}{'apart':>9}{'in 64':>9}"
        )
        for name, layer in LAYERS.items():
            captum, own = found[name]["captum"], found[name][state]
            ratios = [a / b for a, b in zip(captum, own, strict=True)]
            counted = sum(macs(model, layer, size, unit=True))
            limit = captum_macs(model, layer, size) / counted
            limit /= 2 if state == "cold" else 1
            ratio, (reckoned, target) = statistics.median(ratios), goals[name]
            print(
                f"{name:<9}{spread([1e3 * one for one in captum]):>22}"
                f"{spread([1e3 * one for one in own]):>25}{spread(ratios):>24}"
                f"{figure(limit):>8}{figure(reckoned):>6}{figure(ratio / limit):>10}"
                f"{target:>8}{met(ratio >= target):>5}{max(found[name]['apart']):>9.0e}"
                f"{found[name][state + '64']:>9.0e}"
            )
    print(
        f"\n{rounds} rounds; median (least to most). limit: by multiply-adds; set: as reckoned "
        "beforehand; share of the limit reached; apart: largest difference to Captum over "
        "its largest value, cold and open; in 64: the same in float64."
    )


def opened(model: nn.Module, size: int) -> None:
    image = astronaut(size)
    for name, one in (("VGG-16", model), ("ResNet-50", resnet50(image))):
        net = rot180.capture(one, image[None])
        rows = []
        for layer in net.layers:
            position = middle(net, layer)
            source = rot180.open_image(net, image)
            channel, *_ = active(net, image, layer, position, 1)
            call = partial(rot180.project, net, source, layer, channel, position)
            first = timed(call)[1]
            rows.append((layer, 1e3 * first, [1e3 * seconds for seconds in several(call)]))
        print(
            f"\n{name + ', slowest:':<27}{'first, ms':>10}{'open, ms':>25}{'target':>8}{'met':>5}"
        )
        rows.sort(key=lambda row: -statistics.median(row[2]))
        for number, (layer, first, own) in enumerate(rows):
            target = CONV5_MS if name == "VGG-16" and layer in CONV5 else OPEN_MS
            if name == "VGG-16" and layer.startswith("classifier"):
                print(f"{layer:<27}{figure(first):>10}{spread(own):>25}{'-':>8}{'-':>5}")
                continue
            reached = statistics.median(own) < target
            if number < 9 or not reached:
                print(
                    f"{layer:<27}{figure(first):>10}{spread(own):>25}{target:>8}{met(reached):>5}"
                )
        medians = [statistics.median(own) for *_, own in rows]
        print(f"{len(rows)} layers; ms, median of the layers: {spread(medians)}.")
    print("first: the call after opening, with the forward pass to the layer.")


def drawn(net: Any, images: Tensor, layer: str, rng: np.random.Generator) -> list[Unit]:
    """Draw units feature by feature, each on any image, anywhere that the feature is active.

    That is: above a tenth of its largest value there. A smaller activation is the difference of
    large sums, of which rounding leaves few digits, and all of the projection is multiplied by it.
    """
    pairs = [(int(rng.integers(IMAGES)), c) for c in range(FEATURES) for _ in range(UNITS)]
    found: dict[int, Unit] = {}
    for number, image in enumerate(images):
        maps = rot180.feature_maps(net, image, layer)[0]
        for place, (chosen, channel) in enumerate(pairs):
            if chosen == number:
                here = maps[channel].gt(maps[channel].max().clamp(min=0) / 10).nonzero()
                here = here if len(here) else torch.ones_like(maps[channel]).nonzero()
                y, x = here[int(rng.integers(len(here)))].tolist()
                found[place] = (number, layer, channel, (y, x))
    return [found[place] for place in range(len(pairs))]


def batch(model: nn.Module, size: int, rounds: int) -> None:
    rng = np.random.default_rng(0)
    images = crops(rng, IMAGES, size)
    net = rot180.capture(model, images[:1])
    print(
        f"\n{'':<9}{'ms a unit: one at a time':>29}{'together':>25}{'ratio':>24}{'target':>8}"
        f"{'met':>5}{'apart':>9}{'equal':>7}"
    )
    for name, target in BATCH.items():
        chosen = drawn(net, images, LAYERS[name], rng)
        sample = sorted(rng.choice(len(chosen), SAMPLE, replace=False).tolist())

        def alone(number: int, chosen: list[Unit] = chosen) -> Any:
            image, layer, channel, position = chosen[number]
            return rot180.project(net, images[image], layer, channel, position, method="deconvnet")

        def together(chosen: list[Unit] = chosen, sample: list[int] = sample) -> list[Any]:
            every = enumerate(rot180.project_units(net, images, chosen, method="deconvnet"))
            return [p for number, p in every if number in sample]

        one, all_, largest = [], [], 0.0
        alone(sample[0])
        for _ in range(rounds):
            these, seconds = timed(together)
            all_.append(1e3 * seconds / len(chosen))
            those, seconds = timed(lambda: [alone(number) for number in sample])  # noqa: B023
            one.append(1e3 * seconds / len(sample))
            pairs = zip(these, those, strict=True)
            largest = max(largest, *(apart(a.full(), b.full()) for a, b in pairs))
        ratios = [a / b for a, b in zip(all_, one, strict=True)]
        print(
            f"{name:<9}{spread(one):>29}{spread(all_):>25}{spread(ratios):>24}{target:>8}"
            f"{met(statistics.median(ratios) <= target):>5}{largest:>9.0e}{met(largest < 1e-5):>7}"
        )
    print(
        f"{len(chosen)} units, {SAMPLE} of them one at a time; {rounds} rounds; median (least to "
        "most). apart: largest difference over the largest value; equal: below 1e-5."
    )


def whole_map(channel: int, out: Tensor) -> Tensor:
    """Select for Captum a sum whose gradient is the map itself; one value an image."""
    return (out[:, channel] * out[:, channel].detach()).sum(dim=(1, 2))


def maps(model: nn.Module, size: int, rounds: int, names: Sequence[str]) -> None:
    image = astronaut(size)
    net, theirs = rot180.capture(model, image[None]), not_in_place(model)
    print(
        f"\n{'':<9}{'features':>9}{'ms each: Captum':>22}{'rot180':>22}{'ratio':>24}{'limit':>7}"
        f"{'share':>7}{'target':>8}{'met':>5}{'apart':>9}"
    )
    for name in names:
        layer = LAYERS[name]
        count = net.layers[layer].channels
        rectifier = theirs.get_submodule(f"features.{int(layer.removeprefix('features.')) + 1}")
        captum = NeuronDeconvolution(theirs, rectifier)
        captum.attribute(image[None].clone(), partial(whole_map, 0))
        both: dict[str, list[float]] = {"captum": [], "own": []}
        largest = 0.0
        for _ in range(rounds):
            every, seconds = timed(partial(rot180.project, net, image, layer, None))
            both["own"].append(1e3 * seconds / count)
            spent = 0.0
            for channel in range(0, count, -(-count // MAPS_TIMED)):
                call = partial(captum.attribute, image[None].clone(), partial(whole_map, channel))
                wanted, seconds = timed(call)
                spent += 1e3 * seconds / MAPS_TIMED
                largest = max(largest, apart(every[channel].full(), wanted[0]))
            both["captum"].append(spent)
        ratios = [a / b for a, b in zip(both["captum"], both["own"], strict=True)]
        *below, last = macs(model, layer, size, unit=False)
        limit = captum_macs(model, layer, size)
        limit /= (sum(below) + last * count) / count + sum(below) + last
        share = statistics.median(ratios) / limit
        print(
            f"{name:<9}{count:>9}{spread(both['captum']):>22}{spread(both['own']):>22}"
            f"{spread(ratios):>24}{figure(limit):>7}{share:>7.2f}{MAPS_SHARE:>8}"
            f"{met(share >= MAPS_SHARE):>5}{largest:>9.0e}"
        )
    print(
        f"{rounds} rounds; median (least to most). Captum: {MAPS_TIMED} features timed a round, "
        "and as many compared; rot180: one call, over the features. share: of the limit."
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--maps", default=",".join(MAPS), help="layers of the part maps")
    parser.add_argument(
        "--rounds", type=int, default=7, help="of units; at most 3 of batch and maps"
    )
    parser.add_argument("--size", type=int, default=224, help="side of the images, pixels")
    parser.add_argument("--threads", type=int, default=processors())
    asked = parser.parse_args()
    parts, names = asked.parts.split(","), asked.maps.split(",")
    for given, known in ((parts, PARTS), (names, tuple(LAYERS))):
        for one in given:
            if one not in known:
                parser.error(f"There is no {one!r}; there are {', '.join(known)}.")
    torch.set_num_threads(asked.threads)
    model, few = vgg16(), min(asked.rounds, 3)
    print(f"Images of {asked.size}x{asked.size}, float32. {machine(asked.threads)}.")
    if "units" in parts:
        units(model, asked.size, asked.rounds)
    if "open" in parts:
        opened(model, asked.size)
    if "batch" in parts:
        batch(model, asked.size, few)
    if "maps" in parts:
        maps(model, asked.size, few, names)


if __name__ == "__main__":
    main()
