"""A cache with a limit in bytes; the least recently used values are dropped first."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Value = TypeVar("Value")


class Cache(Generic[Value]):
    """Values by key, with a limit to their total size. Threads may share it.

    Args:
        limit: largest total size of all values, in bytes.
        size: returns the size of a value, in bytes.
    """

    def __init__(self, limit: int, size: Callable[[Value], int]) -> None:
        self.limit, self._size = limit, size
        self._values: OrderedDict[Hashable, tuple[Value, int]] = OrderedDict()
        self._lock = threading.Lock()
        self.held = 0

    def get(self, key: Hashable) -> Value | None:
        """Return the value of a key; None if it is not cached."""
        with self._lock:
            found = self._values.get(key)
            if found is None:
                return None
            self._values.move_to_end(key)
            return found[0]

    def put(self, key: Hashable, value: Value) -> Value:
        """Cache a value, unless it is larger than the limit by itself; return it."""
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
        """Return the value of a key; make and cache it if it is missing."""
        found = self.get(key)
        return self.put(key, make()) if found is None else found

    def remeasure(self, key: Hashable) -> None:
        """Update the size of a value that has grown since it was cached."""
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
