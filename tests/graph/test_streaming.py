"""A forward pass that keeps nothing shows the same maps as one that keeps everything."""

from collections.abc import Callable, Sequence
from functools import lru_cache

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import rot180
from rot180 import Rot180Error
from rot180.graph import streaming as streaming_module
from rot180.graph.forward_pass import ForwardPass
from rot180.graph.network import Layer, Network
from rot180.graph.streaming import StreamingForward
from tests.graph.test_zoo import made
from tests.models import image, relative_error, seeded
from tests.projection.styles import SIZE, STYLES, Modules, Several

CLASSIFIERS = {
    "resnet18": 64,
    "squeezenet1_1": 64,
    "googlenet": 64,
    "mobilenet_v2": 64,
    "shufflenet_v2_x0_5": 64,
}
BATCHES = [(1, 1), (3, 3), (16, 16), (5, 8)]
"""How many images there are, and for how many it is laid out."""

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}


def shown(running: StreamingForward, images: Tensor) -> list[Tensor]:
    """Return the maps of each layer, having seen each image once; what is shown is then spoilt."""
    found = [
        torch.full(
            (len(images), one.channels, one.height, one.width), torch.nan, dtype=images.dtype
        )
        for one in running.layers
    ]
    times = torch.zeros(len(running.layers), len(images), dtype=torch.int64)

    def seen(number: int, first: int, maps: Tensor) -> None:
        times[number, first : first + len(maps)] += 1
        found[number][first : first + len(maps)] = maps

    before = images.clone()
    running.run(images, seen)
    assert (times == 1).all()
    assert torch.equal(images, before)
    return found


def same(net: Network, images: Tensor, laid_out_for: int, layers: Sequence[Layer] = ()) -> None:
    """Compare the maps of layers, all of them unless told otherwise, with those that are kept."""
    layers = layers or list(net.layers.values())
    passed = ForwardPass(net, net.batch(images))
    for layer, maps in zip(
        layers, shown(StreamingForward(net, layers, laid_out_for), images), strict=True
    ):
        assert relative_error(maps, passed.maps(layer)) < TOLERANCE[net.dtype], layer.name


@lru_cache(maxsize=1)
def captured(name: str) -> Network:
    side = CLASSIFIERS[name]
    return rot180.capture(made(name).float(), image(1, 3, side, side).float())


@lru_cache(maxsize=2)
def styles(dtype: torch.dtype) -> Network:
    return rot180.capture(seeded(Several, list(STYLES)).to(dtype), image(1, *SIZE).to(dtype))


@pytest.mark.slow
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_network_of_torchvision(name: str) -> None:
    net = captured(name)
    for count, laid_out_for in BATCHES:
        same(net, image(count, *net.input_shape, seed=count).float(), laid_out_for)


@pytest.mark.slow
@pytest.mark.parametrize(("count", "laid_out_for"), BATCHES)
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_networks_of_every_style(dtype: torch.dtype, count: int, laid_out_for: int) -> None:
    same(styles(dtype), image(count, *SIZE, seed=count).to(dtype), laid_out_for)


@pytest.mark.slow
@pytest.mark.parametrize("at_once", [1, 2**10, 2**40])
def test_however_many_images_go_together(at_once: int, monkeypatch) -> None:
    monkeypatch.setattr(streaming_module, "_CACHED_VALUES", at_once)
    for net in (styles(torch.float32), styles(torch.float64)):
        same(net, image(5, *SIZE).to(net.dtype), 8)


@pytest.mark.slow
@pytest.mark.parametrize("at_once", [1, 2**15, 2**17])
def test_branches_meet_again_where_more_images_go_together(at_once: int, monkeypatch) -> None:
    monkeypatch.setattr(streaming_module, "_CACHED_VALUES", at_once)
    net = captured(list(CLASSIFIERS)[-1])
    same(net, image(5, *net.input_shape).float(), 8)


def test_the_maps_are_those_that_the_network_gives() -> None:
    net, x = _of(lambda m, x: m.c(F.relu(m.norm(m.b(F.relu(m.a(x)))))))
    for layer, maps in zip(net.layers, shown(_running(net, 4), x), strict=True):
        assert relative_error(maps, rot180.feature_maps(net, x, layer)) < 1e-5


Written = Callable[[Modules, Tensor], Tensor]


def _of(written: Written, dtype: torch.dtype = torch.float32) -> tuple[Network, Tensor]:
    """Capture a network of this forward pass, with four images for it."""
    x = image(4, *SIZE, seed=2).to(dtype)
    return rot180.capture(seeded(Modules, written).to(dtype), x[:1]), x


def _running(net: Network, batch: int) -> StreamingForward:
    return StreamingForward(net, list(net.layers.values()), batch)


