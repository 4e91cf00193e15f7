"""Projects units of a layer by the network that an atlas is a scan of."""

from collections.abc import Iterator, Sequence

from rot180.atlas.feature import Example
from rot180.atlas.images import Pixels, PreparedImages
from rot180.atlas.model import ScannedModel
from rot180.graph.operators.operator import BackwardNeeds
from rot180.projection.automatic import resolve_rules
from rot180.projection.result import Projection
from rot180.projection.rules import Rules
from rot180.projection.units import project_units


class LayerProjector:
    """Projects units of one layer, by the network of an atlas and by rules."""

    def __init__(self, scanned: ScannedModel, layer: str, rules: Rules) -> None:
        self.scanned, self.network, self._asked = scanned, scanned.network, rules
        self.layer = self.network.layer(layer)
        self.rules = resolve_rules(self.network, self.layer, rules.method, rules.unpooling)

    def depends_on_image(self, method: str) -> bool:
        """Return whether the projection depends on the image, and not on the activation alone."""
        steps, linear = self.network.steps, self.layer.weight_step
        below = [steps[one].operator for one in self.network.ancestors(linear) if one != linear]
        backward = Rules(method).backward
        by_switches = self.rules.unpooling == "switches"
        return any(
            one.backward_needs(backward) != BackwardNeeds() or (one.switches and by_switches)
            for one in below
        )

    def project(
        self, examples: Sequence[tuple[int, Example]], pixels: dict[int, Pixels]
    ) -> Iterator[Projection]:
        """Project the units of examples, each given with its channel; pixels are by image."""
        units = [(one.image, self.layer.name, channel, one.position) for channel, one in examples]
        return project_units(
            self.network,
            PreparedImages(self.scanned.model, pixels.__getitem__),
            units,
            self._asked.method,
            self._asked.unpooling,
        )
