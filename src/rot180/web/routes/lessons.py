"""The lessons."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import HTMLResponse

from rot180.errors import Rot180Error, suggest
from rot180.web.errors import NotFound
from rot180.web.lessons import LESSONS, convolution, deconvnet, render_lesson

router = APIRouter(prefix="/learn", tags=["lessons"])

_HEADERS = {"Cache-Control": "no-cache"}


@router.get("", response_class=HTMLResponse, include_in_schema=False)
def lessons(request: Request) -> HTMLResponse:
    """List the lessons."""
    return _page(request, "")


@router.get("/convolution.json")
def convolution_numbers(
    image: Annotated[str, Query(description="rows of numbers, as 1,2,3;4,5,6")] = "",
    kernel: Annotated[str, Query(description="rows of numbers")] = "",
    bias: Annotated[str, Query(description="a number")] = "",
    target: Annotated[str, Query(description="rows of numbers, of the output's size")] = "",
    stride: Annotated[str, Query(description="1, 2 or 3")] = "1",
    padding: Annotated[str, Query(description="valid, same or full")] = "valid",
    operation: Annotated[str, Query(description="correlation or convolution")] = "correlation",
    activation: Annotated[str, Query(description="none, relu, sigmoid or tanh")] = "none",
    size: Annotated[str, Query(description="size of a random image, for example 4x4")] = "",
    kernel_size: Annotated[str, Query(description="size of a random kernel, for example 2x2")] = "",
    seed: Annotated[str, Query(description="seed of random numbers")] = "",
) -> convolution.ConvolutionView:
    """Compute a convolution: every number forward and backward, with its products."""
    return convolution.build(
        image=image,
        kernel=kernel,
        bias=bias,
        target=target,
        stride=stride,
        padding=padding,
        operation=operation,
        activation=activation,
        size=size,
        kernel_size=kernel_size,
        seed=seed,
    )


@router.get("/deconvnet.json")
def deconvnet_numbers(
    preset: Annotated[str, Query(description="name of an image: bar, edge, corner, cross")] = "",
    image: Annotated[str, Query(description="6x6 numbers, as rows")] = "",
    first: Annotated[str, Query(description="two kernels of 3x3, with | between")] = "",
    second: Annotated[str, Query(description="four kernels of 2x2, with | between")] = "",
    feature: Annotated[str, Query(description="0 or 1")] = "0",
    unit: Annotated[
        str, Query(description="position y,x of the unit; the strongest if empty")
    ] = "",
    unpool: Annotated[str, Query(description="switches or repeat")] = "switches",
) -> deconvnet.ProjectionView:
    """Project a unit of a tiny network to the pixels, by all three methods."""
    return deconvnet.build(
        preset=preset,
        image=image,
        first=first,
        second=second,
        feature=feature,
        unit=unit,
        unpool=unpool,
    )


@router.get("/{lesson}", response_class=HTMLResponse, include_in_schema=False)
def lesson_page(request: Request, lesson: str) -> HTMLResponse:
    """Show a lesson."""
    if lesson not in LESSONS:
        raise NotFound(f"There is no lesson '{lesson}'. There are: {suggest(LESSONS, lesson)}.")
    return _page(request, lesson)


def _page(request: Request, lesson: str) -> HTMLResponse:
    """Return a lesson's page; an invalid address shows its error on the default lesson."""
    urls, asked = request.app.state.urls, dict(request.query_params)
    try:
        return HTMLResponse(render_lesson(urls, lesson, asked), headers=_HEADERS)
    except Rot180Error as error:
        return HTMLResponse(render_lesson(urls, lesson, {}, str(error)), 400, headers=_HEADERS)
