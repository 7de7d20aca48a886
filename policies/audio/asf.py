"""ASF (.wma, .asf, .wmv): the objects that the payloads of each stream of sound make up, by its format.

A packet is as long as the header says, and each payload in it says of which stream and which object it is a piece. From
the first one on that is not as recorders write it readers search, or guess: what follows is weighed.

Source: Microsoft, Advanced Systems Format (ASF) Specification, sections 3 (header) and 5 (data).
"""

import struct
from collections.abc import Generator
from functools import partial

from policies.audio.sounds import Sound, sound_of
from policies.audio.steps import Lost, Reader, Steps
from policies.audio.walker import Chunk, Patience

_HEAD_BYTES, _OBJECT, _DATA_HEAD_BYTES = 30, struct.Struct("<16sQ"), 26
_DATA = bytes.fromhex("3626b2758e66cf11a6d900aa0062ce6c")
_FILE = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_STREAM = bytes.fromhex("9107dcb7b7a9cf118ee600c00c205365")
_EXTENSION, _EXTENSION_BYTES = bytes.fromhex("b503bf5f2ea9cf118ee300c00c205365"), 22
_DETAILS, _DETAILS_BYTES = bytes.fromhex("cba5e61472c632439983a96952065b5a"), 64
"""The extended properties of a stream, behind which its own may stand."""
_SOUND = bytes.fromhex("409e69f84d5bcf11a8fd00805f5c442b")
_TELEVISION = bytes.fromhex("e265fb3aef47f240ac2c70a90d71d343")
"""What recordings of broadcasts say, whose own kind stands further on."""
_SIZES = (0, 1, 2, 4)
"""Of a field, by the two bits that say it."""
_FILE_PROPERTIES = struct.Struct("<40xQ8xQIII")
"""Playing time in units of 100 ns, the time that is to be buffered in ms, flags, and the least and greatest packet."""
_LIVE = 1
_FORM_AT, _FORM_SIZE_AT, _NUMBER_AT = 54, 40, 48
_MARK = b"\x82\0\0"
_MANY, _MOST_PAYLOADS, _MOST_PACKET_BYTES, _LEAST_PAYLOAD_BYTES = 1, 63, 1 << 20, 6
_SHORT, _LEAST_REPLICATED_BYTES = 1, 8
_SAYS_LENGTH, _USUAL, _PAYLOAD = 0x60, 0x5D, struct.Struct("<BxIBI4xH")
"""Of a packet; fields as recorders have them, and with those what stands in front of a payload among many."""
_MOST_OBJECT_BYTES = 1 << 24
_LEAST_DATA_BYTES = 100
_MOST_PROPERTIES_BYTES = 4096
_WEIGHED_BITS = 4_000
"""A second, of what no payload explains: speech in WMA Voice, unless a stream's own format is thriftier."""
_MS_PER_S, _UNITS_PER_MS = 1000, 10_000


class _Stream:
    """One stream: its sound if it is one, and of the object that is under way its size and what has come of it."""

    __slots__ = ("came", "size", "sound")

    def __init__(self, sound: Sound | None) -> None:
        self.sound = sound
        self.size = self.came = 0


