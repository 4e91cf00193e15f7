"""A capture works on copies, whatever hangs on a model, and says what it left out."""

import dataclasses
import threading
import types
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import rot180
from rot180 import Rot180Error
from tests.models import image, relative_error, seeded


class Base(nn.Module):
    """Two convolutions and a normalisation, then whatever is done to their maps."""

    def __init__(self, then: Callable[["Base", Tensor], Any] = lambda s, y: y) -> None:
        super().__init__()
        self.a, self.norm = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.b = nn.Conv2d(4, 4, 3, padding=1)
        self.cache: dict[str, Tensor] = {}
        self.kept: list[Tensor] = []
        self.then = then

    def forward(self, x: Tensor) -> Any:
        return self.then(self, self.b(F.relu(self.norm(self.a(x)))))


@dataclasses.dataclass
class Answer:
    """An output of a class that PyTorch does not know."""

    scores: Tensor
    maps: Tensor
    count: int = 3


def reproduces(net: rot180.Network, model: nn.Module, factor: float = 1.0) -> None:
    x = image(2, 3, 8, 8, seed=2)
    wanted = model.eval()(x)
    assert list(net.layers) == ["a", "b"]
    assert relative_error(rot180.model_outputs(net, x)[0], wanted * factor) < 1e-12


def test_an_output_of_an_unknown_class_counts_by_its_tensors() -> None:
    model = seeded(Base, lambda s, y: Answer(y.mean((2, 3)), y))
    net, x = rot180.capture(model, image(1, 3, 8, 8)), image(2, 3, 8, 8)
    scores, maps = rot180.model_outputs(net, x)
    assert relative_error(scores, model(x).scores) < 1e-12
    assert relative_error(maps, model(x).maps) < 1e-12


@pytest.mark.slow
def test_outputs_that_do_not_depend_on_the_image_are_left_out() -> None:
    model = seeded(Base, lambda s, y: (torch.zeros(2), 3, y, None, y.argmax(1), "name"))
    net, x = rot180.capture(model, image(1, 3, 8, 8)), image(2, 3, 8, 8)
    maps, places = rot180.model_outputs(net, x)
    assert net.output_numbers == (1, 2)
    assert relative_error(maps, model(x)[2]) < 1e-12
    assert torch.equal(places, model(x)[4])


def test_a_cache_that_is_filled_while_the_model_runs_stays_empty() -> None:
    def cached(s: Base, y: Tensor) -> Tensor:
        if "grid" not in s.cache:
            s.cache["grid"] = torch.full((8, 8), 2.0, dtype=y.dtype)
        return y * s.cache["grid"]

    model = seeded(Base, cached)
    net = rot180.capture(model, image(1, 3, 8, 8))
    assert not model.cache
    reproduces(net, model)


def test_maps_that_the_model_has_kept_are_no_obstacle() -> None:
    model = seeded(Base)
    model.kept.append(model.a(image(1, 3, 8, 8)))  # part of a graph of autograd
    reproduces(rot180.capture(model, image(1, 3, 8, 8)), model)


@pytest.mark.slow
def test_a_forward_that_was_replaced_keeps_layers_and_statistics() -> None:
    model = seeded(Base).train()
    before, original = model.norm.running_mean.clone(), model.forward
    model.forward = lambda x: original(x) * 2
    net = rot180.capture(model, image(1, 3, 8, 8))
    assert torch.equal(model.norm.running_mean, before)
    assert int(model.norm.num_batches_tracked) == 0
    assert model.training
    assert model.norm.training
    reproduces(net, model)
    model = seeded(Base)
    model.forward = types.MethodType(lambda self, x: self.b(self.a(x)), model)
    reproduces(rot180.capture(model, image(1, 3, 8, 8)), model)


class Extractor:
    """Collects maps by a hook, as libraries do; its lock cannot be copied."""

    def __init__(self, lock: bool) -> None:
        self.maps: list[Tensor] = []
        self.lock = threading.Lock() if lock else None

    def hook(self, module: nn.Module, inputs: Any, output: Tensor) -> None:
        self.maps.append(output)


@pytest.mark.parametrize("lock", [False, True])
def test_a_forgotten_extractor_collects_nothing(lock: bool) -> None:
    extractor, model = Extractor(lock), seeded(Base)
    handle = model.b.register_forward_hook(extractor.hook)
    model(image(1, 3, 8, 8))
    net = rot180.capture(model, image(1, 3, 8, 8))
    assert len(extractor.maps) == 1
    assert any("Extractor.hook of 'b'" in note for note in net.notes) == lock
    assert all(note in str(rot180.report(net)) for note in net.notes)
    handle.remove()
    reproduces(net, model)


