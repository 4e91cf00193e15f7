"""What came of a network: one line."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

RIGHT, WRONG, NOT_FINITE, REFUSED, CRASH = "right", "WRONG", "not finite", "refused", "CRASH"
FAILS, LATE, UNJUDGED, NO_LAYERS = "model fails", "time limit", "not judged", "no layers"
NOT_FIRST = "no convolution first"
FEW = 4
"""Sentences of one class that are noted; the others are of the same kind."""
GRAVE = (WRONG, CRASH)

_ORDER = (WRONG, CRASH, NOT_FINITE, REFUSED, NO_LAYERS, UNJUDGED, LATE, FAILS, NOT_FIRST, RIGHT)


@dataclass
class Verdict:
    """What came of one network.

    Attributes:
        name: of the network.
        kind: one of the classes above.
        worst: the largest error, over the largest value or length of what was expected.
        seconds: to capture it.
        sentence: why it is not simply right.
        methods: those that were compared somewhere.
        refused: those that some layer refuses.
        unjudged: those that gave a projection which the reference of the rules does not know.
        compared: how many projections were compared.
        notes: what else was seen, a line each.
    """

    name: str
    kind: str = RIGHT
    worst: float = 0.0
    seconds: float = 0.0
    sentence: str = ""
    methods: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)
    unjudged: set[str] = field(default_factory=set)
    compared: int = 0
    notes: list[str] = field(default_factory=list)

    def becomes(self, kind: str, sentence: str) -> None:
        """Take a class, unless a graver one was found before; note some sentences of each."""
        if sum(one.startswith(kind) for one in self.notes) < FEW:
            self.notes.append(f"{kind}: {sentence}")
        if _ORDER.index(kind) < _ORDER.index(self.kind):
            self.kind, self.sentence = kind, sentence

    @property
    def shown_kind(self) -> str:
        """The class, with the methods that were right where these are not all."""
        if self.kind == RIGHT and self.unjudged:
            return "right, rules unknown"
        if self.kind == RIGHT and self.refused:
            return f"right, {' and '.join(sorted(self.methods - self.refused))} only"
        return self.kind

    def line(self) -> str:
        """Return what is printed."""
        sentence = " ".join(self.sentence.split())
        return (
            f"{self.name:<42} {self.shown_kind:<20} {self.worst:>8.0e} {self.compared:>5} "
            f"{self.seconds:>6.1f}  {sentence}"
        ).rstrip()

    def as_json(self) -> dict[str, Any]:
        """Return what a file keeps of it."""
        found = {**asdict(self), "shown": self.shown_kind}
        return {name: sorted(one) if isinstance(one, set) else one for name, one in found.items()}


HEAD = f"{'network':<42} {'class':<20} {'error':>8} {'units':>5} {'s':>6}  why"


def totals(verdicts: Sequence[Verdict]) -> str:
    counts = Counter(one.shown_kind for one in verdicts)
    said = ", ".join(f"{count} {kind}" for kind, count in counts.most_common())
    return f"{len(verdicts)} networks: {said or 'none'}."
