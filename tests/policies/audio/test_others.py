"""FLV, transport streams, WavPack and TTA: walked, as far as they cannot be talked down; what is left is weighed."""

import functools
import io
import random
import re

import av
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.audio.flv import FlvWalker
from policies.audio.mpegts.tables import checksum
from policies.audio.mpegts.walker import TsWalker
from policies.audio.sources import Heard
from policies.audio.track import Track
from tests.policies.audio.feeding import calls_to_watch, cuts, fed
from tests.policies.audio.oracle import played_ms, recording
from tests.policies.audio.test_containers import mutated, told

S = 1.3
RECORDINGS = {
    "flv": (("flv", "aac", S, 44_100, 2), "flv", "aac"),
    "flv mp3": (("flv", "libmp3lame", S, 22_050), "flv", "mp3"),
    "flv of a telephone": (("flv", "pcm_mulaw", S, 8_000), "flv", "pcm_mulaw"),
    "flv of plain samples": (("flv", "pcm_s16le", S, 11_025, 2), "flv", "pcm_s16le"),
    "flv adpcm": (("flv", "adpcm_swf", S, 22_050), "flv", "adpcm_swf"),
    "flv nellymoser": (("flv", "nellymoser", S, 16_000), "flv", "nellymoser"),
    "ts": (("mpegts", "aac", S, 44_100, 2), "", "aac"),
    "ts mp2": (("mpegts", "mp2", S, 48_000), "", "mp2"),
    "ts opus": (("mpegts", "libopus", S, 48_000, 1, 6_000, (), (("frame_duration", "60"),)), "", "opus"),
    "m2ts": (("mpegts", "ac3", S, 48_000, 2, None, (("mpegts_m2ts_mode", "1"),)), "", "ac3"),
    "tta": (("tta", "tta", S, 16_000), "tta", "tta"),
    "wavpack": (("wv", "wavpack", S, 48_000, 6), "wavpack", "wavpack"),
}


def recorded(name):
    return recording(*RECORDINGS[name][0])


def billed_ms(data, lengths=(1 << 30,)):
    return Heard.of(fed(Track(), data, lengths)).best_ms


@pytest.mark.parametrize("name", RECORDINGS)
def test_an_honest_recording_is_measured_as_ffmpeg_plays_it(name):
    _, container, codec = RECORDINGS[name]
    track = fed(Track(), recorded(name))
    assert (track.container, track.codec, track.unsure) == (container, codec, False)
    assert track.walked_ms == pytest.approx(played_ms(recorded(name)), abs=3)


def test_speex_in_flv_counts_each_frame_of_a_packet():
    """Mode 3 takes 160 bits, its wide half of mode 1 36 more; five ones end a packet. FFmpeg 8 plays all of them."""
    frame = "00011" + "0" * 155 + "1001" + "0" * 32
    packet = int((frame * 3 + "01111").ljust(600, "0"), 2).to_bytes(75, "big")
    tag = b"\x08" + (76).to_bytes(3, "big") + bytes(7) + b"\xb2" + packet + (87).to_bytes(4, "big")
    data = b"FLV\1\4\0\0\0\x09\0\0\0\0" + tag * 50
    track = fed(Track(), data, (100,))
    assert (track.codec, track.walked_ms, track.unsure) == ("speex", 3000, False)


def tags(data):
    """The tags of an FLV, each as its header and its body."""
    at = 13
    while at < len(data):
        size = int.from_bytes(data[at + 1 : at + 4], "big")
        yield data[at : at + 11], data[at + 11 : at + 11 + size]
        at += size + 15


def retagged(data, change):
    """An FLV whose tags of sound have other bodies, by their place among all."""
    out = data[:13]
    for place, (head, body) in enumerate(tags(data)):
        new = change(place, body) if head[0] == 8 else body
        out += head[:1] + len(new).to_bytes(3, "big") + head[4:] + new + (len(new) + 11).to_bytes(4, "big")
    return out


