"""Does rot180 give right numbers for the networks that people have? A campaign against oracles.

Each network is captured, and features of its first, middle and last layer (of all layers, if it is
small) are projected in every way: units and whole maps, from an image, from an opened image and
from two images, by all methods and unpoolings. The gradient is compared with derivatives that the
user's own model gives with dual numbers, going forward (or differences, where an operator knows no
dual numbers); deconvnet and guided with the rules under autograd on the exported graph.

    python benchmarks/zoo.py --constructs              small networks, one for each construct
    python benchmarks/zoo.py --random 100 --seed 0     so many of timm's architectures
    python benchmarks/zoo.py --libraries               networks of other libraries
    python benchmarks/zoo.py --constructs --only GLU   those whose names hold this; timm:resnet18

A line for each network: what came of it, the largest error, how many projections were compared, the
processor seconds to capture it, and why it is not simply right. The classes:

====================  ============================================================================
right                 every number is right to rounding; ``right, gradient only``: the other
                      methods are refused somewhere; ``right, rules unknown``: there are
                      rectifiers that the reference of the rules does not know
WRONG                 a number differs, and no word is said
not finite            a projection holds NaN or infinity, and no word is said
refused               by a sentence, when captured or by all methods
no layers             captured, but nothing can be projected
CRASH                 an exception that is no Rot180Error
model fails           the model itself fails for one image in evaluation mode
no convolution first  drawn at random, but its first layer is another
time limit            it took too long
not judged            the oracle failed
====================  ============================================================================

The exit status is 1 if any is WRONG or a CRASH.
"""

import argparse
import gc
import json
import logging
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch
import torch._dynamo  # before any time limit: an import that is interrupted leaves half a module

warnings.filterwarnings("ignore")
logging.disable(logging.WARNING)
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from campaign.cases import Case  # noqa: E402
from campaign.constructs import constructs  # noqa: E402
from campaign.judge import judged  # noqa: E402
from campaign.libraries import of_libraries  # noqa: E402
from campaign.random_timm import drawn, named  # noqa: E402
from campaign.verdict import GRAVE, HEAD, Verdict, totals  # noqa: E402


def cases(asked: argparse.Namespace) -> Iterator[Case | str]:
    """Yield what is asked for; a string is a line to be printed."""
    if asked.only.startswith("timm:"):
        yield named(asked.only.removeprefix("timm:"))
        return
    if asked.constructs:
        yield from constructs()
    if asked.libraries:
        yield from of_libraries()
    if asked.random:
        yield from drawn(asked.random, asked.seed)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--constructs", action="store_true")
    parser.add_argument("--libraries", action="store_true")
    parser.add_argument("--random", type=int, default=0, metavar="N")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="a name, or a part of it")
    parser.add_argument("--json", type=Path, help="file for the results")
    parser.add_argument("--limit", type=int, default=240, help="processor seconds for one network")
    parser.add_argument("--notes", action="store_true", help="print all that was seen")
    asked = parser.parse_args()
    found: list[Verdict] = []
    print(HEAD)
    for case in cases(asked):
        if isinstance(case, str):
            print(case, flush=True)
        elif asked.only in case.name:
            found.append(judged(case, asked.limit))
            print(found[-1].line(), flush=True)
            for note in found[-1].notes if asked.notes else ():
                print(f"    {note}")
            torch._dynamo.reset()
            gc.collect()
        if asked.json:
            asked.json.write_text(json.dumps([one.as_json() for one in found], indent=1) + "\n")
    print(totals(found))
    return int(any(one.kind in GRAVE for one in found))


if __name__ == "__main__":
    sys.exit(main())
