"""AVI: what is weighed there is no less than a decoder plays, however thrifty its codec."""

import functools
import io
import random
import struct

import av
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.audio.avi.walker import AviWalker
from policies.audio.sounds import sound_of
from policies.audio.sources import Heard
from policies.audio.track import Track
from tests.policies.audio.build import chunk, fmt, riff
from tests.policies.audio.feeding import calls_to_watch, cuts, fed
from tests.policies.audio.oracle import played_ms, recording


@functools.cache
def avi(codec="gsm_ms"):
    """Of GSM any bytes are sound."""
    if codec != "gsm_ms":
        return recording("avi", codec, 8.0, 8_000, 1, 6_300)
    sound, out = (
        riff(fmt(tag=0x31, rate=8_000, bits=0, block=65), chunk(b"data", random.Random(1).randbytes(13_000))),
        io.BytesIO(),
    )
    with av.open(io.BytesIO(sound)) as wav, av.open(out, "w", format="avi") as file:
        stream = file.add_stream_from_template(wav.streams.audio[0])
        for packet in wav.demux():
            if packet.size:
                packet.stream = stream
                file.mux(packet)
    return out.getvalue()


@functools.cache
def filmed(codec="libmp3lame", rate=16_000, channels=1):
    """With pictures beside it."""
    out = io.BytesIO()
    with av.open(io.BytesIO(recording("avi", codec, 3.0, rate, channels))) as sound, av.open(out, "w", "avi") as film:
        pictures = film.add_stream("mpeg4", rate=25)
        pictures.width, pictures.height, pictures.pix_fmt = 64, 48, "yuv420p"
        heard = film.add_stream_from_template(sound.streams.audio[0])
        for number, packet in enumerate(packet for packet in sound.demux() if packet.size):
            picture = av.VideoFrame(64, 48, "yuv420p")
            picture.pts = number
            film.mux(pictures.encode(picture))
            packet.stream = heard
            film.mux(packet)
        film.mux(pictures.encode(None))
    return out.getvalue()


def billed_ms(data, lengths=(1 << 30,)):
    return Heard.of(fed(Track(), data, lengths)).best_ms


def test_gsm_counts_what_ffmpeg_plays():
    """Wound: a minute of it weighed as 34 s."""
    assert billed_ms(avi()) == pytest.approx(played_ms(avi()), rel=0.005)
    assert not Heard.of(fed(Track(), avi())).unsure


@pytest.mark.parametrize("pictures", [False, True])
@pytest.mark.parametrize(
    ("codec", "rate", "channels"),
    [
        ("pcm_s16le", 8_000, 1),
        ("pcm_mulaw", 8_000, 1),
        ("adpcm_ms", 22_050, 2),
        ("libmp3lame", 16_000, 1),
        ("libmp3lame", 44_100, 2),
        ("mp2", 48_000, 2),
        ("ac3", 48_000, 2),
        ("eac3", 48_000, 2),
        ("aac", 44_100, 2),
        ("flac", 16_000, 1),
    ],
)
def test_sound_in_avi_counts_as_ffmpeg_plays_it(codec, rate, channels, pictures):
    """Wound: all but GSM was weighed 1.1 to 70 times too high."""
    data = filmed(codec, rate, channels) if pictures else recording("avi", codec, 3.0, rate, channels)
    track = fed(Track(), data)
    assert track.walked_ms == pytest.approx(played_ms(data), rel=0.005)
    assert not track.unsure
    for lengths in ((7,), (1, 5_000), (977,)):
        assert fed(Track(), data, lengths).walked_ms == track.walked_ms


@pytest.mark.parametrize("tag", [0x00FF, 0x1600, 0x1610])
def test_aac_that_was_copied_with_its_headers_counts_by_them(tag):
    """As FFmpeg's stream copy leaves it, without a set-up."""
    data = recording("adts", "aac", 3.0, 44_100)
    sound = sound_of(fmt(tag=tag, rate=44_100, bits=0, block=0)[8:])
    sound.feed(data, is_end=True)
    sound.flush()
    assert sound.ms == pytest.approx(played_ms(data), abs=1)


