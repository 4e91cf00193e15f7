"""Errors of the explorer, each with its HTTP status."""

from rot180.errors import Rot180Error


class NotFound(Rot180Error):
    """The requested thing does not exist."""

    status = 404


class ModelUnavailable(Rot180Error):
    """The network is not loaded, so only what the atlas stores can be shown."""

    status = 409


class TooLarge(Rot180Error):
    """The upload is larger than the limit."""

    status = 413


class UnsupportedMedia(Rot180Error):
    """The upload is not an image of a supported format."""

    status = 415


class Busy(Rot180Error):
    """The server has too many jobs; the client should try again."""

    status = 503


def status_of(error: Exception) -> int:
    """Return the HTTP status of an error: 400 if the client can correct it, else 500."""
    usual = 400 if isinstance(error, Rot180Error) else 500
    return int(getattr(error, "status", usual))
