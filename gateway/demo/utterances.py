"""Where speech begins and ends: the audio between pauses is recognised one utterance at a time.

A voice activity detector votes on frames of 30 ms. Speech begins when half of the last ten frames are speech, and the
utterance then reaches back over all ten, for a recogniser loses a first word whose onset was cut. It ends after a
pause, or at a length that bounds memory and the time until words are final.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from gateway.demo.pcm import RATE

FRAME_MS = 30
FRAME_BYTES = RATE * 2 * FRAME_MS // 1000

_LEAD_FRAMES = 10
_VOTES_TO_BEGIN = 5
_PAUSE_FRAMES = 15
_LONGEST_FRAMES = 1_000


class Flush:
    """Stands in the stream where the sender wants the words so far to become final."""


FLUSH = Flush()


def cut(chunks: Iterable[bytes | Flush]) -> Iterator[bytes | Flush]:
    """Frames of 30 ms from chunks of any length. The last frame is filled with silence."""
    held = bytearray()
    for chunk in chunks:
        if isinstance(chunk, Flush):
            yield chunk
            continue
        held += chunk
        whole = len(held) - len(held) % FRAME_BYTES
        for at in range(0, whole, FRAME_BYTES):
            yield bytes(held[at : at + FRAME_BYTES])
        del held[:whole]
    if held:
        yield bytes(held).ljust(FRAME_BYTES, b"\0")


@dataclass(frozen=True, slots=True)
class Speech:
    """An utterance that is being heard: when it began, and its frames as they arrive."""

    start_ms: int
    frames: Iterator[bytes]


class Utterances:
    """The utterances of a stream of frames.

    Like ``itertools.groupby``, each shares the underlying stream: take all its frames before asking for the next one.
    """

    def __init__(self, frames: Iterable[bytes | Flush], is_speech: Callable[[bytes], bool]) -> None:
        self._frames = iter(frames)
        self._is_speech = is_speech
        self._heard = 0

    def __iter__(self) -> Iterator[Speech]:
        while lead := self._until_speech():
            yield Speech((self._heard - len(lead)) * FRAME_MS, self._until_pause(lead))

    def _until_speech(self) -> list[bytes]:
        """The frames that lead into the next utterance; empty at the end of the stream."""
        lead: deque[bytes] = deque(maxlen=_LEAD_FRAMES)
        votes: deque[bool] = deque(maxlen=_LEAD_FRAMES)
        for frame in self._frames:
            if isinstance(frame, Flush):
                continue
            self._heard += 1
            lead.append(frame)
            votes.append(self._is_speech(frame))
            if sum(votes) >= _VOTES_TO_BEGIN:
                return list(lead)
        return []

    def _until_pause(self, lead: list[bytes]) -> Iterator[bytes]:
        yield from lead
        length, quiet = len(lead), 0
        for frame in self._frames:
            if isinstance(frame, Flush):
                return
            self._heard += 1
            yield frame
            length += 1
            quiet = 0 if self._is_speech(frame) else quiet + 1
            if quiet == _PAUSE_FRAMES or length == _LONGEST_FRAMES:
                return
