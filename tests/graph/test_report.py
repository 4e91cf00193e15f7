"""What is said about a network is true of it."""

import json

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from typer.testing import CliRunner

import rot180
from rot180 import Rot180Error
from rot180.cli import app
from tests.graph.test_capture import Written
from tests.models import TwoConvolutions, Varied, image, seeded


def captured(forward, size: int = 16) -> rot180.Network:
    return rot180.capture(seeded(Written, forward), image(1, 3, size, size))


@pytest.mark.slow
def test_operators_and_rectifiers_are_counted() -> None:
    report = rot180.report(rot180.capture(seeded(Varied), image(1, 3, 21, 26)))
    assert report.rectifiers == {"ReLU": 4}
    assert report.operators["batch norm"] == 2
    assert report.operators["max pooling"] == 2
    assert report.operators["linear"] == 2
    assert not report.fallbacks
    assert report.error < 1e-13
    assert report.adjoint_error < 1e-14
    assert report.linear >= 6
    assert report.whole_from == ("head.2", ("reshape", "head.0"))


@pytest.mark.slow
def test_each_kind_of_rectifier_is_named() -> None:
    net = captured(lambda s, x: s.c(F.gelu(s.b(F.leaky_relu(s.a(x), 0.1))).clamp(0, 6)))
    assert rot180.report(net).rectifiers == {"LeakyReLU": 1, "GELU": 1, "ReLU6": 1}
    assert [one.rectifier for one in net.layers.values()] == ["LeakyReLU", "GELU", ""]


@pytest.mark.slow
def test_what_falls_back_and_where_only_the_gradient_is_defined() -> None:
    net = captured(lambda s, x: s.c(torch.special.i0(s.b(F.relu(s.a(x))).sort(2)[0])))
    report = rot180.report(net)
    assert [kind for kind, _ in report.gradient_only][-1] == "other (aten.special_i0.default)"
    assert [one.methods for one in report.layers] == [
        ("deconvnet", "gradient", "guided"),
        ("deconvnet", "gradient", "guided"),
        ("gradient",),
    ]
    assert "Only the gradient is defined at" in str(report)


def test_where_locality_is_lost() -> None:
    def gate(s, x):
        y = F.relu(s.a(x))
        return s.c(y * torch.sigmoid(s.b(F.adaptive_avg_pool2d(y, 1))))

    report = rot180.report(captured(gate))
    assert report.whole_from[0] == "b"
    assert report.whole_from[1][0] == "average pooling"
    assert [one.local for one in report.layers] == [True, False, False]
    assert report.by_derivative == {"sigmoid": 1, "product": 1}
    assert "Units see the whole image from b on" in str(report)


@pytest.mark.slow
def test_what_a_unit_costs_is_the_share_of_its_receptive_field() -> None:
    report = rot180.report(rot180.capture(seeded(TwoConvolutions), image(1, 3, 12, 12)))
    first, second, head = report.layers
    assert first.share == 0  # there is nothing below it to compute
    assert second.share == pytest.approx(6 * 6 / (12 * 12))
    assert head.share == 1


def test_the_self_check_finds_a_step_that_is_wrong(monkeypatch) -> None:
    net = captured(lambda s, x: s.b(F.relu(s.a(x))))
    assert rot180.report(net).adjoint_error < 1e-14
    kernels = net.operator(net.layers["b"]).kernels
    monkeypatch.setattr(
        type(kernels), "rotated", property(lambda self: self.weight.transpose(0, 1))
    )
    assert rot180.report(net).adjoint_error > 1e-3


@pytest.mark.slow
def test_a_network_without_max_pooling_is_told_of() -> None:
    assert "There is no max pooling" in str(
        rot180.report(captured(lambda s, x: s.b(F.relu(s.a(x)))))
    )
    pooled = captured(lambda s, x: s.b(F.max_pool2d(F.relu(s.a(x)), 2)))
    assert "There is no max pooling" not in str(rot180.report(pooled))


@pytest.mark.slow
def test_the_command_prints_and_writes_it(tmp_path) -> None:
    out = tmp_path / "report.json"
    shown = CliRunner().invoke(app, ["inspect", "two-layer", "--json", str(out)])
    assert shown.exit_code == 0, shown.output
    for words in ("Rectifiers found: 2 ReLU", "14x14", "conv2", "Self-check"):
        assert words in shown.output
    written = json.loads(out.read_text())
    assert written["rectifiers"] == {"ReLU": 2}
    assert written["layers"][1]["receptive_field"] == [14, 14]
    shown = CliRunner().invoke(app, ["inspect", "two-layer", "--json", str(tmp_path / "no" / "x")])
    assert shown.exit_code == 1
    assert "cannot be written" in shown.output


class _Choosing(nn.Module):
    def forward(self, x):
        if x.sum() > 0:
            return x
        return -x


class _Two(nn.Module):
    def forward(self, x, y):
        return x + y


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (_Choosing(), r"test_report.py:\d+ \('if x.sum\(\) > 0:'\).*torch.where"),
        (_Two(), r"takes 2 inputs \(x, y\)"),
        (nn.Conv2d(3, 4, 3).half(), r"'weight' holds torch.float16 values.*model.float\(\)"),
        (nn.Conv2d(3, 4, 3).double(), r"torch.float64 values, the example torch.float32"),
        (nn.Conv2d(4, 4, 3), r"expected input.*to have 4 channels.*Give an example of the shape"),
        (nn.Sequential(nn.Flatten(), nn.Linear(9, 2)), r"Give an example of the size"),
        (nn.Conv2d(3, 4, 20), r"Give an example of the size"),
    ],
)
def test_a_model_that_cannot_be_captured_is_told_where_and_why(model, words, capfd) -> None:
    with pytest.raises(Rot180Error, match=words):
        rot180.capture(model, torch.randn(1, 3, 12, 12))
    assert not capfd.readouterr().err