class AsfWalker:
    """Walks payloads in any cuts; keeps headers of them."""

    __slots__ = (
        "_is_live", "_least_packet", "_left", "_packet", "_passed", "_patience", "_reader", "_streams", "_weighed",
        "claimed_ms",
    )  # fmt: skip

    def __init__(self) -> None:
        self.claimed_ms: int | None = None
        self._passed = self._weighed = self._left = 0
        self._streams: dict[int, _Stream] = {}
        self._least_packet = self._packet = 0
        self._patience = Patience(32)
        self._is_live = False
        self._reader = Reader(self._read())

    @property
    def _best(self) -> Sound | None:
        sounds = (stream.sound for stream in self._streams.values() if stream.sound)
        return max(sounds, key=lambda sound: sound.ms, default=None)

    @property
    def codec(self) -> str:
        """Of the stream that plays longest."""
        return self._best.codec if self._best else ""

    @property
    def channels(self) -> int | None:
        """Of the same."""
        return self._best.channels if self._best else None

    @property
    def strange(self) -> int:
        """All, where no stream is sound."""
        return 0 if self._best else self._passed

    @property
    def unsure(self) -> bool:
        """Whether any of it was weighed."""
        return self._weighed > 0 or (self._best is not None and self._best.unsure)

    @property
    def ms(self) -> int | None:
        """Of the stream that plays longest, and of what is weighed."""
        sounds = [stream.sound for stream in self._streams.values() if stream.sound]
        weight_ms = max(
            [self._weighed * 8 * _MS_PER_S // _WEIGHED_BITS, *(one.most_ms(self._weighed) for one in sounds)]
        )
        return max((one.ms for one in sounds), default=0) + weight_ms or None

    def feed(self, chunk: Chunk) -> None:
        """The next bytes."""
        self._passed += len(chunk)
        self._weighed += self._reader.feed(chunk)
        for stream in self._streams.values():
            if stream.sound:
                stream.sound.flush()

    def _read(self) -> Steps:
        """The whole file."""
        yield _HEAD_BYTES
        while True:
            name, size = _OBJECT.unpack((yield _OBJECT.size))
            if name == _DATA:
                break
            if name == _EXTENSION:
                yield _EXTENSION_BYTES
            elif name == _DETAILS:
                yield from self._pass_details()
            elif size < _OBJECT.size:
                raise Lost
            elif name in {_FILE, _STREAM}:
                if size > _MOST_PROPERTIES_BYTES:
                    raise Lost
                self._take(name, (yield size - _OBJECT.size))
            else:
                yield _OBJECT.size - size
        yield _DATA_HEAD_BYTES
        if not 0 < self._packet <= _MOST_PACKET_BYTES or self._least_packet > _MOST_PACKET_BYTES:
            raise Lost
        is_sized = size >= _LEAST_DATA_BYTES and not self._is_live
        self._left = size - _OBJECT.size - _DATA_HEAD_BYTES if is_sized else 1 << 63
        while self._left > 0:
            length = yield from self._pass_packet()  # during which others may be read
            self._left -= length
            self._reader.quick = self._follow if self._least_packet == self._packet else None
        while True:
            _, size = _OBJECT.unpack((yield _OBJECT.size))
            if size < _OBJECT.size:
                raise Lost
            yield _OBJECT.size - size

    def _pass_details(self) -> Generator[int, bytes, None]:
        """What is said beside a stream: names and kinds of fields in front of its payloads."""
        names, fields = struct.unpack_from("<HH", (yield _DETAILS_BYTES), _DETAILS_BYTES - 4)
        for _ in range(names):
            yield -int.from_bytes((yield 4)[2:], "little")
        for _ in range(fields):
            size = int.from_bytes((yield 22)[18:], "little")
            if size > _MOST_PROPERTIES_BYTES:
                raise Lost
            yield -size

    def _take(self, name: bytes, body: bytes) -> None:
        """What the file says of itself, or of one stream."""
        if name == _FILE:
            if len(body) < _FILE_PROPERTIES.size:
                raise Lost
            units, buffered_ms, flags, self._least_packet, self._packet = _FILE_PROPERTIES.unpack_from(body)
            self._is_live = flags & _LIVE > 0
            self.claimed_ms = None if self._is_live else max(units // _UNITS_PER_MS - buffered_ms, 0) or None
            return
        if len(body) < _FORM_AT or body.startswith(_TELEVISION):
            raise Lost
        number = body[_NUMBER_AT] & 0x7F
        sound = None
        if body.startswith(_SOUND):
            form = body[_FORM_AT:][: int.from_bytes(body[_FORM_SIZE_AT : _FORM_SIZE_AT + 4], "little")]
            sound = sound_of(form)
            spread = body[_FORM_AT + len(form) :]
            if sound is None or (spread and spread[0] > 1):  # whose pieces are exchanged
                raise Lost
        if number in self._streams:
            raise Lost
        self._streams[number] = _Stream(sound)

    def _follow(self, data: bytes, at: int) -> int:
        """Read the usual packets that are whole, one behind the other, up to the last one of all, or another one."""
        size, before = self._packet, self._reader.position - at
        while at + size <= len(data) and self._left > size:
            if not self._read_usual(data, at, at + size, before + at):
                break
            at += size
            self._left -= size
        return at

    def _read_usual(self, data: bytes, at: int, end: int, position: int) -> bool:
        """Read a packet of whole payloads that is as recorders write it; False, and nothing read, where it is not."""
        flags = data[at + 3]
        widths = _SIZES[flags >> 1 & 3], _SIZES[flags >> 3 & 3]
        begin = at + len(_MARK) + 2 + sum(widths)
        if flags & _SAYS_LENGTH or not flags & _MANY or data[at : at + 3] != _MARK or data[at + 4] != _USUAL:
            return False
        end -= int.from_bytes(data[begin - widths[1] : begin], "little")
        many, begin = data[begin + 6], begin + 7
        turns = 1 + (many & _MOST_PAYLOADS)
        if many >> 6 != 2 or not self._patience.affords(turns, position):
            return False
        whole = []
        for _ in range(many & _MOST_PAYLOADS):
            if end - begin < _PAYLOAD.size:
                return False
            number, offset, replicated, size, length = _PAYLOAD.unpack_from(data, begin)
            begin += _PAYLOAD.size
            if offset or replicated != _LEAST_REPLICATED_BYTES or not 0 < length == size <= end - begin:
                return False
            stream = self._streams.get(number & 0x7F)
            if stream and stream.sound:
                if stream.came:
                    return False
                whole.append((stream.sound, begin, begin + length))
            begin += length
        for sound, first, last in whole:
            sound.feed(data[first:last], is_end=True)
        self._patience.spend(turns)
        return True

    def _pass_packet(self) -> Generator[int, bytes, int]:
        """One packet; how long it is."""
        head = yield len(_MARK) + 2
        flags, fields = head[-2:]
        if not head.startswith(_MARK):
            raise Lost
        sizes = [_SIZES[flags >> shift & 3] for shift in (5, 1, 3)]
        has_many = flags & _MANY
        said = yield sum(sizes) + 6 + has_many
        length, _, padding = _numbers(said, sizes)
        length = length if sizes[0] else self._packet
        many = said[-1] if has_many else 1
        left = length - padding - len(head) - len(said)
        if left < 0 or length > _MOST_PACKET_BYTES or self._patience.is_lost(self._reader.position):
            raise Lost
        width = _SIZES[many >> 6] if has_many else 0
        for _ in range(many & _MOST_PAYLOADS):
            if left < _LEAST_PAYLOAD_BYTES:
                break
            left -= yield from self._pass_payload(fields, left, width if has_many else None)
        filled = max(self._least_packet - length, 0)
        yield -(left + padding + filled)
        return length + filled

    def _pass_payload(self, fields: int, left: int, width: int | None) -> Generator[int, bytes, int]:
        """One payload of a packet that has so many bytes left; how long it is. ``width`` is that of its size."""
        sizes = [_SIZES[fields >> shift & 3] for shift in (4, 2, 0)]
        head = yield 1 + sum(sizes)
        _, offset, replicated = _numbers(head[1:], sizes)
        stream = self._streams.get(head[0] & 0x7F)
        if replicated > left or not (replicated == _SHORT or replicated >= _LEAST_REPLICATED_BYTES):
            raise Lost
        more = yield replicated
        size = left - len(head) - replicated
        if width is not None:
            said = int.from_bytes((yield width), "little")
            if not width or not 0 < said <= size - width:
                raise Lost
            used, size = len(head) + replicated + width, said
        else:
            used = len(head) + replicated
        if size < 0 or self._patience.is_lost(self._reader.position):
            raise Lost
        if replicated == _SHORT:
            if not offset and not more[0]:
                raise Lost
            yield from self._pass_short(stream, size)
        else:
            yield self._take_piece(stream, offset, int.from_bytes(more[:4], "little"), size)
        return used + size

    def _pass_short(self, stream: _Stream | None, size: int) -> Generator[int, bytes, None]:
        """Whole objects, each behind a byte that says how long it is."""
        while size:
            length = (yield 1)[0]
            size -= 1 + length
            if size < 0 or self._patience.is_lost(self._reader.position):
                raise Lost
            yield self._take_piece(stream, 0, length, length)

    def _take_piece(self, stream: _Stream | None, offset: int, whole: int, size: int) -> int:
        """A piece of an object of a stream is next; what to pass on."""
        if stream is None or stream.sound is None or (offset and not stream.came):
            return -size
        is_same = offset == stream.came and (not offset or whole == stream.size)
        if not is_same or not size <= whole - offset < _MOST_OBJECT_BYTES:
            raise Lost
        is_end = offset + size == whole
        stream.size, stream.came = whole, 0 if is_end else offset + size
        self._reader.sink = partial(_hear, stream.sound, is_object_end=is_end)
        return -size


def _hear(sound: Sound, piece: bytes, is_last: bool, *, is_object_end: bool) -> None:  # noqa: FBT001
    sound.feed(piece, is_end=is_object_end and is_last)


def _numbers(data: bytes, sizes: list[int]) -> list[int]:
    """The numbers that fields of these sizes make up."""
    numbers, at = [], 0
    for size in sizes:
        numbers.append(int.from_bytes(data[at : at + size], "little"))
        at += size
    return numbers
