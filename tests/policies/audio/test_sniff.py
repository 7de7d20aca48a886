"""Containers are told by their first bytes, and text is never taken for one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.audio.sniff import SNIFF_BYTES, Container, begins_a_file, id3v2_bytes, sniff
from tests.policies.audio.build import flac, frame, header, id3v2, wav


@pytest.mark.parametrize(
    ("head", "container"),
    [
        (wav(), Container.WAV),
        (b"RIFX\0\0\0\0WAVEfmt ", Container.WAV),
        (b"RF64\xff\xff\xff\xffWAVEds64", Container.WAV),
        (b"BW64\xff\xff\xff\xffWAVEds64", Container.WAV),
        (b"RIFF\0\0\0\0AVI LIST", Container.AVI),
        (flac([]), Container.FLAC),
        (frame(0, 4096), Container.FLAC),
        (header(1 << 35, 65_536, rate=65_500, variable=True) + bytes(4), Container.FLAC),
        (b"OggS\0\x02" + bytes(10), Container.OGG),
        (bytes.fromhex("fffb9064") + bytes(12), Container.MP3),  # MPEG-1 layer III, 128 kbit/s, 44.1 kHz
        (bytes.fromhex("fff340c4") + bytes(12), Container.MP3),  # MPEG-2 layer III, 32 kbit/s, 22.05 kHz
        (bytes.fromhex("fffd9004") + bytes(12), Container.MP3),  # layer II
        (bytes.fromhex("fff15080015ffc") + bytes(9), Container.ADTS),  # MPEG-4, no CRC
        (bytes.fromhex("fff94c8022bffc") + bytes(9), Container.ADTS),  # MPEG-2: FLAC's sync, and not its CRC
        (bytes.fromhex("fff15080000ffc") + bytes(9), Container.UNKNOWN),  # a frame of no bytes
        (bytes.fromhex("ffe80000") + bytes(12), Container.UNKNOWN),  # the reserved version of MPEG audio
        (b"\xff" * 16, Container.UNKNOWN),
        (bytes.fromhex("00000020") + b"ftypM4A \0\0\0\0", Container.MP4),
        (bytes.fromhex("00000008") + b"wide" + bytes(8), Container.MP4),
        (bytes.fromhex("7fffffff") + b"mdat" + bytes(8), Container.MP4),
        (bytes.fromhex("1a45dfa39f4286810142f78101428210"), Container.MATROSKA),
        (b"#!AMR\n\x0c" + bytes(9), Container.AMR),
        (b"#!AMR-WB\n\x04" + bytes(7), Container.AMR),
        (b"FORM\0\0\0\0AIFFCOMM", Container.AIFF),
        (b"FORM\0\0\0\0AIFCFVER", Container.AIFF),
        (b"FORM\0\0\0\0ILBMBMHD", Container.UNKNOWN),
        (b".snd" + b"\0\0\0\x18" * 5, Container.AU),
        (b".snd" + b"\0\0\0\x18" * 4 + bytes(4), Container.UNKNOWN),  # no channels
        (b"caff\0\1\0\0desc" + bytes(7) + b"\x20", Container.CAF),
        (b"caff\0\2\0\0desc" + bytes(7) + b"\x20", Container.UNKNOWN),
        (b"RF64\xff\xff\xff\xffWAVEfmt ", Container.UNKNOWN),
        (b"OggS\0\x08" + bytes(10), Container.UNKNOWN),
        (b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\0\0", Container.WAVE64),
        (bytes.fromhex("56e09820001b3211b0055084"), Container.LATM),
        (b"\0\0\0\x10abcd" + bytes(8), Container.UNKNOWN),  # a box that nobody knows: hunted
        (b"", Container.UNKNOWN),
        (bytes(16), Container.UNKNOWN),
    ],
)
def test_a_container_is_known_by_its_first_bytes(head, container):
    assert sniff(head[:SNIFF_BYTES]) is container


def test_plain_samples_begin_no_file():
    """A sync of eleven bits is no more than two samples; what has a name is somebody's."""
    syncs = ("fffb9064", "fff15080015ffc", "56e09820001b3211b0055084")
    for head in (*map(bytes.fromhex, syncs), bytes(24), b"\xff" * 24, b"\x01\0\xfe\xff" * 6):
        assert not begins_a_file(head.ljust(SNIFF_BYTES, b"\x05"))
    asf = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
    for head in (wav(), flac([]), b"OggS\0\2", b"RIFF\0\0\0\0AVI LIST", b"wvpk", asf):
        assert begins_a_file(head[:SNIFF_BYTES])


def test_half_a_frame_header_is_no_container_yet():
    assert [sniff(header(1 << 30, 5000)[:cut]) for cut in (3, 6, 9)] == [Container.UNKNOWN] * 3


@given(head=st.binary(max_size=20))
def test_anything_is_sniffed(head):
    assert sniff(head) in Container
    assert id3v2_bytes(head) >= 0


@pytest.mark.parametrize("text", ["for free", "The skip and the moov", "Buy free things", "\ufeffA b", "RIFF and WAVE"])
def test_a_sentence_is_no_container(text):
    assert sniff(text.encode()[:SNIFF_BYTES]) is Container.UNKNOWN


@given(text=st.text(st.characters(codec="utf-8", min_codepoint=0x20), max_size=20))
def test_no_text_is_audio_but_what_begins_like_it(text):
    assert sniff(text.encode()[:SNIFF_BYTES]) is Container.UNKNOWN


def test_an_id3_tag_is_measured_with_its_header_and_its_footer():
    assert id3v2_bytes(id3v2(300)) == 310
    assert id3v2_bytes(b"ID3\x04\x00\x10\x00\x00\x02\x2c") == 320
    assert id3v2_bytes(b"ID3\x04\x00\x00\x00\x00\x82\x2c") == 0
    assert id3v2_bytes(b"ID3\x04\x00\x00\x00\x00\x02") == 0
