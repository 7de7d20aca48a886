"""From bytes to audio milliseconds: the meter of one request body.

A meter only watches. It is fed what is forwarded, in any cuts, and never raises; when the exchange has ended it says
what was measured and where the figure comes from (``policies.audio.sources``).

A Content-Encoding of the request is not undone here: inflating what a stranger packed would stall the event loop, and
unread it is audio at the price of its packed bytes. Metered routes refuse such requests.
"""

from typing import Protocol
from urllib.parse import parse_qsl

from policies.account.usage import NOT_AUDIO, Measured
from policies.audio.pcm import WIDTHS, by_content_type, by_query, read_query
from policies.audio.walker import Chunk
from policies.metering.body_meter import BodyMeter
from policies.metering.elsewhere import Elsewhere
from policies.metering.form_meter import FormMeter
from policies.metering.multipart import parameters

_TEXT_TYPES = frozenset({"application/json", "application/x-www-form-urlencoded"})
"""Requests that name their audio by URL (Deepgram, whisperX-FastAPI)."""
_NOT = frozenset({"false", "0", "no", "off", "f", "n"})


class Meter(Protocol):
    """Measures the audio of one request body."""

    def feed(self, chunk: Chunk) -> None:
        """The next bytes of the body, as they were received; what it is given is written over afterwards."""

    @property
    def estimate_ms(self) -> int | None:
        """The best guess at the whole body, at any time: unproved, for a reservation. Never less than what has passed.

        From what its header claims; else from what has passed, over the announced length; else from that length alone.
        None where nothing is known yet.
        """

    @property
    def passes_by(self) -> bool:
        """Whether the request names its audio by URL, as far as it has passed, and a place for its result as well."""

    def finish(self, *, reported_ms: int | None = None) -> Measured:
        """The figure for all bytes fed so far. ``reported_ms`` is the upstream's, from ``policies.audio.reported``."""


def meter_for(profile: str, content_type: str, body_bytes: int | None = None, query: str = "") -> Meter:
    """The meter for a route's profile, and a request's content type, announced length and raw query.

    A form is read as a form on any kind of route, and anything else as one file: services do not all insist on the
    type they document. Raises ValueError for a profile that is not one of ``policies.routing.routes.METERS``.
    """
    if profile == "none":
        return _NO_METER
    if profile not in {"multipart", "raw"}:
        raise ValueError(f"{profile!r} is not a metering profile: write multipart, raw or none")
    media_type = content_type.partition(";")[0].strip().lower()
    elsewhere = Elsewhere()
    _note_pairs(elsewhere, query)
    asked = read_query(query) if query else {}
    fields = {name: asked[name][-1] for name in ("model", "language") if name in asked}
    # No service that takes forms reads an encoding in the query: believed there, it makes what nobody can walk cheap.
    declared = by_query(asked) if "encoding" in asked and profile == "raw" else None
    if media_type.startswith("multipart/"):
        undecoded = asked.get("encode", [""])[-1].lower() in _NOT
        is_raw = profile == "raw"
        return FormMeter(content_type, elsewhere, body_bytes, fields, declared, may_be_raw=is_raw, undecoded=undecoded)
    if declared is None and media_type in WIDTHS:
        declared = by_content_type(media_type, dict(parameters(content_type)))
    return BodyMeter(elsewhere, body_bytes, fields, declared, says_text=media_type in _TEXT_TYPES)


def _note_pairs(elsewhere: Elsewhere, pairs: str) -> None:
    """The places that a query names, or a form that is written like one."""
    for name, value in parse_qsl(pairs, keep_blank_values=True) if pairs else ():
        elsewhere.note((name,), value)


class NoMeter:
    """A route that carries no audio."""

    __slots__ = ()

    estimate_ms = None
    passes_by = False

    def feed(self, chunk: Chunk) -> None:
        """See :class:`Meter`."""

    def finish(self, *, reported_ms: int | None = None) -> Measured:  # noqa: ARG002  the promise has it
        """See :class:`Meter`."""
        return NOT_AUDIO


_NO_METER = NoMeter()
