"""Runs the application with uvicorn."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp

from rot180.errors import Rot180Error
from rot180.web.connections import BoundedProtocol


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens at a port of an interface; port 0 picks a free one.

    Raises:
        Rot180Error: the port is taken, or the interface does not exist.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol named, asyncio sends small responses at once; else they wait for 40 ms.
    found = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((host, port))
        found.listen(256)  # early requests wait for the application
    except (OSError, OverflowError) as error:
        found.close()
        reason = getattr(error, "strerror", None) or str(error)
        raise Rot180Error(
            f"Cannot listen at {host}, port {port}: {reason}. Choose another --port (0: any free "
            "port) or --host."
        ) from error
    return found


def _configured(app: ASGIApp) -> uvicorn.Server:
    return uvicorn.Server(
        uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_keep_alive=30,
            http=BoundedProtocol,
            h11_max_incomplete_event_size=64 * 1024,
        )
    )


def run(app: ASGIApp, listening: socket.socket) -> None:
    """Serve until interrupted."""
    _configured(app).run(sockets=[listening])


@contextmanager
def serve_in_thread(app: ASGIApp) -> Iterator[str]:
    """Serve on this machine in a thread while the block runs; yields the address."""
    listening = listen("127.0.0.1", 0)
    server = _configured(app)
    thread = threading.Thread(
        target=lambda: asyncio.run(server.serve(sockets=[listening])), daemon=True
    )
    thread.start()
    try:
        while not server.started:
            if not thread.is_alive():
                raise Rot180Error("The server did not start.")
            threading.Event().wait(0.01)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)
        listening.close()
