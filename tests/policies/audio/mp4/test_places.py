"""Samples of an MP4 are read where its tables say that they stand, whatever else is in its media."""

import io
import random
import struct
import tempfile
from itertools import accumulate
from statistics import fmean

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.audio.aac import packed
from policies.audio.mp4.packed import Windows
from policies.audio.mp4.places import Places
from policies.audio.sources import Heard
from policies.audio.track import Track
from tests.policies.audio.feeding import cuts, fed
from tests.policies.audio.oracle import played_ms, recording
from tests.policies.audio.test_containers import adts_frames, noise

ORDERS = [(b"stsc", b"stsz", b"stco"), (b"stsz", b"stsc", b"stco"), (b"stco", b"stsz", b"stsc")]
EACH = 10  # samples to the chunk


def box(name, body):
    return struct.pack(">I", 8 + len(body)) + name + body


def blocks(seconds, rate, channels, bitrate):
    return [frame[7:] for frame in adts_frames(recording("adts", "aac", seconds, rate, channels, bitrate))]


def together(samples, count):
    return [b"".join(samples[at : at + count]) for at in range(0, len(samples), count)]


def movie(tracks, order=ORDERS[0], *, is_first=False, left_over=()):
    """An MP4 of tracks that take turns: each a rate, channels and samples. What no table names stands among them."""
    rows = [[samples[at : at + EACH] for at in range(0, len(samples), EACH)] for _, _, samples in tracks]
    layout, rest = [], list(left_over)
    for turn in range(max(map(len, rows))):
        layout += [(number, b"".join(row[turn])) for number, row in enumerate(rows) if turn < len(row)]
        layout += [(-1, rest.pop(0))] if rest else []
    layout += [(-1, one) for one in rest]
    starts = list(accumulate((len(chunk) for _, chunk in layout), initial=0))

    def moov(begins):
        traks = []
        for number, (rate, channels, samples) in enumerate(tracks):
            offsets = [begins + start for start, (owner, _) in zip(starts, layout, strict=False) if owner == number]
            described = recording("ipod", "aac", 0.3, rate, channels)
            at, count = described.index(b"stsd"), len(samples)
            tables = {
                b"stsc": struct.pack(">5I", 0, 1, 1, EACH, 1),
                b"stsz": struct.pack(f">{3 + count}I", 0, 0, count, *map(len, samples)),
                b"stco": struct.pack(f">{2 + len(offsets)}I", 0, len(offsets), *offsets),
            }
            stbl = described[at - 4 : at - 4 + int.from_bytes(described[at - 4 : at], "big")]
            stbl += box(b"stts", struct.pack(">4I", 0, 1, count, 1024))
            stbl += b"".join(box(name, tables[name]) for name in order)
            mdia = box(b"mdhd", struct.pack(">6I", 0, 0, 0, rate, 1024 * count, 0))
            mdia += box(b"hdlr", bytes(8) + b"soun" + bytes(13)) + box(b"minf", box(b"stbl", stbl))
            tkhd = box(b"tkhd", struct.pack(">6I", 7, 0, 0, number + 1, 0, 1000) + bytes(60))
            traks.append(box(b"trak", tkhd + box(b"mdia", mdia)))
        return box(b"moov", box(b"mvhd", struct.pack(">5I", 0, 0, 0, 1000, 1000) + bytes(80)) + b"".join(traks))

    head, mdat = box(b"ftyp", b"M4A \0\0\2\0isom"), box(b"mdat", b"".join(chunk for _, chunk in layout))
    if is_first:
        return head + moov(len(head) + len(moov(0)) + 8) + mdat
    return head + mdat + moov(len(head) + 8)


LOUD, HUSHED, OTHER = (44_100, 2, 96_000), (44_100, 1, 24_000), (96_000, 2, 64_000)


@pytest.mark.parametrize("is_first", [False, True])
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("beside", [None, HUSHED, OTHER])
def test_two_blocks_to_the_sample_are_found_out_beside_any_decoy(beside, order, is_first):
    """Wound: half was billed, with a second track of AAC beside it, or one that is set up differently."""
    samples = blocks(8.0, *LOUD)
    decoy = [(*beside[:2], blocks(2.0, *beside))] if beside else []
    data = movie([(*LOUD[:2], together(samples, 2)), *decoy], order, is_first=is_first)
    track = fed(Track(), data)
    assert Heard.of(track).best_ms >= played_ms(data) * 0.995 > 7_900
    assert track.unsure
    assert fed(Track(), data, (700, 3)).walked_ms == track.walked_ms
    honest = movie([(*LOUD[:2], samples), *decoy], order, is_first=is_first)
    assert fed(Track(), honest).walked_ms == pytest.approx(played_ms(honest), rel=0.005)
    assert not fed(Track(), honest).unsure


