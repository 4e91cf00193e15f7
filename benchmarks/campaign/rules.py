"""The reference of deconvnet and guided, and of unpooling by repeating: the tests' own.

It runs the exported graph, at a batch of one, under autograd with each method's rule. So it shares
PyTorch's backward pass. Its gradient is therefore compared with the oracle first, layer by layer;
where it is off, the reference is not asked.
"""

import torch
from tests import reference
from tests.reference import Reference
from torch import Tensor, fx

from campaign.cases import Case
from campaign.oracle import Tangents
from campaign.watching import Node, node_of

Rules = dict[str, str]


class Ruled:
    """The reference for one network."""

    def __init__(self, case: Case, dtype: torch.dtype, image: Tensor) -> None:
        self.image, self.why = image, ""
        self.graph: fx.GraphModule | None = None
        self.nodes: dict[str, Node] = {}
        self.trusted: dict[str, bool] = {}
        self.seen: dict[tuple[str, str], float] = {}
        try:
            self.reference = Reference(case.called(dtype, spelled=True), image, decomposed=True)
            self.graph = self.reference.module
        except Exception as error:
            self.why = f"{type(error).__name__}: {str(error).strip().splitlines()[:1]}"

    def unpoolings(self) -> tuple[str, ...]:
        """Return those that differ in this network, as far as the reference knows."""
        calls = [] if self.graph is None else [one.target for one in self.graph.graph.nodes]
        if not set(calls) & reference.POOLS or not all(map(_even, self.graph.graph.nodes)):
            return ("switches",)
        return ("switches", "repeat")

    def rectifiers(self) -> int:
        """Return how many rectifiers the reference finds."""
        nodes = [] if self.graph is None else list(self.graph.graph.nodes)
        return sum(map(_rectifies, nodes))

    def look_at(self, maps: dict[str, Tensor]) -> None:
        """Find the nodes of the graph whose results the maps of the first image are."""
        if self.graph is None:
            return
        for name, both in maps.items():
            found = node_of(self.graph, self.image, both[0])
            if found is not None:
                self.nodes[name] = found

    def project(
        self,
        name: str,
        number: int,
        images: Tensor,
        channel: int,
        position: tuple[int, int] | None,
        rules: Rules,
    ) -> Tensor:
        """Return a projection (c, h, w) by the rules."""
        node = self.nodes[name]
        flat = node.order[channel] if position is None else node.order[channel][position]
        index = torch.unravel_index(flat.reshape(-1), node.shape)
        image = images[number : number + 1].contiguous()
        _, found = self.reference.project(image, node.name, index, rules["method"], rules["unpool"])
        return found[0]

    def largest(self, name: str, rules: Rules, value: float) -> float:
        """Return the largest value of all projections of a layer up to now."""
        key = name, str(rules)
        self.seen[key] = max(self.seen.get(key, 0.0), value)
        return self.seen[key]

    def can(
        self,
        name: str,
        known: Tangents,
        channel: int,
        directions: Tensor,
        tolerance: float,
    ) -> bool:
        """Say whether the reference knows a layer, and gives the right gradient there."""
        if name not in self.nodes:
            return False
        if name not in self.trusted:
            try:
                plain = {"method": "gradient", "unpool": "switches"}
                found = self.project(name, 0, self.image, channel, None, plain)
            except RuntimeError as error:
                self.why = str(error).strip().splitlines()[0]
                self.trusted[name] = False
                return False
            wanted = (known.maps[channel] * known.along[:, channel]).flatten(1).sum(1)
            given = (directions * found).flatten(1).sum(1)
            size = max(float(found.norm()), float(wanted.abs().max()), 1e-300)
            close = float((given - wanted).abs().max()) / size
            self.trusted[name] = close < max(tolerance, 100 * known.doubt)
            if not self.trusted[name]:
                self.why = f"its gradient at {name} is off by {close:.1e}"
        return self.trusted[name]


def _rectifies(node: fx.Node) -> bool:
    """Say whether the reference puts the rule in the place of a node's derivative."""
    target, schema = node.target, getattr(node.target, "_schema", None)
    if schema is None:
        return False
    names = [one.name for one in schema.arguments]
    given = {**dict(zip(names, node.args, strict=False)), **node.kwargs}
    if target in reference.BOUNDS:
        return given.get(reference.BOUNDS[target], -1.0) == 0
    if target is torch.ops.aten.mul.Tensor:
        for value, gate in (node.args, node.args[::-1]):
            if getattr(gate, "target", None) in reference.GATES and gate.args[0] is value:
                return True
    if target is torch.ops.aten.threshold.default:
        return given["threshold"] == given["value"] == 0
    return target in reference.RECTIFIERS


def _even(node: fx.Node) -> bool:
    """Say whether a pooling's windows are all of one size, as the reference takes them to be."""
    if node.target is not torch.ops.aten.adaptive_max_pool2d.default:
        return True
    sizes = node.args[0].meta["val"].shape[-2:]
    return all(size % count == 0 for size, count in zip(sizes, node.args[1], strict=True))
