"""The lessons."""

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse

from rot180.web.answers import page

router = APIRouter(prefix="/learn", tags=["lessons"])


@router.get("", response_class=HTMLResponse, include_in_schema=False)
def lessons(request: Request) -> HTMLResponse:
    """List the lessons."""
    return page("learn.html", request.app.state.links)
