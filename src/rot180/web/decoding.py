"""Decodes uploaded images in a separate process, which can be killed.

A file of some megabytes can keep a parser busy for minutes, or make it allocate all memory. A
thread cannot stop either. The process decodes one image at a time; if one takes too long, the
process is killed, and the next image starts a new one.
"""

import atexit
import os
import struct
import subprocess
import sys
from contextlib import suppress
from io import BytesIO
from threading import Lock, Timer
from typing import IO

import numpy as np
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError

from rot180.datasets import BadImage, decode, resize_and_crop
from rot180.web.errors import TooLarge, UnsupportedMedia

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
MOST_PIXELS = 50_000_000
SECONDS = 10.0
MEMORY = 2 * 2**30
"""Bytes that the process may allocate on top of its memory before the first image (where the system
can limit them)."""

_ASKED = struct.Struct(">QIIB")  # bytes of the file; height, width and channels of the result
_ANSWERED = struct.Struct(">BQ")  # one of the kinds below; bytes that follow
_PIXELS, _UNSUPPORTED, _TOO_LARGE = range(3)


class Decoder:
    """Decodes images one at a time, with limits on time and memory.

    Args:
        seconds: time limit of one image.
    """

    def __init__(self, seconds: float = SECONDS) -> None:
        self.seconds = seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._one = Lock()
        atexit.register(self.close)

    def fitted(
        self, data: bytes, size: tuple[int, int], channels: int
    ) -> UInt8[np.ndarray, "height width channels"]:
        """Decode a file and resize the image to a size (height, width) and 1 or 3 channels.

        Raises:
            UnsupportedMedia: the file has another format or is damaged, or decoding it takes too
                much time or memory.
            TooLarge: the image has too many pixels.
        """
        with self._one:
            kind, answer = self._answer(_ASKED.pack(len(data), *size, channels) + data)
        if kind == _PIXELS:
            return np.frombuffer(answer, np.uint8).reshape(*size, channels)
        raise (TooLarge if kind == _TOO_LARGE else UnsupportedMedia)(
            answer.decode(errors="replace")
        )

    def close(self) -> None:
        """End the process."""
        with self._one:
            self._end()

    def _answer(self, asked: bytes) -> tuple[int, bytes]:
        process = self._started()
        late = []

        def end() -> None:
            late.append(True)
            process.kill()

        assert process.stdin is not None
        assert process.stdout is not None
        clock = Timer(self.seconds, end)
        clock.start()
        try:
            process.stdin.write(asked)
            process.stdin.flush()
            kind, length = _ANSWERED.unpack(_whole(process.stdout, _ANSWERED.size))
            return kind, _whole(process.stdout, length)
        except (EOFError, OSError):
            self._end()
            if late:
                why = f"decoding it takes more than {self.seconds:g} seconds"
            else:
                why = "the decoding process ended unexpectedly"
            return _UNSUPPORTED, f"This image cannot be read: {why}.".encode()
        finally:
            clock.cancel()

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._process.poll() is None:
            return self._process
        self._end()
        path = os.pathsep.join(entry for entry in sys.path if entry)
        threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            # -P: nothing is imported from the folder in which the explorer was started
            [sys.executable, "-P", "-m", "rot180.web.decoding"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path, **threads},
            start_new_session=True,  # Ctrl-C is for the explorer, which ends this process itself
        )
        return self._process

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            with suppress(OSError):
                process.communicate()


def _whole(stream: IO[bytes], count: int) -> bytes:
    """Read exactly so many bytes.

    Raises:
        EOFError: the stream ends first.
    """
    parts = []
    while count:
        part = stream.read(min(count, 2**20))
        if not part:
            raise EOFError
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def _decoded(data: bytes, size: tuple[int, int], channels: int) -> tuple[int, bytes]:
    """Return the answer to a request: its kind, and pixels or an error sentence."""
    try:
        with Image.open(BytesIO(data), formats=FORMATS) as image:
            width, height = image.size
        if width * height > MOST_PIXELS:
            return _TOO_LARGE, (
                f"This image has {width} x {height} pixels; at most {MOST_PIXELS // 10**6} "
                "million are accepted. Make it smaller."
            ).encode()
        return _PIXELS, resize_and_crop(decode(data, "this picture"), size, channels).tobytes()
    except UnidentifiedImageError:
        return _UNSUPPORTED, (
            b"This image cannot be read: it is not a JPEG, PNG, WebP, GIF or BMP file."
        )
    except MemoryError:
        reason = "decoding it takes too much memory"
    except BadImage as error:
        reason = error.reason
    except Exception as error:  # parsers fail on damaged bytes in ways that no list of types covers
        reason = " ".join(str(error).split()).rstrip(".")[:200] or type(error).__name__
    return _UNSUPPORTED, f"This image cannot be read: {reason}.".encode(errors="replace")


def _limit_memory() -> None:
    """Limit the memory of this process, where the system can."""
    try:
        import resource
    except ImportError:  # Windows
        return
    with suppress(OSError, ValueError):
        with open("/proc/self/statm") as numbers:
            has = int(numbers.read().split()[0]) * resource.getpagesize()
        _, most = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (has + MEMORY, most))


def main() -> None:
    """Answer the requests on standard input on standard output, until it ends."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not mix with the answers
    _limit_memory()
    with suppress(EOFError, BrokenPipeError):
        while True:
            length, height, width, channels = _ASKED.unpack(_whole(sys.stdin.buffer, _ASKED.size))
            data = _whole(sys.stdin.buffer, length)
            kind, answer = _decoded(data, (height, width), channels)
            answers.write(_ANSWERED.pack(kind, len(answer)) + answer)
            answers.flush()


if __name__ == "__main__":
    main()