WRITTEN: dict[str, Written] = {
    "ReLU6 after zeros put around, depthwise": lambda m, x: m.point(
        F.relu6(4 * m.depthwise(F.pad(F.relu6(4 * m.a(x)), (1, 0, 0, 1))))
    ),
    "a stride after zeros on one side": lambda m, x: m.six(
        F.relu6(m.down(F.pad(F.relu(m.a(x)), (0, 1, 0, 1))))
    ),
    "a constant put around": lambda m, x: m.c(
        F.relu6(m.depthwise(F.pad(F.relu6(m.a(x)), (1, 2, 0, 1), value=0.7)))
    ),
    "a result that is used before it is rectified, too": lambda m, x: m.c(
        F.relu(z := m.b(F.relu(m.a(x)))) + z
    ),
    "a result that is used after it was rectified": lambda m, x: m.c(
        (y := F.relu(z := m.b(F.relu(m.a(x))))) * y - z
    ),
    "a result that is rectified twice": lambda m, x: m.c(
        F.relu(z := m.b(F.relu(m.a(x)))) + F.relu6(z)
    ),
    "a rectifier that is rectified": lambda m, x: m.c(F.relu6(F.relu(m.b(F.relu(m.a(x)))))),
    "a branch between a convolution and its rectifier": lambda m, x: (
        z := m.a(x),
        y := F.relu(m.b(x[:, :1].repeat(1, 4, 1, 1))),
        m.c(F.relu(z) + y),
    )[-1],
    "no rectifier": lambda m, x: m.c(m.b(m.a(x))),
    "in place on the image": lambda m, x: m.b(F.relu(m.a(F.relu_(x)))),
    "in place on a slice of the image": lambda m, x: m.b(F.relu(m.a(F.relu_(x[:, :, 1:])))),
    "in place on all of the image": lambda m, x: m.b(
        F.relu(m.a(F.relu_(x[:, :3].flatten(2)).view(-1, *SIZE)))
    ),
    "in place on another view of the image": lambda m, x: m.b(
        F.relu(m.a(F.relu_(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)))
    ),
    "in place on the middle of the image": lambda m, x: m.b(
        F.relu(m.a(F.relu_(F.interpolate(x, SIZE[1:]))))
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", WRITTEN)
def test_a_network_that_is_written_like_this(name: str, dtype: torch.dtype, monkeypatch) -> None:
    net, x = _of(WRITTEN[name], dtype)
    for at_once in (2**22, 1):
        monkeypatch.setattr(streaming_module, "_CACHED_VALUES", at_once)
        same(net, x, 4)
        for layer in net.layers.values():  # alone, where what comes after it is not there
            same(net, x, 4, [layer])
        same(net, x.contiguous(memory_format=torch.channels_last), 4)


@pytest.mark.slow
def test_layers_in_any_order() -> None:
    net = styles(torch.float32)
    x, layers = image(3, *SIZE).float(), list(net.layers.values())
    for chosen in (layers[::-1], layers[5::7], [*layers[40:], *layers[:30]]):
        same(net, x, 3, chosen)
    same(net, x, 3, [layers[4], layers[2], layers[4]])


def test_layers_are_shown_in_the_order_of_the_steps() -> None:
    net, x = _of(lambda m, x: m.c(F.relu(m.b(F.relu(m.a(x))))))
    numbers = []
    running = StreamingForward(net, [net.layers["b"], net.layers["a"]], 4)
    running.run(x, lambda number, first, maps: numbers.append((number, first, len(maps))))
    assert numbers == [(1, 0, 4), (0, 0, 4)]


@pytest.mark.slow
def test_no_batch_leaves_anything_for_the_next() -> None:
    net = styles(torch.float32)
    running = _running(net, 4)
    for count in (4, 1, 3, 4):
        x = image(count, *SIZE, seed=count).float()
        passed = ForwardPass(net, x)
        for layer, maps in zip(running.layers, shown(running, x), strict=True):
            assert relative_error(maps, passed.maps(layer)) < 1e-5


class _Sorted(nn.Module):
    """An operator of several outputs, of which both are used, between two convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        values, places = self.a(x).sort(1)
        return self.b(values + places)


@pytest.mark.slow
@pytest.mark.parametrize("at_once", [1, 2**22])
def test_several_outputs_of_one_step(at_once: int, monkeypatch) -> None:
    monkeypatch.setattr(streaming_module, "_CACHED_VALUES", at_once)
    net = rot180.capture(seeded(_Sorted).float(), image(1, *SIZE).float())
    same(net, image(5, *SIZE).float(), 8)


def test_no_layers_are_refused() -> None:
    net, _ = _of(lambda m, x: m.a(x))
    with pytest.raises(Rot180Error, match="No layer is chosen"):
        StreamingForward(net, [], 1)