@pytest.mark.parametrize(("codec", "bitrate"), [("g723_1", 6_300), ("adpcm_ms", None)])
def test_speech_behind_a_head_that_is_not_read_counts_by_what_is_described(codec, bitrate):
    data = recording("avi", codec, 20.0, 8_000, 1, bitrate)
    data = data.replace(b"hdrl", b"\0drl", 1)
    assert played_ms(data) > 19_900
    assert billed_ms(data) >= played_ms(data)


@pytest.mark.parametrize("codec", ["g723_1", "adpcm_ms", "pcm_s16le"])
def test_no_other_codec_weighs_less_than_it_plays(codec):
    assert billed_ms(avi(codec)) >= played_ms(avi(codec)) * 0.995


@pytest.mark.parametrize("new", [b"JUNK", b"\0\0\0\0", b"idx1", b"LIST", b"00dc", b"00ix", b"07wb"])
def test_chunks_under_another_name_count_as_ffmpeg_plays_them(new):
    data = avi().replace(b"00wb", new)
    assert billed_ms(data) >= played_ms(data) * 0.995


def test_an_index_that_names_other_bytes_as_sound_is_no_way_around():
    """FFmpeg may play what it points at: thrifty frames in what is called a picture."""
    data = bytearray(filmed())
    index = data.rindex(b"idx1") + 8
    entry = data.index(b"01wb", index)
    data[entry + 8 : entry + 12] = data[entry + 24 : entry + 28]
    track = fed(Track(), bytes(data))
    assert track.walked_ms == len(data)
    assert track.unsure


def test_sound_that_begins_late_is_no_less_indexed():
    """Wound of the walker's first day: the index' places were taken for those in the file."""
    late = bytearray(filmed("pcm_s16le", 48_000, 2))
    index = late.rindex(b"idx1") + 8
    entries = [late[at : at + 16] for at in range(index, len(late) - 15, 16)]
    pictures = [entry for entry in entries if entry.startswith(b"00dc")]
    sounds = [entry for entry in entries if entry.startswith(b"01wb")]
    late[index:] = b"".join((pictures[0], *sounds[::-1], *pictures[1:]))
    track = fed(Track(), bytes(late))
    assert track.walked_ms == fed(Track(), filmed("pcm_s16le", 48_000, 2)).walked_ms
    assert not track.unsure


def test_a_last_chunk_that_is_cut_off_hides_no_sound():
    """FFmpeg believes no size that the file has no room for, and looks inside."""
    data = bytearray(filmed())
    first = data.index(b"00dc", data.index(b"movi"))
    data[first + 4 : first + 8] = (len(data) * 2).to_bytes(4, "little")
    assert billed_ms(bytes(data)) >= billed_ms(filmed()) > 2_900


# Forgeries: 60 s of MP3 at 8 kbit/s, most of it out of a walker's sight.


def named(name, body, size=None):
    """A chunk, filled up to an even size."""
    return name + struct.pack("<I", len(body) if size is None else size) + body + bytes(len(body) & 1)


def stream(kind, form, sample_size=0):
    return named(
        b"LIST",
        b"strl"
        + named(b"strh", struct.pack("<4s16xIIII4xII8x", kind, 1, 1_000, 0, 0, 0xFFFF_FFFF, sample_size))
        + named(b"strf", form),
    )


PICTURES = stream(b"vids", struct.pack("<IiiHH4s20x", 40, 64, 48, 1, 24, b"FMP4"))
SPEECH = stream(b"auds", struct.pack("<HHIIHHHHIHHH", 0x55, 1, 8_000, 1_000, 1, 0, 12, 1, 2, 72, 1, 0))
FAST = stream(b"auds", struct.pack("<HHIIHHH", 1, 2, 192_000, 768_000, 4, 16, 0))
HEAD = PICTURES, SPEECH


def film(streams, chunks, *, behind=b"", size=None):
    head = named(b"LIST", b"hdrl" + named(b"avih", struct.pack("<24xI28x", len(streams))) + b"".join(streams))
    body = b"AVI " + head + named(b"LIST", b"movi" + b"".join(chunks), size) + behind
    return named(b"RIFF", body)


