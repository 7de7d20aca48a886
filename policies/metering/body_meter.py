"""The meter of a body that is no form."""

from collections.abc import Callable, Mapping

from policies.account.usage import Measured
from policies.audio.pcm import Format
from policies.audio.sources import Heard, conclude, foreseen
from policies.audio.track import Track
from policies.audio.walker import Chunk
from policies.metering.elsewhere import Elsewhere
from policies.metering.inline_audio import InlineAudio
from policies.metering.json_body import JsonBody
from policies.metering.json_stream import Consumer, Path
from policies.metering.pair_stream import PairStream
from policies.metering.readings import MOST_TEXT_BYTES, heard_as, heard_inside, is_text, says_more


class BodyMeter:
    """A body that is itself the audio; or JSON that holds it, or names it, or has none."""

    __slots__ = (
        "_body_bytes",
        "_declared",
        "_elsewhere",
        "_fields",
        "_json",
        "_pairs",
        "_track",
    )

    def __init__(
        self,
        elsewhere: Elsewhere,
        body_bytes: int | None = None,
        fields: Mapping[str, str] | None = None,
        declared: Format | None = None,
        *,
        says_text: bool = False,
    ) -> None:
        self._elsewhere = elsewhere
        self._body_bytes = body_bytes
        self._fields = fields or {}
        self._declared = declared
        self._json = JsonBody(elsewhere)
        self._pairs = InlineAudio(elsewhere, self._pair_stream) if says_text else None
        self._track = Track()

    def feed(self, chunk: Chunk) -> None:
        """See :class:`policies.metering.meters.Meter`."""
        if isinstance(chunk, bytearray):
            chunk = memoryview(chunk)
        self._json.feed(chunk)
        if self._pairs and self._json.inline is None:
            self._pairs.feed(chunk)
        self._track.feed(chunk)

    def _pair_stream(self, _: object, string: Callable[[Path], Consumer]) -> PairStream:
        return PairStream(string, self._give_up)

    def _give_up(self) -> None:
        """What is not looked at may name anything."""
        self._elsewhere.fetches = True

    @property
    def _inline(self) -> InlineAudio | None:
        """What reads the body, if it is text."""
        return self._json.inline or self._pairs

    @property
    def estimate_ms(self) -> int | None:
        """See :class:`policies.metering.meters.Meter`."""
        return foreseen(self._heard(), self._track.size, self._body_bytes)

    def _heard(self) -> list[Heard]:
        track, inline = self._track, self._inline
        if not track.size:
            return []
        # Services read JSON whatever its content type says (Starlette's request.json(), for one).
        if inline and (is_text(self._json.head, track) or says_more(inline, track)):
            found = heard_inside(inline, track)
            if found or (track.size <= MOST_TEXT_BYTES and (self._elsewhere.fetches or self._declared is None)):
                return found
        return [heard_as(track, self._declared)]

    @property
    def passes_by(self) -> bool:
        """See :class:`policies.metering.meters.Meter`."""
        self._note()
        return self._elsewhere.passes_by

    def _note(self) -> None:
        if self._inline:
            self._inline.note()

    def finish(self, *, reported_ms: int | None = None) -> Measured:
        """See :class:`policies.metering.meters.Meter`."""
        self._note()
        inline = self._inline
        fields = {**self._fields, **inline.fields} if inline else self._fields
        by_url = self._elsewhere.fetches
        return conclude(self._heard(), self._track.size, reported_ms, sound=True, fields=fields, by_url=by_url)
