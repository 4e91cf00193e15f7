"""What becomes of a signal s at a step on the way back, in words: one of eight ways.

The rules themselves, and where they come from, stand in :mod:`rot180.projection.rules`.
"""

from typing import NamedTuple

from rot180.graph.operators.activations import Pointwise, Rectifier
from rot180.graph.operators.arithmetic import Product
from rot180.graph.operators.base import Operator
from rot180.graph.operators.calls import Derived, Discrete, Mistrusted, Unlisted
from rot180.graph.operators.folded import Folded
from rot180.graph.operators.layout import Detach
from rot180.graph.operators.normalisation import OwnNorm
from rot180.graph.operators.pooling import AdaptiveMaxPool, MaxPool
from rot180.graph.operators.reductions import Largest


class Way(NamedTuple):
    """A way back through a step.

    Attributes:
        name: in a word or two.
        deconvnet, gradient, guided: what each method makes of s; what s goes through, where all do
            the same.
    """

    name: str
    deconvnet: str
    gradient: str
    guided: str

    @property
    def defined(self) -> tuple[str, ...]:
        """The methods that do not refuse such a step."""
        methods = ("deconvnet", "gradient", "guided")
        return tuple(one for one in methods if getattr(self, one) != REFUSED)


REFUSED = "refused, by name"

LINEAR = Way("linear", *["the transposed step"] * 3)
RECTIFIED = Way("rectifier", "max(s, 0)", "f' s", "f' max(s, 0)")
UNPOOLED = Way("maximum", *["the unpooling that was chosen"] * 3)
DERIVED = Way("by derivative", *["the derivative at the values of the forward pass"] * 3)
STOPPED = Way("stopped", REFUSED, "0", REFUSED)
DISCRETE = Way("whole numbers", *["nothing goes back"] * 3)
BY_AUTOGRAD = Way("not listed", REFUSED, "what autograd makes of s", REFUSED)

MISTRUSTED = Way("not right in PyTorch", *[REFUSED] * 3)

WAYS = (LINEAR, RECTIFIED, UNPOOLED, DERIVED, STOPPED, DISCRETE, BY_AUTOGRAD, MISTRUSTED)


def way_back(operator: Operator) -> Way:
    """Return what the methods do at a step."""
    match operator:
        case Rectifier():
            return RECTIFIED
        case MaxPool() | AdaptiveMaxPool():
            return UNPOOLED
        case Folded():
            return way_back(operator.operator)
        case Discrete():
            return DISCRETE
        case Mistrusted():
            return MISTRUSTED
        case Detach():
            return STOPPED
        case Unlisted():
            return BY_AUTOGRAD
        case Pointwise() | Product() | OwnNorm() | Largest() | Derived() if not operator.linear:
            return DERIVED
    assert operator.linear, operator
    return LINEAR
