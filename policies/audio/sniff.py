"""Which container is this? Judged by its first bytes alone: names and content types are the sender's to choose."""

import enum
import re

from policies.audio.flac import header_of

SNIFF_BYTES = 24
"""What :func:`sniff` wants to see, from the first byte behind any ID3v2 tag."""

_ID3_HEADER_BYTES = 10


class Container(enum.StrEnum):
    """The containers known by sight; the ``container`` of a record."""

    UNKNOWN = ""
    WAV = "wav"
    FLAC = "flac"
    OGG = "ogg"
    MP3 = "mp3"
    """MPEG audio, any version and layer."""
    ADTS = "adts"
    MP4 = "mp4"
    """MP4, M4A, MOV, 3GP: whatever is made of ISO base media boxes."""
    MATROSKA = "matroska"
    """WebM too: it is Matroska with fewer codecs."""
    AMR = "amr"
    AIFF = "aiff"
    """AIFC too."""
    AU = "au"
    WAVE64 = "w64"
    CAF = "caf"
    AVI = "avi"
    FLV = "flv"
    WAVPACK = "wavpack"
    TTA = "tta"
    VOC = "voc"
    NIST = "nist"
    """SPHERE."""
    LATM = "latm"
    """LOAS frames around it."""
    MPEGPS = "mpegps"
    """.mpg, .vob."""
    ASF = "asf"
    """Windows Media: .wma, .asf, .wmv."""
    CODEC2 = "codec2"
    ILBC = "ilbc"
    DSS = "dss"
    """Dictation."""
    DS2 = "ds2"
    REAL = "rm"
    """RealAudio too."""
    NUT = "nut"
    WTV = "wtv"
    QCP = "qcp"
    XWMA = "xwma"
    AUDIBLE = "aa"
    TWINVQ = "vqf"
    NSV = "nsv"
    IAMF = "iamf"


