"""Files that others made are opened only if they are regular files."""

import os
import stat
from io import BufferedReader
from pathlib import Path


def open_regular(path: Path) -> BufferedReader:
    """Open a file to read it, without waiting for a pipe or asking a device anything.

    Raises:
        OSError: there is none, it may not be read, or it is no regular file.
    """
    # Devices can act on being opened. What it is now is not what it is later, hence the other look.
    if stat.S_ISREG(path.stat().st_mode):
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        file = os.fdopen(os.open(path, flags), "rb")
        if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            return file
        file.close()
    raise OSError(0, "it is not a regular file", str(path))


def advice(error: OSError) -> str:
    """Return a sentence on what to do, with a space before it; nothing where that is not known."""
    if isinstance(error, PermissionError):
        return " Check its permissions."
    return ""