@pytest.mark.parametrize("is_first", [False, True])
@pytest.mark.parametrize("named", [50, 250])
def test_sound_that_no_table_names_any_more_costs_nothing(named, is_first):
    """Editors and phones leave it in the media: it looked packed, and was billed up to 23 times."""
    samples = blocks(8.0, *LOUD)
    data = movie([(*LOUD[:2], samples[:named])], is_first=is_first, left_over=together(samples[named:], 40))
    assert fed(Track(), data).walked_ms == pytest.approx(played_ms(data), rel=0.005)
    assert not fed(Track(), data).unsure


@pytest.mark.parametrize("options", [(), (("movflags", "+faststart"),)])
def test_flac_beside_pictures_is_what_its_tables_say(options):
    """Wound: its frames follow no other in the media there, so it looked packed, and was billed 1.3 to 1.5 times."""
    out = tempfile.NamedTemporaryFile()  # noqa: SIM115  ends with it
    sound = recording("mp4", "flac", 6.0, 16_000, sound=noise)
    with av.open(io.BytesIO(sound)) as heard, av.open(out.name, "w", "mp4", options=dict(options)) as film:
        pictures = film.add_stream("mpeg4", rate=25)
        pictures.width, pictures.height, pictures.pix_fmt = 64, 48, "yuv420p"
        stream = film.add_stream_from_template(heard.streams.audio[0])
        for number, packet in enumerate(packet for packet in heard.demux() if packet.size):
            picture = av.VideoFrame(64, 48, "yuv420p")
            picture.pts = number * 6
            film.mux(pictures.encode(picture))
            packet.stream = stream
            film.mux(packet)
        film.mux(pictures.encode(None))
    data = out.read()
    assert fed(Track(), data).walked_ms == pytest.approx(played_ms(data), rel=0.005)
    assert not fed(Track(), data).unsure


@given(
    sizes=st.lists(st.integers(0, 99), min_size=1, max_size=50),
    spreads=st.lists(st.integers(1, 5), min_size=50, max_size=50),
    order=st.permutations([b"stsz", b"stsc", b"stco"]),
    lengths=cuts,
)
def test_every_sample_is_found_in_any_order_of_tables_and_any_cut(sizes, spreads, order, lengths):
    expected, offsets, at = [], [], 0
    for chunk, spread in enumerate(spreads):
        offsets.append(1_000 * chunk)
        starts = accumulate(sizes[at : at + spread], initial=offsets[-1])
        expected += list(zip(starts, sizes[at : at + spread], strict=False))
        at += spread
    found = []

    def note(position, pieces):
        found.extend(zip(accumulate(pieces, initial=position), pieces, strict=False))

    places = Places(note)
    rows = {
        b"stsz": (4, b"".join(size.to_bytes(4, "big") for size in sizes), None),
        b"stsc": (
            12,
            b"".join(struct.pack(">III", n + 1, one, 1) for n, one in enumerate(spreads)),
            places.pass_spreads,
        ),
        b"stco": (4, struct.pack(">50I", *offsets), lambda entries: places.pass_offsets(entries, 4)),
    }
    for name in order:
        width, entries, take = rows[name]
        turn = 0
        while entries:
            step = width * lengths[turn % len(lengths)]
            piece, entries, turn = entries[:step], entries[step:], turn + 1
            if take:
                take(piece)
            else:
                places.pass_sizes(struct.unpack(f">{len(piece) // 4}I", piece))
        places.end_table(name, is_whole=True)
    assert found == expected


def test_of_very_many_samples_some_are_found_where_they_stand():
    """As many as are kept, and no other place than the true one."""
    found = []
    places = Places(lambda position, sizes: found.extend(zip(accumulate(sizes, initial=position), sizes, strict=False)))
    places.pass_spreads(struct.pack(">III", 1, 100, 1))
    places.end_table(b"stsc", is_whole=True)
    places.expect(1_000_000)
    for _ in range(1_000):
        places.pass_sizes((7,) * 1_000)
    places.end_table(b"stsz", is_whole=True)
    places.pass_offsets(struct.pack(">10000I", *range(0, 7_000_000, 700)), 4)
    places.end_table(b"stco", is_whole=True)
    assert 10_000 < len(found) <= 65_536
    assert all(place % 7 == 0 for place, _ in found)


@pytest.mark.parametrize(
    "tables",
    [
        [(b"stsc", struct.pack(">III", 2, 1, 1))],
        [(b"stsc", struct.pack(">III", 1, 0, 1))],
        [(b"stsc", struct.pack(">6I", 3, 1, 1, 2, 1, 1))],
        [(b"stsc", b""), (b"stsc", b"")],
    ],
)
def test_tables_that_nobody_writes_are_not_followed(tables):
    places = Places(lambda *_: None)
    for name, entries in tables:
        places.pass_spreads(entries)
        places.end_table(name, is_whole=True)
    assert places.is_odd