def test_a_hook_that_cannot_be_copied_and_may_matter_is_named() -> None:
    class Doubling:
        lock = None

        def __init__(self) -> None:
            self.own = threading.Lock()

        def __call__(self, module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
            return output * 2

    model = seeded(Base)
    model.b.register_forward_hook(Doubling())
    with pytest.raises(Rot180Error, match=r"because of the hook .*Doubling.* of 'b'"):
        rot180.capture(model, image(1, 3, 8, 8))


def test_a_hook_that_changes_the_output_counts() -> None:
    model = seeded(Base)
    model.b.register_forward_hook(lambda module, inputs, output: output * 2)
    reproduces(rot180.capture(model, image(1, 3, 8, 8)), model)


@pytest.mark.slow
def test_autocast_is_switched_off_and_said() -> None:
    def low(s: Base, y: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return s.b(y)

    model = seeded(Base, low).float()
    x = image(1, 3, 8, 8).float()
    net = rot180.capture(model, x)
    assert any("Autocast is switched off" in note for note in net.notes)
    wanted = model.b(model.b(F.relu(model.norm(model.a(x)))))
    assert relative_error(rot180.model_outputs(net, x)[0], wanted) < 1e-5


class Several(Base):
    """Takes a factor and a shift beside the images."""

    def forward(self, x: Tensor, factor: Any, *, shift: Any = None) -> Tensor:
        return super().forward(x) * factor + shift


class Batched(Base):
    """Takes all that it needs in a dictionary."""

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"maps": super().forward(batch["image"]) * batch["factor"]}


@pytest.mark.slow
def test_other_inputs_are_held() -> None:
    model, x = seeded(Several), image(1, 3, 8, 8)
    factor, shift = image(1, 4, 1, 1), image(1, seed=1)
    wanted = model(x, factor, shift=shift)
    for inputs in (
        {"factor": factor, "shift": shift},
        {"x": x, "factor": factor, "shift": shift},
    ):
        net = rot180.capture(model, x, inputs=inputs)
        assert relative_error(rot180.model_outputs(net, x)[0], wanted) < 1e-12
        assert list(net.layers) == ["a", "b"]
    model = seeded(Batched)
    net = rot180.capture(model, x, inputs=({"image": x, "factor": factor},))
    wanted = model({"image": x, "factor": factor})["maps"]
    assert relative_error(rot180.model_outputs(net, x)[0], wanted) < 1e-12


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        (None, r"takes 2 inputs \(x, factor\).* inputs=\(example, other\)"),
        ((1.0,), "example does not stand among the inputs"),
        (3, "a tuple of the model's positional arguments or a mapping"),
    ],
)
def test_inputs_that_do_not_fit(inputs: Any, words: str) -> None:
    with pytest.raises(Rot180Error, match=words):
        rot180.capture(seeded(Several), image(1, 3, 8, 8), inputs=inputs)


@pytest.mark.slow
def test_a_detector_is_sent_to_its_backbone() -> None:
    class Detector(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone = Base()

        def forward(self, x: Tensor) -> Tensor:
            maps = self.backbone(x)
            return maps[maps > 0]

    model = Detector().double()
    with pytest.raises(Rot180Error, match=r"capture\(model.backbone, example\)"):
        rot180.capture(model, image(1, 3, 8, 8))
    assert rot180.capture(model.backbone, image(1, 3, 8, 8)).layers


def test_single_precision_is_not_blamed_for_rounding() -> None:
    """A small number is added to a large one, which leaves it few digits in float32."""
    model = seeded(Base, lambda s, y: (y + 3e5) - 3e5).float()
    net = rot180.capture(model, image(1, 3, 8, 8).float())
    assert list(net.layers) == ["a", "b"]


@pytest.mark.slow
def test_what_is_tried_in_double_precision_leaves_the_model_in_its_own() -> None:
    model = seeded(Base, lambda s, y: y - y.mean(0, keepdim=True)).float()
    before = [one.clone() for one in model.parameters()]
    with pytest.raises(Rot180Error, match=r"mixes the images .* first by aten\.mean"):
        rot180.capture(model, image(1, 3, 8, 8).float())
    model = seeded(Base, lambda s, y: (y + 3e5) - 3e5).float()
    rot180.capture(model, image(1, 3, 8, 8).float())
    for one, other in zip(model.parameters(), before, strict=True):
        assert one.dtype == torch.float32
        assert torch.equal(one, other)
