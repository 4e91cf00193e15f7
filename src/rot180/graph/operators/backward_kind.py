"""The kinds of steps in the backward pass, and what each method makes of a signal s there.

The rules themselves, and their sources, are in :mod:`rot180.projection.rules`.
"""

from typing import NamedTuple


class BackwardKind(NamedTuple):
    """One kind of step, and what becomes of a signal s at it.

    Attributes:
        name: a word or two.
        deconvnet, gradient, guided: what each method makes of s; where all methods do the same,
            what s goes through.
    """

    name: str
    deconvnet: str
    gradient: str
    guided: str

    @property
    def defined(self) -> tuple[str, ...]:
        """The methods that are defined at such a step."""
        methods = ("deconvnet", "gradient", "guided")
        return tuple(one for one in methods if getattr(self, one) != REFUSED)


REFUSED = "refused, by name"

LINEAR = BackwardKind("linear", *["the transposed step"] * 3)
RECTIFIER = BackwardKind("rectifier", "max(s, 0)", "f' s", "f' max(s, 0)")
MAXIMUM = BackwardKind("maximum", *["the unpooling that was chosen"] * 3)
BY_DERIVATIVE = BackwardKind(
    "by derivative", *["the derivative at the values of the forward pass"] * 3
)
STOPPED = BackwardKind("stopped", REFUSED, "0", REFUSED)
DISCRETE = BackwardKind("whole numbers", *["nothing goes back"] * 3)
NOT_LISTED = BackwardKind("not listed", REFUSED, "what autograd makes of s", REFUSED)
UNTRUSTED = BackwardKind("not right in PyTorch", *[REFUSED] * 3)

BACKWARD_KINDS = (
    LINEAR,
    RECTIFIER,
    MAXIMUM,
    BY_DERIVATIVE,
    STOPPED,
    DISCRETE,
    NOT_LISTED,
    UNTRUSTED,
)
"""All kinds, in the order in which the documentation lists them."""
