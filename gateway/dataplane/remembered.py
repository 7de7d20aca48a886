"""What is worked out once for the whole worker, of things that come again. Bounded by beginning anew.

A thing is not kept before it has come twice: most headers of uploads come once, and would drive the others out.
"""

from collections.abc import Hashable
from typing import Generic, TypeVar

_MOST = 2_000
_MOST_SEEN = 20_000

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class Remembered(Generic[Key, Value]):
    """Values by what they were worked out from."""

    __slots__ = ("_kept", "_seen")

    def __init__(self) -> None:
        self._kept: dict[Key, Value] = {}
        self._seen: set[int] = set()

    def find(self, key: Key) -> Value | None:
        """What it amounts to, if that is kept."""
        return self._kept.get(key)

    def has_come(self, key: Key) -> bool:
        """Whether it has come before, as far as that is known."""
        mark = hash(key)
        if mark in self._seen:
            return True
        if len(self._seen) >= _MOST_SEEN:
            self._seen.clear()
        self._seen.add(mark)
        return False

    def keep(self, key: Key, value: Value) -> None:
        """Keep it, in place of what it amounted to before."""
        if len(self._kept) >= _MOST:
            self._kept.clear()
        self._kept[key] = value

    def forget(self, key: Key) -> None:
        """It amounts to something else now."""
        self._kept.pop(key, None)
