"""What belongs to no atlas: the files that pages refer to."""

from fastapi import APIRouter
from starlette.responses import Response

from rot180.web.answers import NotFound
from rot180.web.render import TYPES, static_files

router = APIRouter(include_in_schema=False)


@router.get("/static/{version}/{name}")
def static(version: str, name: str) -> Response:
    """Return a file that pages refer to; its address changes with its content."""
    content = static_files().get(name)
    if content is None:
        raise NotFound(f"There is no file '{name}'.")
    kind = TYPES[f".{name.rsplit('.', 1)[1]}"]
    headers = {"Cache-Control": "public, max-age=31536000, immutable"}
    return Response(content, media_type=kind, headers=headers)
