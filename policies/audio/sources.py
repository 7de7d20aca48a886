"""Which figure counts: the sources of a length, ranked.

walked     counted from the containers' own frames. Headers are claims: where they differ, what the bytes hold counts
reported   the upstream's figure, where not all could be walked, or where it heard more; never less than what was walked
estimated  bytes over an assumed bit rate (``policies.audio.track``), where there is nothing better

So a forged header can neither lower the figure nor raise it above what the bytes hold. It can only be noticed.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from policies.account.usage import AudioSource, Measured
from policies.audio.track import UNKNOWN_BITRATE, Track
from policies.audio.walker import LONGEST_MS

SLOWEST_BYTES_PER_SECOND = 50
"""No speech codec takes less: a report of more audio than the bytes hold at 400 bit/s is not believed."""

_TOLERANCE = 0.02
_SLACK_MS = 100
"""What a codec's padding and delay come to; less is no discrepancy, however short the file."""
_SECOND_MS = 1000
_TELLING_BYTES = 4096
"""How much must have passed before the rest is taken to be like it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """One file, measured."""

    container: str
    codec: str
    channels: int | None
    walked_ms: int | None
    claimed_ms: int | None
    estimated_ms: int
    unsure: bool = False

    @classmethod
    def of(cls, track: Track) -> "Heard":
        """The track as it stands. Asked for every piece of a body that something is reserved for."""
        walked_ms = track.walked_ms
        return cls(
            container=str(track.container or ""),
            codec=track.codec,
            channels=track.channels,
            walked_ms=walked_ms,
            claimed_ms=track.claimed_ms,
            estimated_ms=track.weight_ms if walked_ms else track.estimated_ms,
            unsure=track.unsure,
        )

    def joined(self, other: "Heard") -> "Heard":
        """Both as one, where there are too many to be told apart."""
        both = self.walked_ms is not None and other.walked_ms is not None
        return replace(
            self,
            walked_ms=total((self.walked_ms, other.walked_ms)) if both else None,
            claimed_ms=total((self.claimed_ms, other.claimed_ms)),
            estimated_ms=self.best_ms + other.best_ms,
            unsure=self.unsure or other.unsure,
        )

    @property
    def best_ms(self) -> int:
        """What its bytes say."""
        return self.estimated_ms if self.walked_ms is None else self.walked_ms

    @property
    def is_doubtful(self) -> bool:
        """Whether its header claims another length than was walked, or its figure rests on a guess."""
        return self.unsure or (
            None not in {self.walked_ms, self.claimed_ms} and _differ(self.walked_ms or 0, self.claimed_ms or 0)
        )


def conclude(
    files: Sequence[Heard],
    body_bytes: int,
    reported_ms: int | None,
    *,
    sound: bool,
    fields: Mapping[str, str],
    by_url: bool = False,
    weighed_bitrate: int = UNKNOWN_BITRATE,
) -> Measured:
    """Rank the sources.

    ``sound`` is False for a body that its reader may cut into other parts than the meter did, which weighs at
    ``weighed_bitrate`` at the least; ``by_url`` says that it names a place where audio is, perhaps beside some that it
    holds itself.
    """
    weight_ms = sum(file.estimated_ms for file in files)
    if not sound:
        weight_ms = max(weight_ms, body_bytes * 8000 // weighed_bitrate)
    if by_url:
        chosen = _elsewhere(files, reported_ms, 0 if sound else weight_ms)
    else:
        chosen = _held(files, body_bytes, reported_ms, weight_ms, sound=sound)
    main = max(files, key=lambda file: file.best_ms, default=_NOTHING_HEARD)
    return Measured(
        audio_ms=min(chosen.audio_ms, LONGEST_MS),
        source=chosen.source,
        walked_ms=total(file.walked_ms for file in files),
        reported_ms=reported_ms,
        estimated_ms=weight_ms if files or not sound else None,
        discrepant=chosen.is_doubtful
        or not sound
        or chosen.audio_ms > LONGEST_MS
        or any(file.is_doubtful for file in files),
        channels=max((file.channels for file in files if file.channels is not None), default=None),
        container=main.container,
        codec=main.codec,
        model=_first(fields, MODEL),
        language=_first(fields, LANGUAGE),
        response_format=fields.get("response_format", ""),
    )


MODEL = ("model", "model_id", "speech_model", "operating_point")
"""OpenAI's and most others' name for it, ElevenLabs', AssemblyAI's, Speechmatics' of old."""
LANGUAGE = ("language", "language_code")


