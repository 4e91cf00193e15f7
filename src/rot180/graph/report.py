"""Reports on a captured network: its operators, what each method does there, how exact it is."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rot180.graph.costs import shares
from rot180.graph.gradcheck import TOLERANCE, derivative_errors
from rot180.graph.network import Layer, Network
from rot180.graph.operators.activations import Rectifier
from rot180.graph.operators.backward_kind import BY_DERIVATIVE, LINEAR
from rot180.graph.operators.convolution import Convolution
from rot180.graph.operators.fallback import AutogradOp, UnknownOp
from rot180.graph.operators.operator import NOTHING_SAVED, Region
from rot180.graph.steps import Step


@dataclass(frozen=True)
class LayerReport:
    """A layer, and the cost of the unit in the middle of its maps.

    Attributes:
        layer: the layer.
        share: the products that the unit's forward pass sums, divided by those of the whole image.
        local: whether the network's operators let a unit see less than the whole image.
        methods: the methods that are defined at all steps from the layer down to the image.
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
        error: the largest difference between the outputs of the captured network and of the model,
            relative to the largest value.
        adjoint_error: for the linear steps, the largest difference between <Ax, y> and <x, A'y>,
            divided by the lengths of Ax and y. A is the step's forward pass without its constant,
            A' its backward pass.
        linear: number of steps that were tested for that.
        derivative_error: for the steps that are not linear, the largest relative difference of the
            gradient's backward pass from central finite differences, in double precision and
            several memory layouts.
        derived: number of steps that were tested for that.
        wrong: the steps whose difference is above a thousandth: (kind, module).
        notes: remarks on the capture, in sentences.
        operators: number of steps of each kind; a batch normalisation that is merged into the
            convolution before it counts as one that is not.
        rectifiers: number of rectifiers of each kind; the method's own rule applies at all of them.
        by_derivative: number of steps of each kind that are neither linear nor rectifiers nor max
            poolings; every method uses the derivative there.
        fallbacks: the steps whose backward pass autograd computes on whole maps: (kind, module).
        gradient_only: the steps at which no method but the gradient is defined: (kind, module).
        whole_from: name of the first layer whose units depend on the whole image, and the step
            below it that is the reason (kind, module); None where there is no such layer.
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
            f"Rectifiers found: {_counted(self.rectifiers) or 'none'}. deconvnet and guided have "
            "their own rule for each of them.",
        ]
        if not any("max" in kind and "pool" in kind for kind in self.operators):
            lines.append(
                "There is no max pooling, whose switches tell the deconvnet where things are in "
                "the image; guided shows more here."
            )
        if self.by_derivative:
            lines.append(
                f"Every method uses the derivative of these: {_counted(self.by_derivative)}."
            )
        if self.fallbacks:
            first = _first_fallbacks(self)
            shown = "; ".join(f"{kind} in {where or 'the model'}" for kind, where in first)
            more = " …" if len(self.fallbacks) > len(first) else ""
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
        """Return the report as values that JSON can hold."""
        numbers = {
            name: getattr(self, name) for name in self.__dataclass_fields__ if name != "layers"
        }
        numbers["layers"] = [
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
        return numbers


def report(network: Network) -> Report:
    """Return what was found in a model, what each method does there, and how exact it is.

    Args:
        network: from :func:`rot180.capture`.
    """
    steps = [network.steps[index] for index in network.ancestors(*network.outputs)]
    operators = [step.operator for step in steps]
    merged = sum(isinstance(one, Convolution) and one.norm is not None for one in operators)
    kinds = Counter(operator.kind for operator in operators)
    kinds.update({"batch norm": merged} if merged else {})
    adjoint, linear = _adjoint_error(network)
    compared = list(derivative_errors(network))
    return Report(
        network.input_shape,
        network.error,
        adjoint,
        linear,
        max((one.error for one in compared), default=0.0),
        len(compared),
        tuple(
            _kind_and_module(network.steps[one.step_index])
            for one in compared
            if one.error > TOLERANCE
        ),
        network.notes,
        dict(kinds.most_common()),
        dict(Counter(one.name for one in operators if isinstance(one, Rectifier))),
        dict(Counter(one.kind for one in operators if one.backward_kind is BY_DERIVATIVE)),
        tuple(_kind_and_module(step) for step in steps if isinstance(step.operator, _FALLBACKS)),
        tuple(
            _kind_and_module(step)
            for step in steps
            if step.operator.backward_kind.defined == ("gradient",)
        ),
        _whole_from(network),
        _layer_reports(network),
    )


_FALLBACKS = (AutogradOp, UnknownOp)


def _kind_and_module(step: Step) -> tuple[str, str]:
    return step.operator.kind, step.path


def _first_fallbacks(report: Report) -> tuple[tuple[str, str], ...]:
    return report.fallbacks[:6]


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{number} {name}" for name, number in counts.items())


def _layer_reports(network: Network) -> tuple[LayerReport, ...]:
    layers = list(network.layers.values())
    share, methods = shares(network, layers), _methods(network)
    return tuple(
        LayerReport(layer, share[layer.name], 0 not in layer.stride, methods[layer.output_step])
        for layer in layers
    )


def _methods(network: Network) -> list[tuple[str, ...]]:
    """Return the methods that are defined from each step down to the image, by its index."""
    methods = [LINEAR.defined] * (len(network.steps) + 1)  # the last one is the image, at -1
    for index, step in enumerate(network.steps):
        below = [methods[source] for source in step.inputs]
        methods[index] = min([step.operator.backward_kind.defined, *below], key=len)
    return methods


def _whole_from(network: Network) -> tuple[str, tuple[str, str]] | None:
    """Return the first layer that depends on the whole image, and the step that is the reason."""
    for layer in network.layers.values():
        if 0 not in layer.stride:
            continue
        for index in network.ancestors(layer.output_step):
            if 0 in network.interior_field(index)[1]:
                return layer.name, _kind_and_module(network.steps[index])
    return None


class _NoRules:
    """Rules for linear steps, which ask for none."""

    backward, method = "gradient", "gradient"

    def rectify(
        self, signal: Tensor, vjp: Callable[[Tensor], Tensor], may_overwrite: bool = False
    ) -> Tensor:
        raise AssertionError("a linear step asked for a rule")

    def unpool(self, signal: Tensor, switches: Tensor, pool: Any, region: Region) -> Tensor:
        raise AssertionError("a linear step asked for a rule")


@torch.no_grad()
def _adjoint_error(network: Network) -> tuple[float, int]:
    """Test <Ax, y> = <x, A'y> for every linear step on whole maps of random values."""
    plan = network.full_plan("gradient", frozenset())
    generator = torch.Generator(network.device).manual_seed(0)

    def random(like: Tensor) -> Tensor:
        return torch.empty_like(like).normal_(generator=generator)

    image = torch.empty(1, *network.input_shape, device=network.device, dtype=network.dtype)
    outputs: dict[int, Any] = {-1: random(image)}
    worst, count = 0.0, 0
    for step in plan.steps:
        plan.run_step(step, outputs, {})
        if step.operator.linear and not step.empty:
            count += 1
            inputs = tuple(map(random, plan.inputs(step, outputs)))
            zeros = tuple(map(torch.zeros_like, inputs))
            ax = step.operator.forward(inputs, step.region)[0]
            ax = (ax - step.operator.forward(zeros, step.region)[0]).double()
            y = random(outputs[step.step_index])
            back = step.operator.backward(y, NOTHING_SAVED, _NoRules(), step.region)
            forward_product = (ax * y).sum()
            backward_product = sum(
                (x.double() * signal.double()).sum()
                for x, signal in zip(inputs, back, strict=True)
                if signal is not None
            )
            length = (ax.norm() * y.double().norm()).clamp(min=1e-30)
            worst = max(worst, float((forward_product - backward_product).abs() / length))
        for source in step.releases:
            outputs.pop(source, None)
    return worst, count
