"""Models that compute with the number of their images, or move the axis that the images lie along.

The oracle are differences of the model itself: autograd has been wrong for some memory layouts.
"""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import rot180
from rot180 import Rot180Error
from tests.differences import check_gradient, maps_of
from tests.models import image, relative_error, seeded
from tests.projection.styles import normalised

METHODS = ("deconvnet", "gradient", "guided")


class Between(nn.Module):
    """Two convolutions, and between them whatever is done to the maps (n, 8, 8, 8)."""

    def __init__(self, between: Callable[["Between", Tensor], Tensor]) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 8, 3, padding=1)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.qkv = nn.Linear(8, 24)
        self.mlp = nn.Linear(8, 8)
        self.lstm = nn.LSTM(8, 4, batch_first=True, bidirectional=True)
        self.gru = nn.GRU(8, 8)
        self.group, self.instance = (
            normalised(nn.GroupNorm(2, 8)),
            normalised(nn.InstanceNorm2d(8, affine=True)),
        )
        self.b = nn.Conv2d(8, 4, 3)
        self.each = nn.Conv2d(1, 1, 3, padding=1)
        self.between = between

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.between(self, self.a(x)))


def windows(m: Between, x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    t = x.view(n, c, h // 4, 4, w // 4, 4).permute(0, 2, 4, 3, 5, 1).reshape(-1, 16, c)
    t = m.mlp(t.softmax(1))
    return t.view(n, h // 4, w // 4, 4, 4, c).permute(0, 5, 1, 3, 2, 4).reshape(n, c, h, w)


def tokens(x: Tensor) -> Tensor:
    return x.flatten(2).transpose(1, 2)


def maps(t: Tensor) -> Tensor:
    return t.transpose(1, 2).reshape(len(t), 8, 8, 8)


def qkv(m: Between, x: Tensor) -> Tensor:
    t = tokens(x)
    q, k, v = m.qkv(t).reshape(len(t), 64, 3, 2, 4).permute(2, 0, 3, 1, 4).unbind(0)
    return maps(((q @ k.mT).softmax(-1) @ v).transpose(1, 2).reshape(len(t), 64, 8))


def coordinates(m: Between, x: Tensor) -> Tensor:
    rows = torch.linspace(-1, 1, 8, dtype=x.dtype).view(1, 1, 8, 1).expand(len(x), 1, 8, 8)
    return torch.cat([x[:, :7], rows], 1)


def transformed(m: Between, x: Tensor) -> Tensor:
    theta = torch.eye(2, 3, dtype=x.dtype).expand(len(x), 2, 3) * 0.8
    return F.grid_sample(x, F.affine_grid(theta, x.shape, align_corners=False), align_corners=False)


def classed(m: Between, x: Tensor) -> Tensor:
    t = torch.cat([torch.ones(1, 1, 8, dtype=x.dtype).expand(len(x), 1, 8), tokens(x)], 1)
    return maps(t[:, 1:] * t[:, :1] + t.mean(1, keepdim=True))


IDIOMS: dict[str, Callable[[Between, Tensor], Tensor]] = {
    "windows merged into the batch": windows,
    "channels merged into the batch": lambda m, x: m.each(x.view(len(x) * 8, 1, 8, 8)).view(
        x.shape
    ),
    "channels flattened into the batch": lambda m, x: F.avg_pool2d(
        x.flatten(0, 1)[:, None], 3, 1, 1
    )[:, 0].view(x.shape),
    "maxima of maps in the batch": lambda m, x: F.max_pool2d(
        x.reshape(-1, 2, 8, 8), 3, 1, 1
    ).reshape(x.shape),
    "norm of maps in the batch": lambda m, x: F.instance_norm(x.reshape(-1, 2, 8, 8)).view(x.shape),
    "coordinates": coordinates,
    "spread to the number of images": lambda m, x: x + coordinates(m, x)[:, 7:],
    "zeros for each image": lambda m, x: x + torch.zeros(len(x), 8, 8, 8, dtype=x.dtype),
    "new zeros": lambda m, x: x + x.new_ones(len(x), 1, 8, 8),
    "spatial transformer": transformed,
    "attention": qkv,
    "a view changed, and a type asserted": lambda m, x: (
        x.flatten(1).clamp_(min=-1).view(x.shape)
        + (x.flatten(0, 1) @ x.flatten(0, 1)).softmax(-1).to(x.dtype).view(x.shape)
    ),
    "channels padded, and images by none": lambda m, x: F.pad(x[:, 2:], (0, 0, 0, 0, 1, 1, 0, 0)),
    "attention of PyTorch": lambda m, x: maps(m.attention(*[tokens(x)] * 3, need_weights=False)[0]),
    "a token for the class": classed,
    "stacked along the first axis": lambda m, x: torch.stack([x, x.relu()]).sum(0),
    "the largest of a stack": lambda m, x: torch.stack([x, x.flip(-1), -x]).amax(0),
    "images one by one": lambda m, x: torch.cat([m.mlp(i.movedim(0, -1))[None] for i in x]).movedim(
        -1, 1
    ),
    "squeezed": lambda m, x: x * m.mlp(x.mean((2, 3)).squeeze())[..., None, None].sigmoid(),
    "recurrent over columns": lambda m, x: (
        x + m.lstm(x.mean(2).transpose(1, 2))[0].transpose(1, 2)[:, :, None]
    ),
    "recurrent, time first": lambda m, x: (
        x * m.gru(x.mean(2).permute(2, 0, 1))[1][0][..., None, None]
    ),
    "chunks of the channels": lambda m, x: torch.cat(torch.chunk(x, 3, 1)[::-1], 1),
    "einsum": lambda m, x: torch.einsum("bchw,bdhw->bcd", x, x).softmax(-1).unsqueeze(-1) * x,
    "Fourier": lambda m, x: torch.fft.irfft2(torch.fft.rfft2(x) * (0.5 + 0.2j), s=x.shape[-2:]),
    "Fourier over all axes of an image": lambda m, x: torch.fft.fftn(x, dim=(1, 2, 3)).abs() / 30,
    "largest channel": lambda m, x: x * torch.sigmoid(torch.max(x, 1)[0][:, None]),
    "three largest": lambda m, x: x - x.topk(3, 1)[0].mean(1, keepdim=True),
    "sorted": lambda m, x: x.sort(1)[0],
    "adaptive maxima of several sizes": lambda m, x: F.interpolate(
        F.adaptive_max_pool2d(x, (5, 3)), size=(8, 8)
    ),
    "unpooled": lambda m, x: F.max_unpool2d(*F.max_pool2d(x, 2, return_indices=True), 2),
    "group and instance norm": lambda m, x: m.instance(m.group(x)),
    "a kernel from the image": lambda m, x: F.conv2d(
        x.view(1, -1, 8, 8), x.mean((2, 3)).reshape(-1, 1, 1, 1) + 1, groups=len(x) * 8
    ).view(x.shape),
    "maps in other orders": lambda m, x: x + x.transpose(2, 3),
    "channels last": lambda m, x: m.mlp(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2),
    "unfolded and folded": lambda m, x: F.fold(F.unfold(x, 2, stride=2), (8, 8), 2, stride=2),
}


@pytest.mark.slow
@pytest.mark.parametrize("idiom", IDIOMS)
def test_each_image_goes_through_as_it_does_alone(idiom: str) -> None:
    model = seeded(Between, IDIOMS[idiom])
    net = rot180.capture(model, image(1, 3, 8, 8))
    x = image(4, 3, 8, 8, seed=3)
    wanted = torch.cat([model(one[None]) for one in x])
    assert relative_error(rot180.model_outputs(net, x)[0], wanted) < 1e-12

    def unit(one: Tensor) -> Tensor:
        return maps_of(model, model.b, one[None])[0, 2, 3, 4]

    def whole(one: Tensor) -> Tensor:
        return maps_of(model, model.b, one[None])[0, 1]

    for images in (x[0], x):
        found = rot180.project(net, images, "b", 2, (3, 4), "gradient")
        every = rot180.project(net, images, "b", 1, None, "gradient")
        pairs = zip(found, every, strict=True) if images.ndim == 4 else [(found, every)]
        for one, (p, q) in zip(x, pairs, strict=False):
            check_gradient(p, unit, one)
            check_gradient(q, whole, one)
    opened = rot180.open_image(net, x[1])
    check_gradient(rot180.project(net, opened, "b", 2, (3, 4), "gradient"), unit, x[1])
    several = rot180.project(net, x[1], "b", [0, 2, 1], (3, 4), "gradient")
    check_gradient(several[1], unit, x[1])


@pytest.mark.slow
@pytest.mark.parametrize(
    "idiom",
    [
        "windows merged into the batch",
        "largest channel",
        "attention",
        "channels padded, and images by none",
    ],
)
@pytest.mark.parametrize("method", METHODS)
def test_every_method_is_defined_there(idiom: str, method: str) -> None:
    """Nothing is rectified between these convolutions, so that all methods are the gradient."""
    net = rot180.capture(seeded(Between, IDIOMS[idiom]), image(1, 3, 8, 8))
    x = image(3, 8, 8, seed=3)
    found = rot180.project(net, x, "b", 2, (3, 4), method).full()
    wanted = rot180.project(net, x, "b", 2, (3, 4), "gradient").full()
    assert relative_error(found, wanted) < 1e-13
    assert method in rot180.report(net).layers[-1].methods


@pytest.mark.slow
def test_layers_of_tokens_are_maps_of_one_row() -> None:
    model = seeded(Between, lambda m, x: maps(F.gelu(m.mlp(tokens(x)))))
    net = rot180.capture(model, image(1, 3, 8, 8))
    layer = net.layers["mlp"]
    assert (layer.channels, layer.height, layer.width) == (8, 1, 64)
    assert layer.rectifier == "GELU"
    x = image(2, 3, 8, 8, seed=4)
    wanted = F.gelu(maps_of(model, model.mlp, x)).transpose(1, 2)[:, :, None]
    assert relative_error(rot180.feature_maps(net, x, "mlp"), wanted) < 1e-12

    def before(one: Tensor) -> Tensor:
        return maps_of(model, model.mlp, one[None])[0, 20, 5]

    def unit(one: Tensor) -> Tensor:
        return F.gelu(before(one))

    for source in (x[0], rot180.open_image(net, x[0])):
        p = rot180.project(net, source, "mlp", 5, (0, 20), "gradient")
        check_gradient(p, unit, x[0], before=before)
    p = rot180.project(net, x[0], "mlp", 5, "peak", "guided")
    assert p.position == (0, int(wanted[0, 5].argmax()))


@pytest.mark.slow
def test_layers_of_a_generator() -> None:
    model = nn.Sequential(
        nn.ConvTranspose2d(4, 6, 3, 2, 1),
        normalised(nn.BatchNorm2d(6)),
        nn.ReLU(),
        nn.ConvTranspose2d(6, 4, 4, 2, 1, groups=2),
        nn.ConvTranspose2d(4, 3, 3, 1, 1, dilation=2),
        nn.Tanh(),
    )
    model = model.double().eval()
    net = rot180.capture(model, image(1, 4, 5, 5))
    assert list(net.layers) == ["0", "3", "4"]
    assert net.layers["0"].rectifier == "ReLU"
    assert net.layers["3"].stride == (0.25, 0.25)
    x = image(4, 5, 5, seed=2)
    for name, last in (("0", 2), ("3", 3), ("4", 4)):
        layer = net.layers[name]
        places = [(0, 0), (layer.height // 2, layer.width // 2), (layer.height - 1, 1), None]
        for place in places:
            for channel in (0, layer.channels - 1):

                def activations(one: Tensor, last=last, channel=channel, place=place) -> Tensor:
                    found = maps_of(model, model[last], one[None])[0, channel]
                    return found if place is None else found[place]

                for source in (x, rot180.open_image(net, x)):
                    p = rot180.project(net, source, name, channel, place, "gradient")
                    check_gradient(p, activations, x)
        several = rot180.project(net, x, name, position=(2, 3), method="guided").full()
        for channel in range(layer.channels):
            one = rot180.project(net, x, name, channel, (2, 3), "guided").full()
            assert relative_error(several[channel], one) < 1e-13 or not one.any()


@pytest.mark.parametrize(
    "between",
    [
        lambda m, x: x - x.mean(0, keepdim=True),
        lambda m, x: x.flip(0),
        lambda m, x: x * x.softmax(0),
    ],
)
def test_a_model_that_mixes_the_images_is_refused_with_its_line(between) -> None:
    with pytest.raises(Rot180Error, match=r"mixes the images .* first by aten\..*test_batch_axis"):
        rot180.capture(seeded(Between, between), image(1, 3, 8, 8))


@pytest.mark.slow
def test_a_model_of_one_image_at_a_time() -> None:
    model = seeded(Between, lambda m, x: m.mlp(x.view(8, 64).T).T.view(1, 8, 8, 8))
    net = rot180.capture(model, image(1, 3, 8, 8))
    x = image(3, 3, 8, 8, seed=3)
    wanted = torch.cat([model(one[None]) for one in x])
    assert relative_error(rot180.model_outputs(net, x)[0], wanted) < 1e-12


@pytest.mark.slow
def test_copies_of_maps_in_another_order() -> None:
    def rows_first(m: Between, x: Tensor) -> Tensor:
        return x.permute(2, 0, 1, 3).contiguous().mul(1.5).permute(1, 2, 0, 3)

    model = seeded(Between, rows_first)
    net, x = rot180.capture(model, image(1, 3, 8, 8)), image(2, 3, 8, 8, seed=2)
    assert relative_error(rot180.model_outputs(net, x)[0], model(x)) < 1e-12