def _first(fields: Mapping[str, str], names: Sequence[str]) -> str:
    return next((fields[name] for name in names if fields.get(name)), "")


class _Chosen(NamedTuple):
    """The figure that counts."""

    source: AudioSource
    audio_ms: int
    is_doubtful: bool = False


def _elsewhere(files: Sequence[Heard], reported_ms: int | None, least_ms: int) -> _Chosen:
    """Of audio that is not in the body only the upstream can tell. What is in it counts, and bounds nothing.

    ``least_ms`` is what it weighs where its reader may cut it otherwise: a URL beside that makes none of it free.
    """
    held_ms = max(sum(file.best_ms for file in files), least_ms)
    if reported_ms is None:
        return _Chosen(AudioSource.UNMEASURED, held_ms, is_doubtful=True)
    return _Chosen(AudioSource.REPORTED, max(reported_ms, held_ms), is_doubtful=bool(files))


def _held(files: Sequence[Heard], body_bytes: int, reported_ms: int | None, weight_ms: int, *, sound: bool) -> _Chosen:
    """Of a body that holds its audio."""
    if sound and not files:
        return _Chosen(AudioSource.NONE if reported_ms is None else AudioSource.REPORTED, reported_ms or 0)
    walked_ms = total(file.walked_ms for file in files) or 0
    most_ms = most_held_ms(body_bytes)
    fits = reported_ms is not None and reported_ms <= most_ms
    if sound and all(file.walked_ms is not None for file in files):
        if reported_ms is None or not _report_differs(walked_ms, reported_ms):
            return _Chosen(AudioSource.WALKED, walked_ms)
        if is_heard_more(walked_ms, reported_ms, most_ms):
            return _Chosen(AudioSource.REPORTED, reported_ms, is_doubtful=True)
        return _Chosen(AudioSource.WALKED, walked_ms, is_doubtful=True)
    if reported_ms is not None and fits:
        return _Chosen(AudioSource.REPORTED, max(reported_ms, walked_ms))
    best_ms = sum(file.best_ms for file in files)
    audio_ms = best_ms if sound else max(best_ms, weight_ms)
    return _Chosen(AudioSource.ESTIMATED, audio_ms, is_doubtful=reported_ms is not None)


def most_held_ms(body_bytes: int) -> int:
    """The most audio that so many bytes can hold."""
    return body_bytes * 1000 // SLOWEST_BYTES_PER_SECOND


def is_heard_more(walked_ms: int, reported_ms: int, most_ms: int) -> bool:
    """Whether the upstream heard more than the container admits to: a header that only its reader sees through.

    ``most_ms`` is what its bytes can hold.
    """
    return walked_ms < reported_ms <= most_ms and _report_differs(walked_ms, reported_ms)


def foreseen(files: Sequence[Heard], seen: int, body_bytes: int | None) -> int | None:
    """The best guess at a body of which ``seen`` bytes have passed; None where nothing tells.

    ``body_bytes`` is its announced length, and bounds what a header may claim: a guess must not reserve a year.
    """
    so_far = sum(file.best_ms for file in files)
    claimed = total(file.claimed_ms for file in files)
    if claimed is not None:
        if body_bytes is not None:
            claimed = min(claimed, most_held_ms(body_bytes))
        return min(max(claimed, so_far), LONGEST_MS)
    if body_bytes is None:
        return so_far or None
    if so_far and seen >= _TELLING_BYTES:
        return min(so_far * max(body_bytes, seen) // seen, LONGEST_MS)
    return min(max(body_bytes * 8000 // UNKNOWN_BITRATE, so_far), LONGEST_MS)


_NOTHING_HEARD = Heard(container="", codec="", channels=None, walked_ms=None, claimed_ms=None, estimated_ms=0)


def _differ(one_ms: int, other_ms: int) -> bool:
    return abs(one_ms - other_ms) > max(_TOLERANCE * max(one_ms, other_ms), _SLACK_MS)


def _report_differs(walked_ms: int, reported_ms: int) -> bool:
    """A report in whole seconds is rounded (vLLM: up), so it differs only by a second or more."""
    is_rounded = reported_ms % _SECOND_MS == 0 and abs(walked_ms - reported_ms) < _SECOND_MS
    return _differ(walked_ms, reported_ms) and not is_rounded


def total(figures: Iterable[int | None]) -> int | None:
    """Of those that are known; None when none is."""
    known = [figure for figure in figures if figure is not None]
    return sum(known) if known else None
