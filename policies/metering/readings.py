"""What is heard of bytes that may be read as a file, as plain samples, or as a text with audio in it."""

from dataclasses import replace

from policies.audio.pcm import Format
from policies.audio.sources import Heard
from policies.audio.track import UNKNOWN_BITRATE, Track
from policies.audio.walker import milliseconds
from policies.metering.inline_audio import InlineAudio

MOST_TEXT_BYTES = 65_536
"""The longest text that names its audio by URL, or has none: in a longer one there is audio, as numbers perhaps."""
_MOST_NUMBERS = 1600
"""In a text that describes something. More of them are samples: a tenth of a second at 16 kHz."""
_TEXT_BYTES = frozenset(b"\t\n\r") | frozenset(range(0x20, 0x7F))


def heard_as(track: Track, declared: Format | None) -> Heard:
    """A file whose samples somebody declared to be plain: as such, or by its container, whichever plays longer.

    What begins like a container and cannot be walked is weighed: some services read the file all the same.
    """
    heard = Heard.of(track)
    if declared is None:
        return heard
    ms = milliseconds(track.size // declared.frame, declared.rate)
    file_ms = heard.best_ms if track.is_file else heard.walked_ms
    if file_ms is not None and file_ms >= ms:
        return heard
    form = replace(heard, container="pcm", codec=declared.codec, channels=declared.channels)
    return replace(form, walked_ms=ms, claimed_ms=None, estimated_ms=ms, unsure=False)


def heard_inside(inline: InlineAudio, track: Track) -> list[Heard]:
    """The audio in a JSON text; where most of the text is something else, or numbers, what the rest weighs as well."""
    found, rest = inline.heard, track.size - inline.audio_bytes
    is_other = found and rest > max(MOST_TEXT_BYTES, track.size // 4)  # escapes make a quarter of it at most
    if is_other or inline.numbers > _MOST_NUMBERS:
        found.append(replace(Heard.of(track), estimated_ms=rest * 8000 // UNKNOWN_BITRATE))
    return found


def is_text(head: bytes, track: Track) -> bool:
    """Whether a body begins like a text, and nothing that a decoder would play was found in it."""
    return not track.container and track.walked_ms is None and all(byte in _TEXT_BYTES for byte in head)


def says_more(inline: InlineAudio, track: Track) -> bool:
    """Whether the strings of a JSON text hold more than is found in the whole: UTF-16 begins like a frame of sound."""
    found = sum(heard.best_ms for heard in inline.heard)
    return found > 0 and found > Heard.of(track).best_ms
