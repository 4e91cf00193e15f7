"""Decodes pictures that people send in a process of its own, which can be ended.

A file of some megabytes can keep a parser busy for minutes, or make it ask for all memory. Neither
can be stopped from within a thread. The process gets one picture after the other; where one takes
too long it is killed, and the next picture starts a new one.
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
"""Bytes that the process may have beside what it has before its first picture (where the system
can limit them)."""

_ASKED = struct.Struct(">QIIB")  # bytes of the picture; height, width and channels that are wanted
_ANSWERED = struct.Struct(">BQ")  # one of the kinds below; bytes that follow
_PIXELS, _UNSUPPORTED, _TOO_LARGE = range(3)


class Decoder:
    """Decodes pictures one after the other, each within bounds of time and memory.

    Args:
        seconds: that one picture may take.
    """

    def __init__(self, seconds: float = SECONDS) -> None:
        self.seconds = seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._one = Lock()
        atexit.register(self.close)

    def fitted(
        self, data: bytes, size: tuple[int, int], channels: int
    ) -> UInt8[np.ndarray, "height width channels"]:
        """Decode a file and bring the picture to a size (height, width) and 1 or 3 channels.

        Raises:
            UnsupportedMedia: it is of another format or damaged, or takes too much time or memory.
            TooLarge: it has too many pixels.
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
                why = "the process that decoded it ended"
            return _UNSUPPORTED, f"This picture cannot be read: {why}.".encode()
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
    """Read so many bytes.

    Raises:
        EOFError: there are fewer.
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
    """Return what is answered: a kind, and pixels or a sentence."""
    try:
        with Image.open(BytesIO(data), formats=FORMATS) as image:
            width, height = image.size
        if width * height > MOST_PIXELS:
            return _TOO_LARGE, (
                f"This picture has {width} x {height} pixels; at most {MOST_PIXELS // 10**6} "
                "million are taken. Make it smaller."
            ).encode()
        return _PIXELS, resize_and_crop(decode(data, "this picture"), size, channels).tobytes()
    except UnidentifiedImageError:
        return _UNSUPPORTED, (
            b"This picture cannot be read: it is no JPEG, PNG, WebP, GIF or BMP file."
        )
    except MemoryError:
        reason = "decoding it takes too much memory"
    except BadImage as error:
        reason = error.reason
    except Exception as error:  # parsers fail on damaged bytes in ways that no list of types covers
        reason = " ".join(str(error).split()).rstrip(".")[:200] or type(error).__name__
    return _UNSUPPORTED, f"This picture cannot be read: {reason}.".encode(errors="replace")


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
    """Answer on the standard output what comes on the standard input, until that ends."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints is no answer
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