@functools.cache
def speech():
    return recording("mp3", "libmp3lame", 60.0, 8_000, 1, 8_000, (("write_xing", "0"), ("id3v2_version", "0")))


def spoken(name=b"01wb"):
    return [named(name, speech()[at : at + 720]) for at in range(0, len(speech()), 720)]


def hidden_in_pictures(entry_of):
    """Noise as sound, and true sound inside the pictures, which an index names."""
    noise, chunks, entries, at = random.Random(5).randbytes(720), [], [], 4
    for begins in range(0, len(speech()), 720):
        chunks += [named(b"00dc", bytes(8) + speech()[begins : begins + 720].ljust(720, b"\0")), named(b"01wb", noise)]
        entries += entry_of(at)
        at += 2 * 736 - 8
    return chunks, entries


def entry(name, at, size):
    return struct.pack("<4sIII", name, 0x10, at, size)


def by_odd_digits():
    chunks, entries = hidden_in_pictures(
        lambda at: [entry(b"00dc", at, 728), entry(b"01wb", at + 736, 720), entry(b"/;wb", at + 8, 720)]
    )
    return film(HEAD, chunks, behind=named(b"idx1", b"".join(sorted(entries, key=lambda one: (one[:1] == b"/", one)))))


def by_a_shifted_index():
    chunks, entries = hidden_in_pictures(lambda at: [entry(b"00dc", at, 728), entry(b"01wb", at + 736, 720)])
    entries = [entry(b"00dc", 4 + 728, 728), *sorted(entries)[1:]]
    return film((*HEAD, named(b"JUNK", bytes(3_000))), chunks, behind=named(b"idx1", b"".join(entries)))


def by_an_index_in_sound():
    chunks, entries = hidden_in_pictures(lambda at: [entry(b"01wb", at + 8, 720)])
    index = named(b"idx1", entry(b"00dc", 4, 728) + b"".join(entries))
    return film(HEAD, [*chunks, named(b"01wb", index)], size=4 + 8 + len(b"".join(chunks)))


BEGIN = [named(b"00dc", bytes(2_000)), named(b"01wb", b""), named(b"01wb", b"")]
DECOY = struct.pack("<4sI48x", b"00dc", 60_000)
AVI_FORGERIES = {
    "under the name of pictures, as a recorder once wrote it": lambda: film(HEAD, [*BEGIN, *spoken(b"00wb")]),
    "in palettes": lambda: film(HEAD, [*BEGIN, *(named(b"00pc", bytes((0, 1, *bytes(6))) + one) for one in spoken())]),
    "in a chunk that the file has no room for": lambda: film(
        HEAD, [*BEGIN, named(b"JUNK", b"", 0x7000_0000), *spoken()], size=0x7FFF_FFFF
    ),
    "in pictures that the file has no room for": lambda: film(
        HEAD, [*BEGIN * 40, named(b"00dc", b"", 0x7000_0000), *spoken()], size=0x7FFF_FFFF
    ),
    "described in a list that is no list of a head": lambda: film(
        (named(b"LIST", b"JUNK" + PICTURES + SPEECH), FAST, FAST), [*BEGIN, *spoken()]
    ),
    "behind a decoy in a change": lambda: film(HEAD, [*BEGIN, named(b"00wc", DECOY), *spoken()]),
    "behind a decoy in an index": lambda: film(HEAD, [*BEGIN, named(b"00ix", DECOY), *spoken()]),
    "behind a decoy in a chunk of a new name": lambda: film(HEAD, [*BEGIN, b"x", named(b"00ab", DECOY), *spoken()]),
    "behind a name that is no other picture's": lambda: film(
        HEAD, [*BEGIN * 8, b"xx", named(b"00db", b"", 60_000), *spoken()]
    ),
    "by an index that spells a stream's number oddly": by_odd_digits,
    "by an index that is shifted": by_a_shifted_index,
    "by an index that stands in sound": by_an_index_in_sound,
}


@pytest.mark.parametrize("forgery", AVI_FORGERIES)
def test_sound_that_ffmpeg_finds_in_avi_is_billed(forgery):
    """Wound: all but the tenth of a second, or nothing, was out of sight."""
    data = AVI_FORGERIES[forgery]()
    assert played_ms(data) > 50_000
    assert billed_ms(data) >= played_ms(data) * 0.995
    assert billed_ms(data, (977,)) == billed_ms(data)


