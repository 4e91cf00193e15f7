"""The lessons: what their pages hold, the same for the server and for a folder of pages."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from inspect import signature

from rot180.errors import Rot180Error
from rot180.web.lessons import convolution
from rot180.web.links import Links
from rot180.web.render import render

State = dict[str, str]

STEPS = {
    "convolution": (
        "The case",
        "Perceptron",
        "Forward",
        "The error",
        "Rotated",
        "The weights",
        "Checked",
        "Never lost",
    ),
}
"""What the steps of each lesson are called."""

_NAMES = {"convolution": signature(convolution.asked).parameters}


def _pages() -> Iterator[tuple[str, State]]:
    yield "", {}
    yield "convolution", {}
    for operation in ("correlation", "convolution"):
        for stride in ("1", "2"):
            for padding in convolution.PADDINGS:
                if (stride, padding) != ("2", "same"):  # "same" is defined for stride 1
                    yield (
                        "convolution",
                        {"operation": operation, "stride": stride, "padding": padding},
                    )


PAGES = tuple(_pages())
"""The pages of lessons in a folder: (lesson, state); "" is the list of lessons."""


def rendered(links: Links, lesson: str, state: Mapping[str, str], error: str = "") -> str:
    """Return the page of a lesson, or for "" the list of them.

    Args:
        links: the addresses.
        lesson: its name.
        state: what the address asks for: see the lesson's ``asked``; and ``step``.
        error: what to say about an address that could not be understood.

    Raises:
        Rot180Error: the state cannot be understood.
    """
    if lesson == "":
        return render("learn.html", links=links)
    told = {name: value for name, value in state.items() if name in _NAMES[lesson]}
    made = convolution.asked(**told)
    return render(
        "lesson_convolution.html",
        links=links,
        lesson=made,
        plain=asdict(made),
        options=_convolution_options(links, made),
        steps=STEPS[lesson],
        step=_step(state.get("step", "1"), len(STEPS[lesson])),
        error=error,
        json_link=f"{links.learn(lesson)}.json",
    )


def _step(text: str, count: int) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= count:
        raise Rot180Error(f"The steps of this lesson are numbered from 1 to {count}, not '{text}'.")
    return int(text)


def _convolution_options(links: Links, made: convolution.Lesson) -> dict[str, list[State]]:
    """Return what can be chosen, each with the address of the page that has it."""
    found: dict[str, list[State]] = {}
    for choice, values in convolution.CHOICES.items():
        found[choice] = []
        for value in values:
            if links.served:
                keeps = choice in ("operation", "activation")  # others change the target's size
                state = {k: v for k, v in made.state.items() if keeps or k != "target"}
            else:
                state = {k: made.state[k] for k in ("operation", "stride", "padding")}
            state |= {choice: value}
            there = links.served or ("convolution", state) in PAGES
            address = links.learn("convolution", **state) if there else ""
            found[choice].append({"name": value, "value": value, "address": address})
    return found
