"""What can go wrong while pages are shown, each with the status that HTTP has for it."""

from rot180.errors import Rot180Error


class NotFound(Rot180Error):
    """There is no such thing."""

    status = 404


class ModelUnavailable(Rot180Error):
    """The network is not at hand, so nothing can be computed; what is stored can be shown."""

    status = 409


class TooLarge(Rot180Error):
    """What was sent is larger than is taken."""

    status = 413


class UnsupportedMedia(Rot180Error):
    """What was sent is no picture that is taken."""

    status = 415


class Busy(Rot180Error):
    """There is too much to do already; try again."""

    status = 503


def status_of(error: Exception) -> int:
    """Return the status that answers an error: 400 for what the asker can put right, else 500."""
    usual = 400 if isinstance(error, Rot180Error) else 500
    return int(getattr(error, "status", usual))
