"""The lessons, and their pages for the server and for exported sites."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from inspect import signature
from itertools import product
from typing import Any

from rot180.errors import Rot180Error
from rot180.web.lessons import convolution, deconvnet
from rot180.web.templates import render
from rot180.web.urls import Urls

State = dict[str, str]


@dataclass(frozen=True)
class Lesson:
    """A lesson.

    Attributes:
        build: computes the view for the query parameters of a URL.
        choices: the choices by name, with their values.
        drops: for a choice, the parameters that are dropped when it changes.
        folder: the choices that have pages of their own in an export.
        steps: titles of its steps.
    """

    build: Callable[..., Any]
    choices: Mapping[str, tuple[str, ...]]
    drops: Mapping[str, tuple[str, ...]]
    folder: tuple[str, ...]
    steps: tuple[str, ...]


LESSONS = {
    "convolution": Lesson(
        convolution.build,
        convolution.CHOICES,
        {"stride": ("target",), "padding": ("target",)},
        ("operation", "stride", "padding"),
        (
            "The case",
            "Perceptron",
            "Forward",
            "The error",
            "Rotated",
            "The weights",
            "Checked",
            "Never lost",
        ),
    ),
    "deconvnet": Lesson(
        deconvnet.build,
        deconvnet.CHOICES,
        {"preset": ("image", "unit"), "feature": ("unit",)},
        ("unpool", "preset", "feature"),
        (
            "The network",
            "Forward",
            "One unit",
            "Rectify",
            "Filter",
            "Unpool",
            "Rectify again",
            "To the pixels",
            "Side by side",
        ),
    ),
}


def _pages() -> Iterator[tuple[str, State]]:
    yield "", {}
    for name, lesson in LESSONS.items():
        yield name, {}
        for values in product(*(lesson.choices[choice] for choice in lesson.folder)):
            state = dict(zip(lesson.folder, values, strict=True))
            # "same" is defined for stride 1 only; larger strides show nothing new.
            if state.get("stride") != "3" and (state.get("stride"), state.get("padding")) != (
                "2",
                "same",
            ):
                yield name, state


PAGES = tuple(_pages())
"""The pages of lessons in an export: (lesson, state); "" is the list of lessons."""


def render_lesson(urls: Urls, lesson: str, state: Mapping[str, str], error: str = "") -> str:
    """Return the page of a lesson, or for "" the list of them.

    Args:
        urls: the URLs of the site.
        lesson: name of the lesson.
        state: the query parameters: those of the lesson's ``build``, and ``step``.
        error: sentence about an invalid address.

    Raises:
        Rot180Error: the state is invalid.
    """
    if lesson == "":
        return render("learn.html", urls=urls)
    one = LESSONS[lesson]
    names = signature(one.build).parameters
    made = one.build(**{name: value for name, value in state.items() if name in names})
    plain = urls.learn(lesson)
    return render(
        f"lesson_{lesson}.html",
        urls=urls,
        name=lesson,
        lesson=made,
        content=asdict(made),
        options=_options(urls, lesson, made.state),
        steps=one.steps,
        step=_step(state.get("step", "1"), len(one.steps)),
        error=error,
        numbers=f"{plain}.json",
        json_link=f"{plain}.json{urls.learn(lesson, **made.state).removeprefix(plain)}",
    )


def _step(text: str, count: int) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= count:
        raise Rot180Error(f"The steps of this lesson are numbered from 1 to {count}, not '{text}'.")
    return int(text)


def _options(urls: Urls, lesson: str, made: State) -> dict[str, list[State]]:
    """Return the choices, each value with the URL of its page."""
    one = LESSONS[lesson]
    found: dict[str, list[State]] = {}
    for choice, values in one.choices.items():
        drops = one.drops.get(choice, ())
        found[choice] = []
        for value in values:
            if urls.has_server:
                state = {name: told for name, told in made.items() if name not in drops}
            else:
                state = {name: made[name] for name in one.folder}
            state |= {choice: value}
            there = urls.has_server or (lesson, state) in PAGES
            found[choice].append(
                {
                    "name": value,
                    "value": value,
                    "address": urls.learn(lesson, **state) if there else "",
                    "drops": " ".join(drops),
                }
            )
    return found
