"""Audio that is elsewhere, and results that go elsewhere: told by the names that services give such parameters.

Deepgram, Speechmatics, Gladia and others fetch what a request names by URL, and send the result to an address of the
client's. A request that has both carries nothing to measure, and no answer that passes here will ever tell its length.
"""

import re
from collections.abc import Sequence

_PLACES = frozenset({"uri", "gcs_uri", "audio_uri", "fetch_data"})
"""Beside every name with "url" in it."""
_SCHEMES = ("http://", "https://", "gs://", "s3://", "ftp://", "file:")
_NO_PLACE = re.compile(r"data:.*|true|false|yes|no|on|off|none|null|-?[\d.]*", re.IGNORECASE | re.DOTALL)
"""Values that surely name no place. Readers of URLs pass over spaces and tabs, and some take ``http:/host``."""
_RETURN = "notification_config"
"""Speechmatics's. Others call it a callback: Deepgram, whisperX-FastAPI (callback_url), Gladia (callback_config)."""
_TOLD_OF = "webhook"
"""AssemblyAI's and Soniox's tell that a job has ended and nothing of its result, which is asked for as ever. A bare
``webhook`` is ElevenLabs', and a switch: on, the result goes there and not into the answer."""
_OFF = frozenset({"", "false", "0", "no", "off", "f", "n"})


def is_place(text: str) -> bool:
    """Whether this says where to fetch something."""
    return text.lower().startswith(_SCHEMES)


class Elsewhere:
    """What one request says of places, wherever in it: query, form and JSON."""

    __slots__ = ("fetches", "returns")

    def __init__(self) -> None:
        self.fetches = False
        """It names a place where audio is."""
        self.returns = False
        """It names a place where the result goes."""

    @property
    def passes_by(self) -> bool:
        """Whether neither the audio nor its length will ever be seen here."""
        return self.fetches and self.returns

    def doubt(self) -> None:
        """Allow for a name that some service reads otherwise: it may be that of any place."""
        self.fetches = self.returns = True

    def note(self, path: Sequence[str], value: str) -> None:
        """Look at one parameter; ``path`` has its names from the top down."""
        names = [name.lower() for name in path]
        if any("callback" in name or name == _RETURN for name in names):
            self.returns = self.returns or bool(value)
        elif names and names[-1] == _TOLD_OF:
            self.returns = self.returns or value.strip().lower() not in _OFF
        elif names and ("url" in names[-1] or names[-1] in _PLACES) and not any(_TOLD_OF in name for name in names):
            self.fetches = self.fetches or not _NO_PLACE.fullmatch(value.strip())
