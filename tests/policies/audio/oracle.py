"""FFmpeg by way of PyAV: makes recordings in any container, and says how long it plays a file."""

import functools
import io
import math
import struct
import tempfile

import av
import av.logging
from av.audio.fifo import AudioFifo  # noqa: F401  loaded here, so that no test pays for it

av.logging.set_level(av.logging.PANIC)


_LAYOUTS = ("mono", "stereo", "3.0", "4.0", "5.0", "5.1", "6.1", "7.1")


@functools.cache
def tone(seconds, rate, channels=1):
    """Samples of a chord that moves, s16 interleaved."""
    count = round(seconds * rate)
    one = [int(9000 * math.sin(i * 0.03 + 3 * math.sin(i / 9000)) + 3000 * math.sin(i * i / 7e6)) for i in range(count)]
    return struct.pack(f"<{count * channels}h", *(sample for sample in one for _ in range(channels)))


@functools.cache
def recording(
    container, codec, seconds=3.0, rate=16_000, channels=1, bitrate=None, options=(), stream_options=(), sound=tone
):
    """A file of a moving tone, or another sound, as FFmpeg writes it. ``options`` are the muxer's."""
    # A muxer that moves the index to the front reopens its file.
    out = tempfile.NamedTemporaryFile() if "faststart" in str(options) else io.BytesIO()  # noqa: SIM115  ends with it
    layout = _LAYOUTS[channels - 1]
    with av.open(getattr(out, "name", out), "w", format=container, options=dict(options)) as file:
        stream = file.add_stream(codec, rate=rate, options=dict(stream_options))
        stream.layout = layout
        if bitrate:
            stream.bit_rate = bitrate
        resampler = av.AudioResampler(format=stream.format, layout=layout, rate=rate)
        samples = sound(seconds, rate, channels)
        step = 2 * channels * 4000
        for at in range(0, len(samples), step):
            piece = samples[at : at + step]
            frame = av.AudioFrame(format="s16", layout=layout, samples=len(piece) // (2 * channels))
            frame.planes[0].update(piece)
            frame.sample_rate, frame.pts = rate, at // (2 * channels)
            for resampled in resampler.resample(frame):
                file.mux(stream.encode(resampled))
        for resampled in resampler.resample(None):
            file.mux(stream.encode(resampled))
        file.mux(stream.encode(None))
    out.seek(0)
    return out.read()


def played_ms(data, container=None):
    """What FFmpeg plays of a file, in milliseconds; errors inside it are passed over as players do. 0 where nothing."""
    ms = 0.0
    try:
        with av.open(io.BytesIO(data), format=container) as file:
            for packet in file.demux(file.streams.best("audio")):
                try:
                    ms += sum(frame.samples * 1000 / frame.sample_rate for frame in packet.decode())
                except av.FFmpegError:
                    continue
    except (av.FFmpegError, AttributeError, ValueError):
        pass
    return ms
