"""Merges normalisations and zero padding into the convolutions next to them."""

from dataclasses import replace

from torch import Tensor, fx

from rot180.graph.lowerings.fx_call import Lowered
from rot180.graph.operators.arithmetic import Broadcast, Product, Sum
from rot180.graph.operators.convolution import Convolution, TransposedConvolution
from rot180.graph.operators.normalisation import BatchNorm, ChannelAffine
from rot180.graph.operators.operator import Operator
from rot180.graph.operators.pooling import SeparableLinear
from rot180.graph.steps import Step


def fuse_normalisation(
    node: fx.Node, lowered: Lowered, steps: list[Step], step_of: dict[fx.Node, int]
) -> bool:
    """Merge a normalisation into the convolution that it directly follows; say whether it did.

    Args:
        node: the call.
        lowered: what it was lowered to.
        steps: the steps so far, of which the convolution's is replaced.
        step_of: the index of the step that gives each result, to which the call is added.
    """
    if len(lowered.operators) != 1 or len(lowered.inputs) != 1:
        return False
    (last,), (source,) = lowered.operators, lowered.inputs
    norm: BatchNorm | ChannelAffine | None = last if isinstance(last, BatchNorm) else None
    if isinstance(last, Sum) and step_of[source] >= 0:  # after a factor for each channel
        scaled = steps[step_of[source]]
        if _for_each_channel(scaled.operator, Product) and _for_each_channel(last, Sum):
            if len(source.users) != 1 or step_of[source] != len(steps) - 1:
                return False
            assert isinstance(scaled.operator, Product)
            norm = ChannelAffine(scaled.operator.constant, last.constant)  # type: ignore[arg-type]
            between, source = source, source.all_input_nodes[0]
    index = step_of.get(source, -1)
    operator = steps[index].operator if index >= 0 else None
    if (
        norm is None
        or not isinstance(operator, Convolution | TransposedConvolution)
        or operator.norm
    ):
        return False
    if len(source.users) != 1:
        return False
    if isinstance(norm, ChannelAffine):
        steps.pop()
        step_of[between] = index
    steps[index] = replace(steps[index], name=node.name, operator=replace(operator, norm=norm))
    step_of[node] = index
    return True


def fuse_padding(lowered: Lowered, steps: list[Step], step_of: dict[fx.Node, int]) -> Lowered:
    """Merge the zeros that the last step put around maps into the convolution of them.

    Args:
        lowered: what a call was lowered to.
        steps: the steps so far; the one of the padding is removed.
        step_of: the index of the step that gives each result.

    Returns:
        The convolution with its padding; what is no such convolution, as it was.
    """
    operator = lowered.operators[0] if len(lowered.operators) == 1 else None
    if not isinstance(operator, Convolution):
        return lowered
    (source,) = lowered.inputs
    index = step_of[source]
    before = steps[index].operator if index >= 0 else None
    if not isinstance(before, SeparableLinear) or before.zeros is None:
        return lowered
    if len(source.users) != 1 or index != len(steps) - 1:
        return lowered
    (step_of[source],) = steps.pop().inputs
    top, left = before.zeros
    padded = replace(operator, before=(operator.before[0] + top, operator.before[1] + left))
    return Lowered((padded,), (source,))


def _for_each_channel(operator: Operator, kind: type[Broadcast]) -> bool:
    """Say whether an operator is a sum or product with a constant for each channel."""
    if not isinstance(operator, kind) or not isinstance(operator.constant, Tensor):
        return False
    plain = not (isinstance(operator, Product) and operator.divides)
    if isinstance(operator, Sum):
        plain = operator.factors == (1.0,)
    return plain and operator.constant.shape == (operator.shapes[0][0], 1, 1)
