"""Captures a network, projects its features in every way, and compares with the oracles."""

import math
import signal
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

import rot180
from campaign import verdict as classes
from campaign.cases import Case, Unfit, directions_for, images_for, some
from campaign.oracle import Tangents, by_differences, lowest_precision, tangents
from campaign.rules import Ruled
from campaign.verdict import Verdict
from campaign.watching import eager, exported
from rot180.graph.model_copy import tensors_of

METHODS = ("gradient", "deconvnet", "guided")
_BEFORE = "before the rectifier of "
TOLERANCE = {
    torch.float64: 1e-7,
    torch.float32: 5e-3,
    torch.float16: 0.2,
    torch.bfloat16: 0.5,
}
"""Errors that rounding may leave, by the coarsest numbers in the model."""

HARMLESS = 1e-6
"""A signal that is so much smaller than the largest of its layer may be rounding."""

WAITS = 20
"""So many times longer may a network take by the clock than on the processor: others run, too."""

Target = tuple[int, int, tuple[int, int] | None]
"""Number of the image, channel, position or the whole map."""


class TimeUp(BaseException):
    """A network took too long. No one who catches exceptions catches this."""


@contextmanager
def limited(seconds: int) -> Iterator[None]:
    """Raise TimeUp after so many seconds of the processor, or if it waits for very long."""

    def ring(*_: Any) -> None:
        raise TimeUp

    before = {one: signal.signal(one, ring) for one in (signal.SIGPROF, signal.SIGALRM)}
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.alarm(WAITS * seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.alarm(0)
        for one, handler in before.items():
            signal.signal(one, handler)


def judged(case: Case, seconds: int) -> Verdict:
    """Return what comes of a network within so many seconds of the processor."""
    found = Verdict(case.name)
    judge = Judge(case, found)
    try:
        with limited(seconds):
            judge.all()
    except TimeUp:
        found.becomes(classes.LATE, f"stopped after {seconds} s, {judge.at}")
    except Unfit as reason:
        found.becomes(classes.NOT_FIRST, str(reason))
    except rot180.Rot180Error as error:
        found.becomes(classes.REFUSED, str(error))
    except Exception as error:
        kind = classes.CRASH if _in_rot180(error) else classes.UNJUDGED
        found.becomes(kind, f"{judge.at}: {said(error)}")
    return found


def said(error: BaseException) -> str:
    """Return kind and message of an exception, and where it was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [one for one in frames if "rot180" in one.filename or "campaign" in one.filename]
    last = (ours or frames)[-1]
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:300]} ({last.filename[-40:]}:{last.lineno})"


def _in_rot180(error: BaseException) -> bool:
    """Say whether an exception went through rot180's own code."""
    frames = traceback.extract_tb(error.__traceback__)
    return any("/src/rot180/" in one.filename or "/rot180/graph/" in one.filename for one in frames)


class Judge:
    """One network between rot180 and the oracles."""

    def __init__(self, case: Case, found: Verdict) -> None:
        self.case, self.verdict, self.at = case, found, "while it was made"
        self.differences: dict[int, dict[str, Tangents]] = {}

    def all(self) -> None:
        """Go through everything."""
        if not self._made():
            return
        self.at = "while it was captured"
        begun = time.process_time()
        try:
            self.net = self._captured()
        finally:
            self.verdict.seconds = time.process_time() - begun
        names = list(self.net.layers)
        if not names:
            self.verdict.becomes(classes.NO_LAYERS, "it was captured, but has no layers")
            return
        self.names = list(some(names, self.case.small))
        self.at = "while the oracle looked for its layers"
        self._prepare()
        self._outputs()
        self.opened = [rot180.open_image(self.net, one) for one in self.images]
        for name in self.names:
            if name in self.tangents[0]:
                self._layer(name)
        if not self.verdict.compared and self.verdict.kind == classes.RIGHT:
            self.verdict.kind = classes.UNJUDGED

    def _made(self) -> bool:
        """Make the model and its images, in float64 where it takes that."""
        for self.dtype in (torch.float64, torch.float32):
            try:
                self.model = self.case.called(self.dtype)
                self.images = images_for(self.case, self.model, self.dtype)
                with torch.no_grad():
                    self.outputs = [self.model(one[None].clone()) for one in self.images]
                return True
            except Unfit:
                raise
            except Exception as error:
                why = said(error)
        self.verdict.becomes(classes.FAILS, why)
        return False

    def _captured(self) -> rot180.Network:
        model, example = self.case.model(self.dtype), self.images[:1].clone()
        if self.case.inputs is None:
            return rot180.capture(model, example)
        return rot180.capture(model, example, inputs=self.case.inputs(example))

    def _outputs(self) -> None:
        """Compare the outputs for each image by itself, and for two."""
        self.at = "while it ran forward"
        both = rot180.model_outputs(self.net, self.images)
        for number, expected in enumerate(self.outputs):
            leaves = list(tensors_of(expected))
            numbers = getattr(self.net, "output_numbers", range(len(both)))
            found = rot180.model_outputs(self.net, self.images[number : number + 1])
            if len(found) != len(leaves):
                self._note(f"{len(found)} of {len(leaves)} outputs are kept")
            for place, ours, several in zip(numbers, found, both, strict=True):
                wanted = leaves[place] if place < len(leaves) else leaves[-1]
                each = several[number] if several.ndim and len(several) == 2 else ours
                if not all(self._equal(one, wanted) for one in (ours, each)):
                    self._wrong("", f"output {place}", f"image {number}: is not the model's own")

    def _equal(self, ours: Tensor, theirs: Tensor) -> bool:
        if ours.numel() != theirs.numel():
            return False
        if not (theirs.is_floating_point() or theirs.is_complex()) or not theirs.isfinite().all():
            return True
        apart = (ours.reshape(-1) - theirs.reshape(-1)).abs()
        return not apart.numel() or float(apart.max()) <= self.tolerance * float(theirs.abs().max())

    def _prepare(self) -> None:
        """Ask the oracles for all layers and both images."""
        images, run = self.images, eager(self.model)
        self.run = run
        self.directions = directions_for(images)
        coarsest = lowest_precision(run, images[:1], self.directions[:1])
        self.tolerance = TOLERANCE[coarsest]
        if coarsest != torch.float64:
            self.verdict.notes.append(f"goes through {coarsest}: compared to {self.tolerance}")
        maps = {name: rot180.feature_maps(self.net, images, name) for name in self.names}
        rectified = [name for name in self.names if self.net.layers[name].rectified]
        before = {
            name: rot180.feature_maps(self.net, images, name, before_rectifier=True)
            for name in rectified
        }
        self.ruled = Ruled(self.case, self.dtype, images[:1])
        self.tangents: list[dict[str, Tangents]] = []
        for number in (0, 1):
            image, wanted = images[number : number + 1], {k: v[number] for k, v in maps.items()}
            wanted |= {_BEFORE + k: v[number] for k, v in before.items()}
            found = tangents(run, image, self.directions, wanted)
            missing = {name: one for name, one in wanted.items() if name not in found}
            if missing and self.ruled.graph is not None:
                found |= tangents(exported(self.ruled.graph), image, self.directions, missing)
            for name in before:
                self._start_before(name, found)
            self.tangents.append(found)
        for name in self.names:
            known = [name in one for one in self.tangents]
            if not maps[name].isfinite().all():
                self.verdict.becomes(classes.NOT_FINITE, f"{name}: its maps")
            elif not all(known):
                self.verdict.becomes(
                    classes.WRONG, f"{name}: its maps are none that the model computes"
                )
                self.tangents[0].pop(name, None)
        self.ruled.look_at(maps)

    def _start_before(self, name: str, found: dict[str, Tangents]) -> None:
        """Take a layer's changes along the directions before its rectifier: there signals start."""
        early = found.pop(_BEFORE + name, None)
        if name in found and early is not None:
            doubt = max(found[name].doubt, early.doubt)
            found[name] = found[name]._replace(along=early.along, doubt=doubt, how=early.how)
        elif name in found:
            self._note(f"{name}: its values before the rectifier are none that the model computes")
            del found[name]

    def _layer(self, name: str) -> None:
        maps = self.tangents[0][name].maps
        channels, height, width = maps.shape
        place = (height // 2, width - 1)
        corner = (height - 1, 0)
        strongest = int(maps[:, place[0], place[1]].abs().argmax())
        other = 0 if strongest else channels - 1
        both = list(dict.fromkeys([strongest, other]))
        for method in METHODS:
            for unpool in self.ruled.unpoolings():
                self.rules = {"method": method, "unpool": unpool}
                quick = not self.case.small and (method, unpool) != ("gradient", "switches")
                try:
                    self._one_way(name, strongest, place, "cold unit")
                    self._one_way(name, strongest, None, "opened map", opened=0)
                    if quick and name != self.names[len(self.names) // 2]:
                        continue
                    self._one_way(name, both, corner, "two images, units")
                    if quick:
                        continue
                    self._one_way(name, strongest, corner, "opened unit", opened=1)
                    self._one_way(name, both, None, "two images, maps")
                    self._one_way(name, other, "peak", "peak")
                    self._one_way(name, None, place, "all features") if channels < 9 else None
                except rot180.Rot180Error as error:
                    self._refused(name, method, error)
                    if unpool == "switches":
                        break

    def _refused(self, name: str, method: str, error: Exception) -> None:
        """A method that is refused is no fault; the gradient always ought to be there."""
        sentence = f"{name} by {method}: {error}"
        if method == "gradient":
            self.verdict.becomes(classes.REFUSED, sentence)
        else:
            self.verdict.refused.add(method)
            self.verdict.notes.append(f"refused: {sentence}")
            self.verdict.sentence = self.verdict.sentence or str(error)

    def _one_way(self, name: str, channel: Any, place: Any, way: str, opened: int = -1) -> None:
        """Project in one way, and compare each projection."""
        self.at = f"{name}, {way}, by {self.rules['method']}"
        source = self.opened[opened] if opened >= 0 else self.images
        numbers = [opened] if opened >= 0 else [0, 1]
        if way in ("cold unit", "all features"):
            source, numbers = self.images[0], [0]
        found = rot180.project(self.net, source, name, channel, place, **self.rules)
        each = [found] if isinstance(found, rot180.Projection) else list(found)
        wanted = channel if isinstance(channel, list) else [channel]
        if channel is None:
            wanted = list(range(len(self.tangents[0][name].maps)))
        targets = [(number, one) for number in numbers for one in wanted]
        if len(each) != len(targets):
            self._wrong(way, name, f"{len(each)} projections of {len(targets)}")
            return
        for p, (number, one) in zip(each, targets, strict=True):
            self._compare(name, way, p, (number, one, p.position))

    def _compare(self, name: str, way: str, p: rot180.Projection, target: Target) -> None:
        number, channel, position = target
        method = self.rules["method"]
        what = f"feature {channel}, {'whole map' if position is None else position}, {way}"
        given = p.full()
        if not (given.isfinite().all() and math.isfinite(p.activation)):
            self.verdict.becomes(
                classes.NOT_FINITE, f"{name}, {method}: {what}: {self._not_finite(given)}"
            )
            return
        known = self.tangents[number][name]
        chosen = known.maps[channel] if position is None else known.maps[channel][position]
        largest = float(known.maps.abs().max())
        if way == "peak" and float(chosen) < float(known.maps[channel].max()) - 1e-6 * largest:
            self._wrong(way, name, f"the peak of feature {channel} lies elsewhere")
        error = abs(float(chosen.max()) - p.activation) / (largest or 1.0)
        if method == "gradient" and self.rules["unpool"] == "switches":
            tolerance = max(self.tolerance, 20 * known.doubt + 1e-4 * (known.doubt > 0))
            error = max(error, _by_directions(given, known, channel, position, self.directions))
        else:
            tolerance = self.tolerance
            first = self.tangents[0][name]
            if not self.ruled.can(name, first, channel, self.directions, self.tolerance):
                self._unjudged(name, method, self.ruled.why or "no such node")
                return
            try:
                ruled = self.ruled.project(name, number, self.images, channel, position, self.rules)
            except (RuntimeError, TypeError) as error:
                self._unjudged(name, method, str(error).splitlines()[0])
                return
            floor = HARMLESS * self.ruled.largest(name, self.rules, float(ruled.abs().max()))
            size = max(float(ruled.abs().max()), floor, 1e-300)
            error = max(error, float((given - ruled).abs().max()) / size)
        self.verdict.methods.add(method)
        self.verdict.compared += 1
        small = max(1.0, largest / max(float(chosen.abs().max()), 1e-30))
        right = error <= tolerance * small
        if not right:
            plain = method == "gradient" and self.rules["unpool"] == "switches"
            how = known.how if plain else "the rules under autograd"
            if not plain and not self._same_rectifiers():
                self._unjudged(name, method, "the reference finds other rectifiers")
                return
            if plain and self._second_opinion(name, target, given):
                self._note(f"{name}: dual numbers are off, differences agree with rot180")
                return
            self._wrong(way, name, f"{method}, {self.rules['unpool']}: {what}: {error:.1e}, {how}")
        self.verdict.worst = max(self.verdict.worst, error / small)

    def _note(self, sentence: str) -> None:
        if sentence not in self.verdict.notes:
            self.verdict.notes.append(sentence)

    def _unjudged(self, name: str, method: str, why: str) -> None:
        self._note(f"{name}: not judged by the rules: {why}")
        if method != "gradient":
            self.verdict.unjudged.add(method)

    def _same_rectifiers(self) -> bool:
        """Say whether the reference finds as many rectifiers; it knows no hand-written ones."""
        return sum(rot180.report(self.net).rectifiers.values()) == self.ruled.rectifiers()

    def _second_opinion(self, name: str, target: Target, given: Tensor) -> bool:
        """Say whether finite differences agree with rot180 where dual numbers do not."""
        number, channel, position = target
        own = self.tangents[number][name].how != "dual numbers"
        if own or getattr(self.run, "detached", False):
            return False  # a derivative that the model has defined: differences do not know it
        if number not in self.differences:
            image = self.images[number : number + 1]
            maps = {name: one.maps for name, one in self.tangents[number].items()}
            self.differences[number] = by_differences(self.run, image, self.directions, maps)
        known = self.differences[number].get(name)
        if known is None or known.doubt > 1e-3:
            return False
        return _by_directions(given, known, channel, position, self.directions) < 1e-4

    def _wrong(self, way: str, name: str, sentence: str) -> None:
        self.verdict.becomes(classes.WRONG, f"{name}, {sentence}")

    def _not_finite(self, given: Tensor) -> str:
        return f"{int((~given.isfinite()).sum())} of {given.numel()} pixels"


def _by_directions(
    given: Tensor,
    known: Tangents,
    channel: int,
    position: tuple[int, int] | None,
    directions: Tensor,
) -> float:
    """Return how far a projection is from the tangents, over its length."""
    maps, along = known.maps[channel], known.along[:, channel]
    each = maps * along if position is None else (maps[position] * along[:, *position])[:, None]
    wanted = each.flatten(1).sum(1)
    found = (directions * given).flatten(1).sum(1)
    everywhere = float((known.maps * known.along).abs().max())
    size = max(
        float(given.norm()),
        float(wanted.abs().max()),
        HARMLESS * max(everywhere, float(each.abs().flatten(1).sum(1).max())),
        1e-300,
    )
    return float((found - wanted).abs().max()) / size