_MAGICS = (
    (rb"RIF[FX]....WAVE", Container.WAV),
    (rb"(?:RF64|BW64)....WAVEds64", Container.WAV),
    (rb"FORM....AIF[FC]", Container.AIFF),
    (rb"RIFF....AVI[ X\x19]", Container.AVI),
    (rb"FLV[\0-\4].\0(?:\0\0[\x09-\xff]|\0[\1-\xff].|[\1-\xff]..)", Container.FLV),
    (rb"wvpk..[\0-\x0f]\0[\x02-\x10]\x04", Container.WAVPACK),
    (rb"TTA1[\x01\x02]\0", Container.TTA),
    (rb"Creative Voice File\x1a", Container.VOC),
    (rb"NIST_1A\n", Container.NIST),
    (rb"fLaC", Container.FLAC),
    (rb"OggS\0[\0-\x07]", Container.OGG),
    (rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11\xa6\xd9\0\xaa\0\x62\xce\x6c", Container.ASF),
    (rb"\0\0\x01\xba[\x20-\x2f\x40-\x7f]", Container.MPEGPS),
    (rb"\xc0\xde\xc2\0[\x08-\xff]", Container.CODEC2),
    (rb"#!iLBC[23]0\n", Container.ILBC),
    (rb"[\2\3]dss", Container.DSS),
    (rb"[\1-\x08]ds2", Container.DS2),
    (rb"\.RMF|\.ra\xfd", Container.REAL),
    (rb"nut/multimedia", Container.NUT),
    (rb"\xb7\xd8\x00\x20\x37\x49\xda\x11", Container.WTV),
    (rb"RIFF....QLCM", Container.QCP),
    (rb"RIFF....XWMA", Container.XWMA),
    (rb"....\x57\x90\x75\x36", Container.AUDIBLE),
    (rb"TWIN97012000", Container.TWINVQ),
    (rb"NSV[fs]", Container.NSV),
    (rb"\xf8.iamf", Container.IAMF),
    (rb"\x1aE\xdf\xa3", Container.MATROSKA),
    (rb"#!AMR", Container.AMR),
    (rb"\.snd(?:(?!\0{4}).{4}){5}", Container.AU),
    (rb"caff\0\x01..desc\0{7}\x20", Container.CAF),
    (rb"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb", Container.WAVE64),
    (rb"....mdat", Container.MP4),
    # Under 16 MiB, so that a sentence whose second word is "free" is no video.
    (rb"\0...(?:ftyp|moov|moof|mdat|free|skip|wide|pnot|udta|uuid|junk|pict|prfl|sidx)", Container.MP4),
)
_KNOWN = tuple((re.compile(magic, re.DOTALL).match, container) for magic, container in _MAGICS)
"""As strict as FFmpeg: what only begins like a header of plain samples, at a rate of its own choice, would hide the MP3
that is played behind it. What begins like nothing is hunted through, MP4 behind an unknown box too."""

_FOREIGN = re.compile(
    rb"RIF[FX]....(?:AVI[ X\x19]|AMV )|FORM....(?:8SVX|16SV|MAUD)|FRM8....|DSD "
    rb"|FLV\x01|\0\0\x01[\xb3\xba\xe0]|wvpk|MAC |TTA[12]|MP\+|MPCK|tBaK|ajkg"
    rb"|\x06\x0e\x2b\x34|\x7f\xfe\x80\x01|....\xf8\x72\x6f\xba|ea3\x03|EA3|NIST_1A|\.SoX|XoS\.|\x64\xa3.\0",
    re.DOTALL,
).match
"""Containers that FFmpeg plays and nothing here walks, as far as they are told by their first bytes."""


def begins_a_file(head: bytes) -> bool:
    """Whether these first bytes are some container's own: plain samples do not begin so, whatever was declared.

    Not by a sync of a few bits, which any samples may show.
    """
    return _FOREIGN(head) is not None or any(begins(head) for begins, _ in _KNOWN)


def sniff(head: bytes) -> Container:
    """Name the container that ``head`` begins; :data:`SNIFF_BYTES` bytes are enough, fewer may be too few."""
    for begins, container in _KNOWN:
        if begins(head):
            return container
    if head[:1] == b"\xff":
        return _sniff_sync(head)
    if head[:1] == b"\x56" and head[1:2] >= b"\xe0" and not _is_text(head):
        return Container.LATM
    return Container.UNKNOWN


def _is_text(head: bytes) -> bool:
    """Whether it is UTF-8, but for a last character cut short: LOAS's sync is a V before some Chinese."""
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.start > len(head) - 4
    return True


def _sniff_sync(head: bytes) -> Container:
    """Three formats begin with ones. FLAC's header has a CRC, so it is asked before ADTS, whose sync it shares.

    FFmpeg and libFLAC also play FLAC without magic and metadata.
    """
    if header_of(head) is not None:
        return Container.FLAC
    if _begins_with_adts(head):
        return Container.ADTS
    if _begins_with_mpeg_audio(head):
        return Container.MP3
    return Container.UNKNOWN


def _begins_with_adts(head: bytes) -> bool:
    """ISO/IEC 13818-7 section 6.2: sync and layer 0, a rate that exists, a frame longer than its own header."""
    if len(head) < 6 or head[1] & 0xF6 != 0xF0:  # twelve ones, any version, layer 00
        return False
    rate_index = head[2] >> 2 & 15
    frame_bytes = (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5
    return rate_index < 13 and frame_bytes > 7  # 13 rates; a header of 7 bytes


def _begins_with_mpeg_audio(head: bytes) -> bool:
    """ISO/IEC 11172-3 section 2.4.2.3: eleven ones, and none of the reserved version, layer, bit rate and rate."""
    if len(head) < 4 or head[1] & 0xE0 != 0xE0:  # four bytes of header; eleven ones
        return False
    version, layer = head[1] >> 3 & 3, head[1] >> 1 & 3
    bitrate, rate = head[2] >> 4, head[2] >> 2 & 3
    return version != 1 and layer != 0 and bitrate != 15 and rate != 3  # the reserved codes


def id3v2_bytes(head: bytes) -> int:
    """Measure the ID3v2 tag that ``head`` begins (ID3v2.4 section 3.1); 0 when there is none. Needs 10 bytes.

    FFmpeg passes over such a tag in front of any container.
    """
    if head[:3] != b"ID3" or len(head) < _ID3_HEADER_BYTES or 0xFF in head[3:5] or max(head[6:10]) > 0x7F:
        return 0
    # Four bytes of seven bits each.
    size = head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9]
    has_footer = head[5] & 0x10
    return size + _ID3_HEADER_BYTES * (2 if has_footer else 1)
