"""What walking costs, in CPU per hour of audio: ``python -m tests.bench.walkers --help``.

Each recording is made by FFmpeg, a minute of a tone or of white noise, and fed in pieces of 64 KiB. The cheapest
round is what the code takes, the dearest what a machine with other work makes of it. With ``--seconds 10`` what every
file costs, however short it is, counts six times as much.
"""

import argparse
import random
import time
from collections.abc import Callable, Mapping
from functools import cache
from typing import TypeAlias

from policies.audio.track import Track
from tests.policies.audio.oracle import recording

PIECE = 65_536
BAR_MS = 250

Recording: TypeAlias = Callable[[float], bytes]
"""Of so many seconds."""

_STRICT = (("strict", "-2"),)
_FRAGMENTED = (("movflags", "+frag_keyframe+empty_moov"), ("frag_duration", "300000"))


@cache
def noise(seconds: float, rate: int, channels: int = 1) -> bytes:
    """White noise of full scale, s16 interleaved: what compresses worst."""
    return random.Random(1).randbytes(round(seconds * rate) * channels * 2)


def _of(container: str, codec: str, rate: int, channels: int = 1, **more: object) -> Recording:
    return lambda seconds: recording(container, codec, seconds, rate, channels, **more)


def _opus(container: str, duration: str, bitrate: int) -> Recording:
    return _of(container, "libopus", 48_000, bitrate=bitrate, stream_options=(("frame_duration", duration),))


RECORDINGS: Mapping[str, Recording] = {
    "wav 44.1 kHz stereo": _of("wav", "pcm_s16le", 44_100, 2),
    "wav float": _of("wav", "pcm_f32le", 44_100, 2),
    "wav mp3": _of("wav", "libmp3lame", 44_100, 2),
    "aiff": _of("aiff", "pcm_s16be", 44_100, 2),
    "caf": _of("caf", "pcm_s16le", 44_100, 2),
    "mov pcm": _of("mov", "pcm_s16le", 44_100, 2),
    "flac tone": _of("flac", "flac", 44_100, 2),
    "flac noise": _of("flac", "flac", 44_100, 2, sound=noise),
    "flac noise 16 kHz mono": _of("flac", "flac", 16_000, sound=noise),
    "ogg flac noise": _of("ogg", "flac", 44_100, 2, sound=noise),
    "mp3": _of("mp3", "libmp3lame", 44_100, 2),
    "mp3 320 kbit/s noise": _of("mp3", "libmp3lame", 44_100, 2, bitrate=320_000, sound=noise),
    "mp2": _of("mp2", "mp2", 44_100),
    "adts": _of("adts", "aac", 44_100, 2),
    "adts 96 kHz": _of("adts", "aac", 96_000, 2),
    "latm": _of("latm", "aac", 44_100, 2),
    "ogg opus": _opus("ogg", "20", 24_000),
    "ogg opus 2.5 ms": _opus("ogg", "2.5", 24_000),
    "ogg opus 128 kbit/s 2.5 ms": _opus("ogg", "2.5", 128_000),
    "ogg vorbis": _of("ogg", "vorbis", 44_100, 2, stream_options=_STRICT),
    "webm opus": _opus("webm", "20", 24_000),
    "webm opus 2.5 ms": _opus("webm", "2.5", 24_000),
    "webm opus 256 kbit/s": _opus("webm", "20", 256_000),
    "webm vorbis": _of("webm", "vorbis", 44_100, 2, stream_options=_STRICT),
    "mka aac": _of("matroska", "aac", 44_100),
    "mka ac3": _of("matroska", "ac3", 48_000),
    "mka mp3": _of("matroska", "libmp3lame", 44_100),
    "mka flac noise": _of("matroska", "flac", 44_100, 2, sound=noise),
    "mka pcm": _of("matroska", "pcm_s16le", 44_100, 2),
    "mka pcm noise": _of("matroska", "pcm_s16le", 44_100, 2, sound=noise),
    "mka pcm 16 kHz mono": _of("matroska", "pcm_s16le", 16_000),
    "m4a": _of("ipod", "aac", 44_100, 2),
    "m4a fragmented": _of("mp4", "aac", 44_100, options=_FRAGMENTED),
    "mp4 opus": _opus("mp4", "20", 24_000),
    "mp4 opus 2.5 ms": _opus("mp4", "2.5", 24_000),
    "mp4 opus 20 ms fragmented": _of("mp4", "libopus", 48_000, options=_FRAGMENTED),
    "mp4 flac noise": _of("mp4", "flac", 44_100, 2, sound=noise),
    "flv aac": _of("flv", "aac", 44_100, 2),
    "flv mp3": _of("flv", "libmp3lame", 44_100, 2),
    "flv opus": _of("flv", "libopus", 48_000),
    "ts aac": _of("mpegts", "aac", 44_100, 2),
    "ts mp2": _of("mpegts", "mp2", 48_000, 2),
    "m2ts ac3": _of("mpegts", "ac3", 48_000, 2, options=(("mpegts_m2ts_mode", "1"),)),
    "ts opus": _opus("mpegts", "20", 24_000),
    "mpg mp2": _of("mpeg", "mp2", 48_000, 2),
    "vob ac3": _of("vob", "ac3", 48_000, 2),
    "asf wma 64 kbit/s": _of("asf", "wmav2", 44_100, 2, bitrate=64_000),
    "asf mp3": _of("asf", "libmp3lame", 44_100, 2),
    "caf mp3": _of("caf", "libmp3lame", 44_100, 2),
    "caf flac": _of("caf", "flac", 44_100, 2),
    "caf alac": _of("caf", "alac", 44_100, 2),
    "flv nellymoser": _of("flv", "nellymoser", 16_000),
    "amr": _of("amr", "libopencore_amrnb", 8_000),
}


def cost_ms(data: bytes) -> float:
    """CPU of one walk over it, in milliseconds per hour of its audio."""
    pieces = [data[at : at + PIECE] for at in range(0, len(data), PIECE)]
    walks = max(1, 4_000_000 // len(data))
    Track().feed(data)  # tables that are made once and for all are of no recording
    before = time.process_time()
    track = Track()
    for _ in range(walks):
        track = Track()
        for piece in pieces:
            track.feed(piece)
    took = (time.process_time() - before) / walks
    if not track.walked_ms:
        raise SystemExit("a recording was not walked")
    return took * 1000 * 3_600_000 / track.walked_ms


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="recordings whose names hold this")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=60.0, help="of each recording")
    options = parser.parse_args()
    print(f"{'CPU ms per hour of audio':28} {'best':>6} {'worst':>6}   MB/h")
    for name, make in RECORDINGS.items():
        if options.only not in name:
            continue
        data = make(options.seconds)
        costs = [cost_ms(data) for _ in range(options.rounds)]
        size = len(data) * 3600 / options.seconds / 1e6
        print(f"{name:28} {min(costs):6.0f} {max(costs):6.0f} {size:6.0f}{'  above the bar' * (max(costs) > BAR_MS)}")


if __name__ == "__main__":
    main()
