"""Keeps what was made, up to a limit; what was not asked for longest goes first."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Value = TypeVar("Value")


class Cache(Generic[Value]):
    """Values by key, at most so large together. Threads may share it.

    Args:
        limit: of the sizes of all values together, in bytes.
        size: gives the size of a value.
    """

    def __init__(self, limit: int, size: Callable[[Value], int]) -> None:
        self.limit, self._size = limit, size
        self._values: OrderedDict[Hashable, tuple[Value, int]] = OrderedDict()
        self._lock = threading.Lock()
        self.held = 0

    def get(self, key: Hashable) -> Value | None:
        """Return the value of a key, if it is still there."""
        with self._lock:
            found = self._values.get(key)
            if found is None:
                return None
            self._values.move_to_end(key)
            return found[0]

    def put(self, key: Hashable, value: Value) -> Value:
        """Keep a value, unless it alone is larger than the limit; return it."""
        size = self._size(value)
        with self._lock:
            self._drop(key)
            if size <= self.limit:
                self._values[key] = value, size
                self.held += size
            while self.held > self.limit:
                self._drop(next(iter(self._values)))
        return value

    def get_or_make(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """Return the value of a key, made now if it is not there."""
        found = self.get(key)
        return self.put(key, make()) if found is None else found

    def remeasure(self, key: Hashable) -> None:
        """Measure a value again that has grown since it was put here."""
        with self._lock:
            found = self._values.get(key)
        if found is not None:
            self.put(key, found[0])

    def _drop(self, key: Hashable) -> None:
        found = self._values.pop(key, None)
        if found is not None:
            self.held -= found[1]

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, key: object) -> bool:
        return key in self._values