SPEEX = "00001" + "10" * 19
"""A frame of 2.15 kbit/s."""
BESIDE_SPEEX = {
    "nothing": "",
    "a request": "01110" + "0000" + "1",
    "another one": "01110" + "1001" + "0" * 8,
    "what an application says": "01101" + "0010" + "0" * 21,
    "a wide half": "1001" + "0" * 32,
}


@pytest.mark.parametrize("beside", BESIDE_SPEEX)
@pytest.mark.parametrize("frames", [30, 100])
def test_speex_behind_what_is_none_in_its_packet_counts(beside, frames):
    """Wound: a word to the decoder in front of the frames of a packet made one of thirty."""
    bits = (BESIDE_SPEEX[beside] + SPEEX) * frames + "01111"
    bits += "1" * (-len(bits) % 8)
    packet = int(bits, 2).to_bytes(len(bits) // 8, "big")
    data = retagged(recorded("flv of a telephone"), lambda _, __: b"\xb2" + packet)
    assert played_ms(data) >= frames * 20
    assert billed_ms(data) >= played_ms(data)
    if frames == 30:
        assert billed_ms(data) == pytest.approx(played_ms(data), abs=1)


SAMPLES_IN_FLV = [name for name in RECORDINGS if name.startswith("flv ") and name != "flv mp3"]


@pytest.mark.parametrize("name", SAMPLES_IN_FLV)
@pytest.mark.parametrize("later", [0x0C, 0x0D, 0x01])
def test_tags_of_flv_that_say_another_rate_than_the_first_make_nothing_cheaper(name, later):
    """Wound: FFmpeg plays on as the first tag says; a faster rate and two channels made it a sixteenth."""
    data = recorded(name)

    def say(place, body):
        return bytes((body[0] & 0xF2 | (later if place > 1 else 0),)) + body[1:]

    data = retagged(data, say)
    assert billed_ms(data) >= played_ms(data) * 0.995


@pytest.mark.parametrize("name", [name for name in RECORDINGS if name.startswith("flv")])
@pytest.mark.parametrize("head", ["0004_00000009", "0204_00000009", "0405_0000000a", "0105_00000200", "0105_00030201"])
def test_flv_is_known_by_any_header_that_ffmpeg_takes(name, head):
    """Wound: another version, or a header that is a byte longer, was nothing known: Speex weighed a third."""
    head = b"FLV" + bytes.fromhex(head.replace("_", ""))
    data = head.ljust(int.from_bytes(head[5:9], "big"), b"\1") + recorded(name)[9:]
    assert played_ms(data) in {0, played_ms(recorded(name))}
    assert billed_ms(data) >= played_ms(recorded(name)) * 0.995
    assert told(fed(Track(), data, (1, 30, 700))) == told(fed(Track(), data))


@given(name=st.sampled_from(sorted(RECORDINGS)), seed=st.none() | st.integers(0, 1 << 32), lengths=cuts)
@settings(max_examples=10)
def test_any_cut_of_a_whole_or_a_damaged_file_says_the_same(name, seed, lengths):
    data = recorded(name) if seed is None else mutated(recorded(name), random.Random(seed))
    assert told(fed(Track(), data, lengths)) == told(fed(Track(), data))


@functools.cache
def with_pictures(container, codec, heard="aac"):
    """Two seconds of noise to look at, two megabit a second, and of a tone."""
    chance, out = random.Random(1), io.BytesIO()
    with av.open(out, "w", format=container) as file:
        pictures, sound = file.add_stream(codec, rate=10), file.add_stream(heard, rate=48_000)
        pictures.width, pictures.height, pictures.pix_fmt = 320, 192, "yuv420p"
        sound.layout = "mono"
        for n in range(20):
            picture = av.VideoFrame(320, 192, "yuv420p")
            for plane in picture.planes:
                plane.update(chance.randbytes(plane.buffer_size))
            picture.pts = n
            file.mux(pictures.encode(picture))
            samples = av.AudioFrame(format="fltp", layout="mono", samples=4_800)
            samples.planes[0].update(bytes(4 * 4_800))
            samples.sample_rate, samples.pts = 48_000, n * 4_800
            file.mux(sound.encode(samples))
        file.mux(pictures.encode(None))
        file.mux(sound.encode(None))
    return out.getvalue()


@pytest.mark.parametrize(
    ("container", "codec", "heard"),
    [("mpegts", "mpeg2video", "aac"), ("mpegts", "mpeg2video", "libopus"), ("flv", "flv", "aac")],
)
def test_pictures_are_no_sound(container, codec, heard):
    """Wound: a video of a minute was weighed as an hour."""
    data = with_pictures(container, codec, heard)
    assert len(data) * 8000 // 32_000 > 20 * played_ms(data)
    track = fed(Track(), data, (65_536,))
    assert track.walked_ms == pytest.approx(played_ms(data), abs=3)
    assert not track.unsure


def packets(data):
    return [data[at : at + 188] for at in range(0, len(data), 188)]


def is_of(packet, number):
    return int.from_bytes(packet[1:3], "big") & 0x1FFF == number


SOUND, TABLE = 0x100, 0x1000


@pytest.mark.parametrize("lie", ["a false checksum", "elsewhere", "cut"])
def test_a_table_that_no_reader_goes_by_makes_no_pictures_of_sound(lie):
    """Sound behind 70 KB of rubbish, beside another that is short, would be pictures if the table's word were enough.

    FFmpeg goes by a false checksum, and plays nothing then; others do not.
    """
    kept, rubbish = [one[:1] + b"\x42" + one[2:] for one in packets(recorded("ts mp2")) if is_of(one, SOUND)], 900
    for packet in packets(recording("mpegts", "libmp3lame", 16.0, 16_000, 1, 128_000)):
        if is_of(packet, TABLE):
            head, elsewhere = packet[:7], packet[:1] + b"\x50\x01" + packet[3:7]
            said = packet[7:].replace(b"\x04\xe1\x00", b"\x02\xe1\x00")
            if lie == "elsewhere":
                size = int.from_bytes(packet[6:8], "big") & 0xFFF
                section = (packet[5:7] + said)[: size - 1]
                said = section[2:] + checksum(section).to_bytes(4, "big") + b"\xff" * (183 - size)
            kept.append({"elsewhere": elsewhere, "cut": head[:-1] + b"\xb7"}.get(lie, head) + said)
        elif is_of(packet, SOUND) and rubbish:
            rubbish -= 1
            begins = 4 + (1 + packet[4]) * (packet[3] >> 5 & 1) + 14 * (packet[1] >> 6 & 1)
            kept.append(packet[:begins].ljust(188, b"\0"))
        else:
            kept.append(packet)
    forged = b"".join(kept)
    assert billed_ms(forged, (65_536,)) >= max(played_ms(forged) * 0.995, 10_000)


SYNCS, PACK = b"G" * 170, b"\0\0\1\xba\x21" + bytes(7)


@pytest.mark.parametrize(
    ("name", "begins", "filling", "is_sure"),
    [("ts", b"", b"", True), ("ts", b"", SYNCS, False), ("ts", b"", PACK, False), ("m2ts", b"", b"", True)]
    + [("m2ts", time, b"", False) for time in (b"\x0b\x77", b"\0\0\1\0")],
)
def test_frames_behind_packets_are_looked_for_unless_ffmpeg_is_sure_of_the_packets(name, begins, filling, is_sure):
    """FFmpeg is not where syncs stand all over them, or a programme stream's packs: then it may play what follows.

    Nor where the time in front of the first one begins AC-3, or is the size of a box in front of an MP4's.
    """
    stride = 192 if name == "m2ts" else 188
    data = begins + recorded(name)[len(begins) :]
    head = [data[at : at + stride - len(filling)] + filling for at in range(0, 22 * stride, stride)]
    forged = b"".join(head) + recording("mp3", "libmp3lame", 8.0, 16_000, 1, 16_000)
    assert fed(Track(), forged, (700,)).codec.startswith("mp") is not is_sure
    assert played_ms(forged) <= billed_ms(forged) * 1.005 + 80


def test_a_stream_that_nothing_came_of_is_not_asked_again():
    """Wound: sixty-four streams took a millisecond for each piece."""
    element = b"\0\0\1\xc0\0\0\x80\0\0".ljust(184, b"\xff")
    data = b"".join(bytes((0x47, 0x41, n % 64, 0x10 | n % 16)) + element for n in range(1200))
    assert calls_to_watch(TsWalker(), data, 100) < 1_500 * len(data) // 100


@pytest.mark.parametrize("number", [SOUND, 0x1FF])
def test_frames_that_go_through_packets_full_of_syncs_are_no_transport_stream(number):
    """Wound: FFmpeg plays the MP3 that it is as well, 73 s; the stream of 0x1FF never begins: it was half a second."""
    begins = bytes(20) + b"G000" * 42
    forged = bytearray(b"".join(one[:20] + begins[20:] for one in packets(recorded("ts"))[:22]))
    size = len(forged)
    while len(forged) < 80_000:
        lengths = [pad + 36 * times for times in (1, 2) for pad in (0, 1)]
        length = next(length for length in lengths if 4 <= (len(forged) + length) % 188 <= 184)
        times, pad = divmod(length, 36)
        forged += (bytes((0xFF, 0xF3, times << 4 | 8 | pad << 1, 0xC4)) + bytes(12) + b"G000" * 16)[:length]
    for at in range(size, len(forged) - 3, 188):
        forged[at : at + 4] = bytes((0x47, number >> 8, number & 0xFF, 0x10))
    assert played_ms(forged) > 70_000
    assert billed_ms(forged) >= played_ms(forged) * 0.995


@pytest.mark.parametrize("name", ["ts", "m2ts"])
@pytest.mark.parametrize("cut", [1, 100, 5_657])
def test_a_recording_that_begins_within_a_packet_is_measured_all_the_same(name, cut):
    data = recorded(name)[cut:]
    assert billed_ms(data) == pytest.approx(played_ms(data), abs=80)


@pytest.mark.parametrize("body", [b"\x07\0", b"\x08\x10\0\0", b"\x08\xaf\1", b"\x08\xaf", b"\x08\xb2\0"])
def test_tags_of_little_sound_or_none_take_few_steps_each(body):
    """Wound: tags of a byte or two took 25 to 33 calls each, 0.1 s for each MB of them."""
    kind, sound = body[:1], body[1:]
    tag = kind + len(sound).to_bytes(3, "big") + bytes(7) + sound + (len(sound) + 11).to_bytes(4, "big")
    assert calls_to_watch(FlvWalker(), recorded("flv")[:13] + tag * 2000, 20_000) < 10 * 2000


@pytest.mark.parametrize("size", [16_000_000, 15_000, 5_000])
def test_pictures_that_hide_sound_end_where_they_say_or_are_weighed(size):
    """FFmpeg searches behind a tag that does not end as it should, from its second byte on."""
    data = recorded("flv mp3")
    at = 13 + 15 + int.from_bytes(data[14:17], "big")
    forged = data[:at] + b"\x09" + size.to_bytes(3, "big") + bytes(7) + data[at:]
    assert billed_ms(forged) >= played_ms(forged) * 0.995 - 80


def test_thrifty_aac_behind_a_tag_of_flv_that_ends_elsewhere_counts():
    """Wound: it was weighed at 32 kbit/s, nearly three times its own."""
    data, at = bytearray(recording("flv", "aac", 5.0, 16_000, 1, 12_000)), 13
    for _ in range(4):
        at += 15 + int.from_bytes(data[at + 1 : at + 4], "big")
    data[at - 1] ^= 1
    assert played_ms(bytes(data)) > 4_900
    assert billed_ms(bytes(data)) >= played_ms(bytes(data))


@pytest.mark.parametrize("name", ["wavpack", "tta"])
def test_silence_is_as_long_as_it_plays(name):
    """Wound: it takes next to no bytes, and weighed as much."""
    container, codec, *_ = RECORDINGS[name][0]
    data = recording(container, codec, 60.0, 16_000, 1, sound=lambda seconds, rate, _: bytes(int(seconds * rate) * 2))
    assert billed_ms(data) == pytest.approx(played_ms(data), abs=1)


@pytest.mark.parametrize("name", RECORDINGS)
def test_a_damaged_file_is_billed_no_less_than_ffmpeg_plays_of_it(name):
    for seed in range(6):
        data = mutated(recorded(name), random.Random(f"{name} {seed}"))
        assert played_ms(data) <= billed_ms(data) * 1.005 + 80, seed


@pytest.mark.parametrize("head", [b"\x7f\xa0", b"\x7d\xe0", b"\0\0"])
def test_opus_of_a_transport_stream_counts_whatever_stands_in_front_of_its_packets(head):
    """Wound: it was weighed as what plays a sixth as long."""
    data = recorded("ts opus").replace(b"\x7f\xe0", head)
    assert billed_ms(data) >= played_ms(recorded("ts opus"))


@pytest.mark.parametrize("every", [2, 5])
def test_a_packet_of_opus_that_says_to_be_as_long_as_the_next_ones_hides_none(every):
    """FFmpeg reads on where the next element begins."""
    data = bytearray(recording("mpegts", "libopus", 5.0, 48_000, 1, 6_000))
    begins = [at for at in range(0, len(data), 188) if is_of(data[at : at + 3], SOUND) and data[at + 1] & 0x40]
    heads = [data.index(b"\x7f", at + 18) for at in begins]
    for first in range(every, len(heads) - every, every):
        size = sum(3 + data[heads[one] + 2] for one in range(first, first + every)) - 3
        data[heads[first] + 2] = min(size, 254)
    data = bytes(data)
    assert billed_ms(data) >= played_ms(data) * 0.995 - 20
    assert told(fed(Track(), data, (1000, 7))) == told(fed(Track(), data))


OPUS_LIES = {"no header": (0, 0), "a small size": (2, 1), "a large size": (2, 254), "a field without room": (1, 0xE4)}


@pytest.mark.parametrize("lie", OPUS_LIES)
def test_what_stands_in_elements_of_opus_that_are_not_its_packets_counts(lie):
    """Wound: FFmpeg plays the bytes of an element that has no header, and of one whose header says less."""
    data = bytearray(recording("mpegts", "libopus", 4.0, 48_000, 1, 24_000, (), (("frame_duration", "2.5"),)))
    place, value = OPUS_LIES[lie]
    for header in re.finditer(rb"\x7f\xe0", data):
        data[header.start() + place] = value
    assert billed_ms(bytes(data)) >= played_ms(bytes(data))
    assert billed_ms(bytes(data), (700, 3)) == billed_ms(bytes(data))


@pytest.mark.parametrize("cut", [None, 0, 3, 5])
def test_opus_that_a_table_names_in_any_way_is_weighed_as_that(cut):
    """Wound: FFmpeg reads the name whatever length is said of it, and in a table that goes on in the next packet."""
    out = []
    for packet in packets(recorded("ts opus").replace(b"\x7f\xe0", b"\0\0")):
        if not is_of(packet, TABLE):
            out.append(packet)
        elif cut is None:
            out.append(packet.replace(b"\5\4Opus", b"\5\0Opus"))
        else:
            section = packet[5:].rstrip(b"\xff")
            here = section.index(b"\5\4Opus") + cut
            out.append(packet[:4] + bytes((183 - here,)) + bytes(183 - here) + section[:here])
            out.append(b"\x47\x10\0\x11" + section[here:].ljust(184, b"\xff"))
    data = b"".join(out)
    assert billed_ms(data) >= played_ms(recorded("ts opus"))
    assert billed_ms(data, (700, 3)) == billed_ms(data, (1,)) == billed_ms(data)


def test_tables_that_are_cut_in_many_places_cost_no_more_steps():
    """The name is looked for in few of them: where there are more it may be there."""
    begin = b"\x10\0\2\xb3\xff".ljust(185, b"\x55")
    cut = b"".join(b"\x47" + (0x4100 + number).to_bytes(2, "big") + begin for number in range(2_000))
    opus = b"".join(packets(recording("mpegts", "libopus", 5.0, 48_000, 1, 6_000))[3:])
    walker = fed(TsWalker(), cut, (65_536,))
    assert calls_to_watch(walker, opus, len(opus)) < 30 * len(opus) // 188
    assert walker.ms >= 5_000


def test_opus_behind_other_frames_in_its_own_stream_counts():
    """Wound: after 64 KB of MP3 nobody looked for it any more, and it was weighed at a fifth."""
    opus = packets(recording("mpegts", "libopus", 5.0, 48_000, 1, 6_000))
    mp3 = [one for one in packets(recording("mpegts", "libmp3lame", 2.0, 48_000, 1, 320_000)) if is_of(one, SOUND)]
    data = b"".join((*opus[:3], *mp3, *opus[3:]))
    assert played_ms(data) > 4_900
    assert billed_ms(data) >= played_ms(data)
    assert billed_ms(data, (700, 3)) == billed_ms(data)


def test_sound_behind_more_streams_than_are_told_apart_counts():
    """Wound: a second was billed of a minute, behind 64 streams of a frame each."""
    sound = recording("mpegts", "libmp3lame", 20.0, 8_000, 1, 8_000)
    first = next(packet for packet in packets(sound) if is_of(packet, SOUND) and packet[1] & 0x40)
    decoys = [first[:1] + (0x4200 + number).to_bytes(2, "big") + first[3:] for number in range(64)]
    data = b"".join((*packets(sound)[:3], *decoys, *packets(sound)[3:]))
    assert played_ms(data) > 19_900
    assert Heard.of(fed(Track(), data)).best_ms >= played_ms(data) * 0.995
    assert fed(Track(), data, (700, 3)).walked_ms == fed(Track(), data).walked_ms


def test_a_stream_whose_elements_begin_at_the_end_of_packets_counts():
    """Wound: FFmpeg joins what begins an element; two bytes of that were taken for a table."""
    out, count = [], 0
    for packet in packets(recording("mpegts", "libmp3lame", 20.0, 8_000, 1, 8_000)):
        begins, payloads = 5 + packet[4] if packet[3] & 0x20 else 4, [packet]
        if is_of(packet, SOUND):
            payloads = [packet[begins : begins + 2], packet[begins + 2 :]] if packet[1] & 0x40 else [packet[begins:]]
        for payload in payloads:
            if is_of(packet, SOUND):
                fill = 183 - len(payload)
                field = bytes((fill,)) + b"\0".ljust(fill, b"\xff")[:fill] if fill >= 0 else b""
                first = packet[1] & 0x40 if payload is payloads[0] else 0
                flags = 0x30 if field else 0x10
                out.append(bytes((0x47, first | SOUND >> 8, SOUND & 0xFF, flags | count & 15)) + field + payload)
                count += 1
            else:
                out.append(packet)
    data = b"".join(out)
    assert played_ms(data) > 19_900
    assert fed(Track(), data).walked_ms == pytest.approx(played_ms(data), rel=0.005)
