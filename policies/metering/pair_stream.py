"""A form as links and browsers write it, ``name=value&name=value``, as it passes; its values may be audio.

``application/x-www-form-urlencoded`` of the WHATWG's URL standard: services that take forms at all (FastAPI's, for one)
read their text fields from it as well.
"""

from collections.abc import Callable
from urllib.parse import unquote_plus

from policies.audio.transfer import PercentStream
from policies.audio.walker import Chunk
from policies.metering.json_stream import MOST_KEPT_BYTES, Consumer, Path
from policies.metering.multipart import MOST_PARTS


class PairStream:
    """Reads pairs in any cuts; keeps one name, and of a value what it takes to undo an escape.

    ``string`` is asked at the beginning of every value, with its name, for what takes its bytes. ``too_many`` is told
    where there are more pairs than any form has; they are not looked at.
    """

    __slots__ = ("_consumer", "_name", "_pairs", "_percent", "_string", "_too_many")

    def __init__(self, string: Callable[[Path], Consumer], too_many: Callable[[], None]) -> None:
        self._string = string
        self._too_many = too_many
        self._name = b""
        self._pairs = 0
        self._consumer: Consumer | None = None
        self._percent = PercentStream()

    def feed(self, chunk: Chunk) -> None:
        """The next bytes."""
        if self._pairs >= MOST_PARTS:
            return
        first, *others = bytes(chunk).split(b"&", MOST_PARTS - self._pairs)
        self._take(first)
        for piece in others:
            self._pairs += 1
            self._name, self._consumer = b"", None
            if self._pairs >= MOST_PARTS:
                self._too_many()
                return
            self._take(piece)

    def _take(self, piece: bytes) -> None:
        if self._consumer is None:
            name, is_named, piece = piece.partition(b"=")
            self._name += name[: MOST_KEPT_BYTES - len(self._name)]
            if not is_named:
                return
            self._percent = PercentStream()
            self._consumer = self._string((unquote_plus(self._name.decode("latin-1")),))
        self._consumer(self._percent.decode(piece.replace(b"+", b" ")))