def test_a_thrifty_codec_in_a_short_file_without_a_list_of_chunks_weighs_no_less_than_it_plays():
    """Wound: FFmpeg begins behind a chunk that is too large for a head."""
    data = avi().replace(b"LIST", b"STOP").replace(b"STOP", b"LIST", 2)
    data = data[: data.index(b"movi") - 8] + b"NONE\xff\xff\xff\x7f" + data[data.index(b"movi") + 4 :]
    assert played_ms(data) > 7_000
    assert billed_ms(data) >= played_ms(data)


def test_packets_of_which_several_are_in_a_chunk_count_each():
    """Wound: FFmpeg takes a chunk apart by the size that its stream says of a sample."""
    frames, at, sound = [], 0, recording("adts", "aac", 10.0, 8_000, 1, 8_000)
    while at < len(sound):
        size = int.from_bytes(sound[at + 3 : at + 6], "big") >> 5 & 0x1FFF
        frames.append(sound[at + 7 : at + size])
        at += size
    step = max(map(len, frames))
    packed = b"".join(frame.ljust(step, b"\0") for frame in frames)
    form = struct.pack("<HHIIHHH2s", 0xFF, 1, 8_000, 1_000, step, 16, 2, b"\x15\x88")
    chunks = [named(b"01wb", packed[at : at + 10 * step]) for at in range(0, len(packed), 10 * step)]
    data = film((PICTURES, stream(b"auds", form, step)), chunks)
    assert played_ms(data) > 9_000
    assert billed_ms(data) == pytest.approx(played_ms(data), rel=0.005)


def test_an_index_in_parts_is_no_other():
    """Wound: any film of more than a GB was billed as days."""
    chunks = spoken()
    whole = film(
        (PICTURES, SPEECH + named(b"indx", struct.pack("<HBBI4s12xQII", 4, 0, 0, 1, b"01wb", 0, 0, 0))), chunks
    )
    base = whole.index(b"movi") + 4
    at = base + len(b"".join(chunks))
    entries = b"".join(struct.pack("<II", 728 * n + 8, len(one) - 8) for n, one in enumerate(chunks))
    part = named(b"ix01", struct.pack("<HBBI4sQ4x", 2, 0, 1, len(chunks), b"01wb", base) + entries)
    indexed = film(
        (PICTURES, SPEECH + named(b"indx", struct.pack("<HBBI4s12xQII", 4, 0, 0, 1, b"01wb", at, len(part), 0))),
        [*chunks, part],
    )
    track = fed(Track(), indexed)
    assert track.walked_ms == pytest.approx(played_ms(indexed), rel=0.005)
    assert not track.unsure
    assert fed(Track(), indexed.replace(part[40:48], part[48:56])).unsure


def test_a_list_that_ends_in_its_last_chunk_says_the_same_in_any_cuts():
    """Wound: the byte that fills the chunk up was behind the list's end, or not, by where the cuts fell."""
    data = avi()[:11_468] + bytes(2) + avi()[11_468:20_468]
    assert billed_ms(data, (7,)) == billed_ms(data)


@given(at=st.integers(0, 12_000), strange=st.binary(max_size=9), lengths=cuts)
@settings(max_examples=15)
def test_a_damaged_one_raises_nothing_and_any_cut_of_it_says_the_same(at, strange, lengths):
    data = avi()[:at] + strange + avi()[at : at + 9_000]
    assert billed_ms(data, lengths) == billed_ms(data)
    assert played_ms(data) <= billed_ms(data) * 1.005 + 80


def test_a_head_is_read_once_in_whatever_pieces_it_comes():
    """Wound: it was read and weighed anew for each piece, half a second a kilobyte."""
    data = b"RIFF\xff\xff\xff\x7fAVI " + b"JUNK\0\0\0\0" * 7_000 + b"JUNK\0\0\1\0" + b"movi" * 1_000
    assert calls_to_watch(AviWalker(), data, 4) < 1_500 * len(data) // 4
