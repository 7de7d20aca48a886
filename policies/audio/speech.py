"""Files of one speech codec, whose frames have one size each: Codec 2, iLBC, GSM without a header, dictation (DSS).

They take 700 to 15 200 bits a second: weighed like the unknown they would be the cheap ones.
"""

from policies.audio.walker import Chunk, milliseconds

_RATE = 8_000
_CODEC2, _CODEC2_HEAD_BYTES, _MODE_AT = b"\xc0\xde\xc2", 7, 5
_CODEC2_MODES = ((8, 160), (6, 160), (8, 320), (7, 320), (7, 320), (6, 320), (4, 320), (4, 320), (4, 320))
"""Bytes and samples of a frame: 3200, 2400, 1600, 1400, 1300, 1200 and three times 700 bit/s."""
_ILBC_HEAD_BYTES = 9
_ILBC = {b"#!iLBC20\n": (38, 160), b"#!iLBC30\n": (50, 240)}
"""RFC 3952 section 5."""
_HEAD_BYTES = 9


class SpeechWalker:
    """Counts frames by the bytes behind the header; keeps that."""

    __slots__ = ("_frame", "_held", "_size", "codec")

    channels = 1
    claimed_ms = None
    strange = 0
    unsure = False

    def __init__(self) -> None:
        self.codec = ""
        self._held = b""
        self._frame: tuple[int, int] | None = None
        self._size = 0

    @property
    def ms(self) -> int | None:
        """Of whole frames; None for a mode that nobody knows."""
        if self._frame is None:
            return None
        size, samples = self._frame
        return milliseconds(self._size // size * samples, _RATE) or None

    def feed(self, chunk: Chunk) -> None:
        """The next bytes of the file, from its magic on."""
        self._size += len(chunk)
        if len(self._held) < _HEAD_BYTES:
            self._held += chunk[: _HEAD_BYTES - len(self._held)]
            if len(self._held) == _HEAD_BYTES:
                self._begin(self._held)

    def _begin(self, head: bytes) -> None:
        if head.startswith(_CODEC2):
            self.codec = "codec2"
            mode = head[_MODE_AT]
            self._frame = _CODEC2_MODES[mode] if mode < len(_CODEC2_MODES) else None
            self._size -= _CODEC2_HEAD_BYTES
        else:
            self.codec = "ilbc"
            self._frame = _ILBC.get(head)
            self._size -= _ILBC_HEAD_BYTES


class BareGsmWalker:
    """GSM 06.10 without a header, which FFmpeg knows by the four bits that each frame begins with."""

    __slots__ = ("_invalid", "_is_found", "_passed", "_valid")

    codec = "gsm"
    channels = 1
    claimed_ms = None
    unsure = True
    _FRAME_BYTES, _SAMPLES = 33, 160
    _TO_INVALID = 16
    """So many frames stand for each place where there should be one and is none."""
    _MOST_BYTES = 1 << 20

    def __init__(self) -> None:
        self._passed = self._valid = self._invalid = 0
        self._is_found = False

    @property
    def ms(self) -> int | None:
        """Of all whole frames, once they are believed in: the decoder plays those without the four bits too."""
        frames = self._passed // self._FRAME_BYTES
        return milliseconds(frames * self._SAMPLES, _RATE) or None if self._is_found else None

    @property
    def strange(self) -> int:
        """All or nothing."""
        return 0 if self._is_found else self._passed

    def feed(self, chunk: Chunk) -> None:
        """The next bytes."""
        if not self._is_found and self._passed < self._MOST_BYTES:
            begins = chunk[-self._passed % self._FRAME_BYTES :: self._FRAME_BYTES]
            for first in begins:
                if first & 0xF0 == 0xD0:
                    self._valid += 1
                else:
                    self._invalid += 1
                self._is_found |= self._valid // self._TO_INVALID > self._invalid
        self._passed += len(chunk)


G723_TAGS = frozenset((0x0042, 0x0111, 0xA100))
"""What WAV and its like call it."""


class G723Walker:
    """G.723.1, whose frames say by two bits how long they are: 6.3 or 5.3 kbit/s, comfort noise, and nothing new.

    FFmpeg begins anew with each of its packets, which are whole blocks: frames of other sizes than that come out
    otherwise, and are taken for the smallest that hold speech, where that is more.
    """

    __slots__ = ("_block", "_passed", "_rate", "_seen", "_skip", "frames")

    codec = "g723_1"
    channels = 1
    claimed_ms = None
    strange = 0
    _FRAME_BYTES, _LEAST_BYTES, _SAMPLES = (24, 20, 4, 1), 20, 240

    def __init__(self, rate: int = _RATE, block: int = 0) -> None:
        """``block`` is that of the file; 0 where frames follow each other from its first to its last byte."""
        self._rate, self._block = rate, block
        self._skip = self._passed = self.frames = 0
        self._seen = 0
        """Which sizes, a bit each."""

    @property
    def unsure(self) -> bool:
        """Whether frames are of other sizes than a block."""
        fitting = sum(1 << kind for kind, size in enumerate(self._FRAME_BYTES) if size == self._block)
        return self._block > 0 and self._seen not in {0, fitting}

    @property
    def ms(self) -> int | None:
        """Of the frames that have begun."""
        frames = max(self.frames, self._passed // self._LEAST_BYTES) if self.unsure else self.frames
        return milliseconds(frames * self._SAMPLES, self._rate) or None

    def feed(self, chunk: Chunk) -> None:
        """The next bytes."""
        at, sizes, end, seen = self._skip, self._FRAME_BYTES, len(chunk), self._seen
        while at < end:
            kind = chunk[at] & 3
            seen |= 1 << kind
            at += sizes[kind]
            self.frames += 1
        self._skip, self._seen = at - end, seen
        self._passed += end


class DssWalker:
    """Digital Speech Standard: blocks of 512 bytes, each with a header of its own; two codecs.

    Counts frames of the shorter play (G.723.1) by their first bytes, those of the standard one by bytes.
    """

    __slots__ = ("_codec", "_head_bytes", "_long", "_passed", "_sound")

    channels = 1
    claimed_ms = None
    strange = 0
    unsure = False
    _BLOCK_BYTES, _BLOCK_HEAD_BYTES, _CODEC_AT = 512, 6, 0x2A4
    _STANDARD, _LONG = 0, 2
    _STANDARD_BYTES, _STANDARD_SAMPLES, _STANDARD_RATE = 41, 264, 11_025

    def __init__(self) -> None:
        self._codec: int | None = None
        self._head_bytes = 0
        self._passed = self._sound = 0
        self._long = G723Walker()

    @property
    def codec(self) -> str:
        """FFmpeg's name; empty until known."""
        return {self._STANDARD: "dss_sp", self._LONG: "g723_1"}.get(-1 if self._codec is None else self._codec, "")

    @property
    def ms(self) -> int | None:
        """Of the frames that have begun."""
        if self._codec == self._STANDARD:
            return milliseconds(self._sound // self._STANDARD_BYTES * self._STANDARD_SAMPLES, self._STANDARD_RATE)
        return self._long.ms if self._codec == self._LONG else None

    def feed(self, chunk: Chunk) -> None:
        """The next bytes of the file, from its magic on."""
        at, size, base = 0, len(chunk), self._passed
        if not base and size:
            self._head_bytes = chunk[0] * self._BLOCK_BYTES
        if base <= self._CODEC_AT < base + size:
            self._codec = chunk[self._CODEC_AT - base]
        self._passed += size
        at = max(self._head_bytes - base, 0)
        while at < size:
            within = (base + at - self._head_bytes) % self._BLOCK_BYTES
            end = min(at + self._BLOCK_BYTES - within, size)
            self._hear(chunk[at + max(self._BLOCK_HEAD_BYTES - within, 0) : end])
            at = end

    def _hear(self, sound: Chunk) -> None:
        """What stands in one block behind its header."""
        self._sound += len(sound)
        if self._codec == self._LONG:
            self._long.feed(sound)