def fragmented(samples, packed, *, again=b"", is_wide=False, base=0):
    """A movie of a few samples and fragments of others: with a table twice, large headers, or a base that wraps."""
    whole = movie([(*HUSHED[:2], samples)], is_first=True)
    at = whole.index(b"moov") - 4
    size = int.from_bytes(whole[at : at + 4], "big")
    moov = bytearray(whole[at : at + size])
    more = box(b"mvex", box(b"trex", struct.pack(">6I", 0, 1, 1, 1024, 0, 0)))
    if again:
        table = moov.index(again) - 4
        twice = moov[table : table + int.from_bytes(moov[table : table + 4], "big")]
        moov += twice
        for name in (b"trak", b"mdia", b"minf", b"stbl"):
            box_at = moov.index(name) - 4
            struct.pack_into(">I", moov, box_at, int.from_bytes(moov[box_at : box_at + 4], "big") + len(twice))
    moov += more
    offsets = moov.index(b"stco") + 8
    for entry in range(offsets, offsets + 4 * int.from_bytes(moov[offsets - 4 : offsets], "big"), 4):
        moved = int.from_bytes(moov[entry : entry + 4], "big") + len(moov) - size
        struct.pack_into(">I", moov, entry, moved)
    out = whole[:at] + box(b"moov", bytes(moov[8:])) + whole[at + size :]
    for first in range(0, len(packed), 12):
        some = packed[first : first + 12]
        wraps = (1 << 64) - base if base else 0

        def moof(offset, some=some, wraps=wraps):
            sizes = struct.pack(f">{len(some)}I", *map(len, some))
            tfhd = struct.pack(">IIQ", 1, 1, wraps) if wraps else struct.pack(">II", 0x2_0000, 1)
            trun = box(b"trun", struct.pack(">III", 0x201, len(some), offset) + sizes)
            body = box(b"mfhd", bytes(8)) + box(b"traf", box(b"tfhd", tfhd) + trun)
            return struct.pack(">I4sQ", 1, b"moof", 16 + len(body)) + body if is_wide else box(b"moof", body)

        length = len(moof(0))
        out += moof(len(out) + length + 8 + base if base else length + (0 if is_wide else 8))
        out += box(b"mdat", b"".join(some))
    return out


def billed_on_average(data, monkeypatch):
    """Of forty secrets, in milliseconds: chance chooses what is looked at, and in a short file it may be honest."""
    billed_ms = []
    for number in range(40):
        monkeypatch.setattr(packed, "_SECRET", random.Random(number).randbytes(16))
        billed_ms.append(Heard.of(fed(Track(), data)).best_ms)
    return fmean(billed_ms)


@pytest.mark.parametrize(
    "forgery", [{"is_wide": True}, {"base": 500}, {"again": b"stsc"}], ids=["large headers", "wraps", "a table twice"]
)
def test_fragments_that_ffmpeg_finds_elsewhere_hide_no_blocks(forgery, monkeypatch):
    """Wound: an eighth was billed. What was looked at stood 8 bytes off, never came, or was in the movie."""
    samples = blocks(16.0, *HUSHED)
    data = fragmented(samples[: 100 if "again" in forgery else 4], together(samples, 8), **forgery)
    assert played_ms(data) > 15_900
    assert billed_on_average(data, monkeypatch) >= played_ms(data)


def short_runs(samples, packed, size):
    """The same movie, whose runs' boxes end behind so many bytes and not behind what they claim."""
    data = bytearray(fragmented(samples, packed))
    at = data.find(b"trun") - 4
    while at > 0:
        data[at : at + 4] = size.to_bytes(4, "big")
        at = data.find(b"trun", at + 8) - 4
    return bytes(data)


@pytest.mark.parametrize("size", [8, 16, 20, 24])
def test_runs_that_reach_behind_their_boxes_hide_no_blocks(size, monkeypatch):
    """Wound: a quarter was billed with every secret. FFmpeg reads all sizes; none of these samples was looked at."""
    samples = blocks(16.0, *HUSHED)
    data = short_runs(samples[:100], together(samples, 8), size)
    assert played_ms(data) > 15_900
    assert billed_on_average(data, monkeypatch) >= played_ms(data)


def test_of_a_window_of_media_in_boxes_of_a_byte_few_parts_are_looked_at_for_each_run():
    """Wound: all four thousand were, for each fragment of a file of such: 85 s for 30 MB."""
    windows = Windows()
    for place in range(0, 50_000, 10):
        windows.feed(b"\0", place)
    assert [place for _, place, _ in windows.kept_of(20_000, 20_011)] == [20_000, 20_010]
    assert len(list(windows.kept_of(0, 1 << 40))) <= 8
