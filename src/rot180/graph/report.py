"""What a captured network is made of, what each method does there, and whether it is right."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rot180.graph.costs import shares
from rot180.graph.gradcheck import TOLERANCE, differences
from rot180.graph.network import Layer, Network
from rot180.graph.operators.activations import Rectifier
from rot180.graph.operators.backward_kind import BY_DERIVATIVE, LINEAR
from rot180.graph.operators.convolution import Convolution
from rot180.graph.operators.fallback import Derived, Unlisted
from rot180.graph.operators.operator import NOTHING_KEPT, Part
from rot180.graph.steps import Step


@dataclass(frozen=True)
class LayerReport:
    """A layer, and what one unit in the middle of its maps costs.

    Attributes:
        layer: the layer.
        share: the products of the unit's forward pass, over those of the whole image's.
        local: whether the unit sees less than the whole image because of how the network is made.
        methods: the methods that are defined from here down to the image.
    """

    layer: Layer
    share: float
    local: bool
    methods: tuple[str, ...]


@dataclass(frozen=True)
class Report:
    """What :func:`rot180.report` returns; printed, it is a page of text.

    Attributes:
        input_shape: (channels, height, width) of an image.
        error: the largest difference between the captured network's output and the model's own,
            over the largest value.
        adjoint_error: of the linear steps, the largest difference between <Ax, y> and <x, A'y>,
            over the product of the lengths of Ax and y; A is the step's forward pass without its
            constant, A' its way back.
        linear: how many steps that was tested for.
        derivative_error: of the steps that are not linear, the largest relative difference of the
            backward pass of the gradient from central finite differences in double precision, in
            several memory layouts.
        derived: how many steps that was tested for.
        wrong: those of them that differ by more than a thousandth: (kind, module).
        notes: what is to be known of the capture, in sentences.
        operators: number of steps of each kind; a batch normalisation that is merged into the
            convolution before it is counted with those that are not.
        rectifiers: number of rectifiers of each kind; all of them take the method's rule.
        by_derivative: number of steps of each kind that are neither linear nor rectifiers nor max
            poolings; every method goes through them by their derivative.
        fallbacks: the steps that autograd carries signals through on whole maps: (kind, module).
        gradient_only: those of them for which no method but the gradient is defined.
        whole_from: the first layer whose units depend on the whole image, and the step below it
            (kind, module) that makes it so; None where there is none.
        layers: the layers.
    """

    input_shape: tuple[int, int, int]
    error: float
    adjoint_error: float
    linear: int
    derivative_error: float
    derived: int
    wrong: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    operators: Mapping[str, int]
    rectifiers: Mapping[str, int]
    by_derivative: Mapping[str, int]
    fallbacks: tuple[tuple[str, str], ...]
    gradient_only: tuple[tuple[str, str], ...]
    whole_from: tuple[str, tuple[str, str]] | None
    layers: tuple[LayerReport, ...]

    def __str__(self) -> str:
        height, width = self.input_shape[1:]
        lines = [
            f"Input {self.input_shape[0]}x{height}x{width}; {sum(self.operators.values())} steps, "
            f"{len(self.layers)} layers.",
            f"Operators: {_counted(self.operators)}.",
            f"Rectifiers found: {_counted(self.rectifiers) or 'none'}. deconvnet and guided put "
            "their own rule in the place of each of them.",
        ]
        if not any("max" in kind and "pool" in kind for kind in self.operators):
            lines.append(
                "There is no max pooling, whose switches tell the deconvnet where things are in "
                "the image; guided shows more here."
            )
        if self.by_derivative:
            lines.append(
                f"Gone through by their derivative, whatever the method: "
                f"{_counted(self.by_derivative)}."
            )
        if self.fallbacks:
            shown = "; ".join(f"{kind} in {where or 'the model'}" for kind, where in _few(self))
            more = " …" if len(self.fallbacks) > len(_few(self)) else ""
            lines.append(f"By autograd on whole maps ({len(self.fallbacks)}): {shown}{more}.")
        else:
            lines.append("No step falls back to autograd.")
        if self.gradient_only:
            kinds = sorted({kind for kind, _ in self.gradient_only})
            lines.append(f"Only the gradient is defined at: {', '.join(kinds)}.")
        if self.whole_from is None:
            lines.append("Every layer is local: a unit costs what its receptive field costs.")
        else:
            layer, (kind, where) = self.whole_from
            lines.append(
                f"Units see the whole image from {layer} on, because of the step '{kind}'"
                f"{f' in {where}' if where else ''}."
            )
        lines.append(
            f"Self-check: the captured network reproduces the model's output to {self.error:.1e} "
            f"of its largest value; {self.linear} linear steps satisfy <Ax, y> = <x, A'y> to "
            f"{self.adjoint_error:.1e}; {self.derived} others agree with finite differences to "
            f"{self.derivative_error:.1e}."
        )
        lines += [
            f"WRONG: the derivative of the step '{kind}'{f' in {where}' if where else ''} is not "
            "that of finite differences. Do not use the projections of layers above it."
            for kind, where in self.wrong
        ]
        lines += self.notes
        return "\n".join(lines)

    def as_numbers(self) -> dict[str, Any]:
        """Return the same as values that JSON can hold."""
        found = {
            name: getattr(self, name) for name in self.__dataclass_fields__ if name != "layers"
        }
        found["layers"] = [
            {
                **{
                    name: getattr(one.layer, name)
                    for name in (
                        "name",
                        "kind",
                        "channels",
                        "height",
                        "width",
                        "receptive_field",
                        "stride",
                        "rectifier",
                    )
                },
                "share": one.share,
                "local": one.local,
                "methods": one.methods,
            }
            for one in self.layers
        ]
        return found


def report(network: Network) -> Report:
    """Return what was found in a model, what each method does there, and how exact it is.

    Args:
        network: from :func:`rot180.capture`.
    """
    steps = [network.steps[place] for place in network.needed(*network.outputs)]
    operators = [one.operator for one in steps]
    merged = sum(isinstance(one, Convolution) and one.norm is not None for one in operators)
    kinds = Counter(one.kind for one in operators)
    kinds.update({"batch norm": merged} if merged else {})
    adjoint, linear = _adjoint_error(network)
    compared = list(differences(network))
    return Report(
        network.input_shape,
        network.error,
        adjoint,
        linear,
        max((one.error for one in compared), default=0.0),
        len(compared),
        tuple(_named(network.steps[one.place]) for one in compared if one.error > TOLERANCE),
        network.notes,
        dict(kinds.most_common()),
        dict(Counter(one.name for one in operators if isinstance(one, Rectifier))),
        dict(Counter(one.kind for one in operators if one.backward_kind is BY_DERIVATIVE)),
        tuple(_named(one) for one in steps if isinstance(one.operator, _FALLBACKS)),
        tuple(_named(one) for one in steps if one.operator.backward_kind.defined == ("gradient",)),
        _whole_from(network),
        _layers(network),
    )


_FALLBACKS = (Derived, Unlisted)


def _named(step: Step) -> tuple[str, str]:
    return step.operator.kind, step.path


def _few(report: Report) -> tuple[tuple[str, str], ...]:
    return report.fallbacks[:6]


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{number} {name}" for name, number in counts.items())


def _layers(network: Network) -> tuple[LayerReport, ...]:
    layers = list(network.layers.values())
    share, methods = shares(network, layers), _methods(network)
    return tuple(
        LayerReport(one, share[one.name], 0 not in one.stride, methods[one.step]) for one in layers
    )


def _methods(network: Network) -> list[tuple[str, ...]]:
    """Return the methods that are defined from each step down to the image, by its place."""
    found = [LINEAR.defined] * (len(network.steps) + 1)  # the last one is the image, at -1
    for place, step in enumerate(network.steps):
        below = [found[one] for one in step.inputs]
        found[place] = min([step.operator.backward_kind.defined, *below], key=len)
    return found


def _whole_from(network: Network) -> tuple[str, tuple[str, str]] | None:
    """Return the first layer that depends on the whole image, and the step that makes it so."""
    for layer in network.layers.values():
        if 0 not in layer.stride:
            continue
        for place in network.needed(layer.step):
            if 0 in network.seen(place)[1]:
                return layer.name, _named(network.steps[place])
    return None


class _NoRules:
    """Stands for the rules where a step has no use for them."""

    backward, method = "gradient", "gradient"

    def rectify(
        self, signal: Tensor, derived: Callable[[Tensor], Tensor], spare: bool = False
    ) -> Tensor:
        raise AssertionError("a linear step asked for a rule")

    def unpool(self, signal: Tensor, switches: Tensor, pool: Any, part: Part) -> Tensor:
        raise AssertionError("a linear step asked for a rule")


@torch.no_grad()
def _adjoint_error(network: Network) -> tuple[float, int]:
    """Test <Ax, y> = <x, A'y> for every linear step on whole maps of random values."""
    plan = network.whole("gradient", frozenset())
    generator = torch.Generator(network.device).manual_seed(0)

    def random(like: Tensor) -> Tensor:
        return torch.empty_like(like).normal_(generator=generator)

    image = torch.empty(1, *network.input_shape, device=network.device, dtype=network.dtype)
    values: dict[int, Any] = {-1: random(image)}
    worst, count = 0.0, 0
    for work in plan.works:
        plan.do(work, values, {})
        if work.operator.linear and not work.empty:
            count += 1
            inputs = tuple(map(random, plan.inputs(work, values)))
            zeros = tuple(map(torch.zeros_like, inputs))
            ax = work.operator.forward(inputs, work.part)[0]
            ax = (ax - work.operator.forward(zeros, work.part)[0]).double()
            y = random(values[work.place])
            back = work.operator.backward(y, NOTHING_KEPT, _NoRules(), work.part)
            there = (ax * y).sum()
            here = sum(
                (one.double() * two.double()).sum()
                for one, two in zip(inputs, back, strict=True)
                if two is not None
            )
            difference = (there - here).abs() / (ax.norm() * y.double().norm()).clamp(min=1e-30)
            worst = max(worst, float(difference))
        for source in work.frees:
            values.pop(source, None)
    return worst, count
