"""The code words of AAC (ISO/IEC 14496-3 section 4.6.3): how many bits so many of them take, not what they say.

All twelve books are canonical: of one length the words follow one another, and the shortest come first. So a book is
how many words each length has, from one bit on, and what stands behind each word: the signs of its values that are not
zero, and of book 11 escapes.
"""

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

SCALE_FACTORS = 0
PADDING_BITS = 64
"""What must stand behind the bits that are read: a word is looked at before it is known to be there."""
_LOOK_BITS = 16
_WINDOW_BITS = 240
_WINDOW_MASK = (1 << _WINDOW_BITS) - 1
_LONGEST_BITS = 19
_WITH_ESCAPES, _ESCAPE = 11, 3
_LEAST_ESCAPE_BITS, _MOST_ESCAPE_BITS = 4, 8

_LENGTHS = (
    (1, 0, 1, 3, 2, 4, 3, 5, 4, 6, 6, 6, 5, 8, 4, 7, 3, 7, 46),
    (1, 0, 0, 0, 8, 0, 24, 0, 24, 8, 16),
    (0, 0, 1, 1, 7, 24, 15, 19, 14),
    (1, 0, 0, 4, 2, 6, 3, 5, 15, 15, 8, 9, 3, 3, 5, 2),
    (0, 0, 0, 10, 6, 0, 9, 21, 8, 14, 11, 2),
    (1, 0, 0, 4, 4, 0, 4, 12, 12, 12, 18, 10, 4),
    (0, 0, 0, 9, 0, 16, 13, 8, 23, 8, 4),
    (1, 0, 2, 1, 0, 4, 5, 10, 14, 15, 8, 4),
    (0, 0, 1, 5, 7, 10, 14, 15, 8, 4),
    (1, 0, 2, 1, 0, 4, 3, 8, 11, 20, 31, 38, 32, 14, 4),
    (0, 0, 0, 3, 8, 14, 17, 25, 31, 41, 22, 8),
    (0, 0, 0, 2, 6, 7, 16, 59, 55, 95, 43, 6),
)
"""Of the scale factors' book and of the eleven of the spectrum."""

_SIGNS = {
    3: "011112222232343311223232331221224334323244332333223243344233333344442233434443233",
    4: "433331202222121144443333333333332222222222221111444444333333333433344422222243333",
    7: "0112221122211222222221122212122222222211222222222222112222222222",
    8: "2212120112222222221122222222221212222222121222222222221212222112",
    9: "0112221122211222222221122222221212222222212222222212221222212222112222222222222122212222222222222222"
        "222212212222222122222222222222212212222122222222222222222222222222222",
    10: "2222112222211222202211222222222222121222222222222121222222222222222222122222122222222222222222121222"
        "222212222221222222222222222221212122222222222222212122212221222222122",
    11: "0281122222212122222221122222222222222255555251215255552222255225552252555252255222155222212552252522"
        "2222252212222221222222222222221222222222224222222421222222222222222222222222222222122222222222222222"
        "21222222222222222222222222222112222222222222222222222222212212122212222211222212212112112",
}  # fmt: skip
"""Of the books that write them behind the word; in that of 11, three more for each escape."""


class Book(NamedTuple):
    """One book's words. ``known`` has what was found behind a look at 16 bits; 0 where nobody has looked yet."""

    limits: Sequence[tuple[int, int, int]]
    """By length: the first word behind those of this length; the number of the first one less its value; the length."""
    behind: Sequence[tuple[int, int]]
    """By a word's number: its escapes, and its signs."""
    counts: bytearray
    """By a look at 16 bits, how many words fit into them; 0 where none does, or nobody has looked yet."""
    bits: bytearray
    """Of those words."""
    first: bytearray
    """Bits of the first one."""


@cache
def book(number: int) -> Book:
    """One of twelve."""
    limits, word, index = [], 0, 0
    for length, count in enumerate(_LENGTHS[number], start=1):
        word <<= 1
        limits.append((word + count, index - word, length))
        word, index = word + count, index + count
    signs = _SIGNS.get(number)
    most_signs = _ESCAPE if number == _WITH_ESCAPES else 10
    behind = [divmod(int(sign), most_signs) for sign in signs] if signs else [(0, 0)] * index
    return Book(limits, behind, *(bytearray(1 << _LOOK_BITS) for _ in range(3)))


def _word_bits(words: Book, bits: int, left: int) -> int:
    """Of the next word with all that stands behind it."""
    head = bits >> left - _LONGEST_BITS & (1 << _LONGEST_BITS) - 1
    for limit, shift, length in words.limits:
        word = head >> _LONGEST_BITS - length
        if word < limit:
            escapes, signs = words.behind[word + shift]
            took = length + signs
            for _ in range(escapes):
                took += _escape_bits(bits, left - took)
            return took
    raise ValueError("no such word")


def _escape_bits(bits: int, left: int) -> int:
    """So many ones as the value has bits beyond four, a zero, and the value."""
    ones = 0
    while left > ones and bits >> left - ones - 1 & 1:
        ones += 1
        if ones > _MOST_ESCAPE_BITS:
            raise ValueError("no such value")
    return 2 * ones + 1 + _LEAST_ESCAPE_BITS


def _look(words: Book, look: int) -> int:
    """Note what so many words are of which the first one begins the 16 bits; how many: see :class:`Book`."""
    left, count, first = _LOOK_BITS + PADDING_BITS, 0, 0
    bits = look << PADDING_BITS
    while True:
        try:
            length = _word_bits(words, bits, left)
        except ValueError:
            break
        if left - length < PADDING_BITS:
            break
        first = first or length
        left -= length
        count += 1
    words.counts[look], words.bits[look], words.first[look] = count, _LOOK_BITS + PADDING_BITS - left, first
    return count


def pass_words(number: int, count: int, bits: int, left: int) -> int:
    """Pass so many words, the first of which begins ``left`` bits before the end; how many bits are left then.

    Raises ValueError where a decoder finds none.
    """
    words = book(number)
    _, _, counts, lengths, first = words
    window = ahead = 0  # some of the bits, and how many follow them
    while count > 0:
        if left <= PADDING_BITS:
            return 0
        if left < ahead + _LOOK_BITS or not ahead:
            ahead = max(left - _WINDOW_BITS, 1)
            window = bits >> ahead & _WINDOW_MASK
        look = window >> left - ahead - _LOOK_BITS & 0xFFFF
        here = counts[look] or _look(words, look)
        if not here:
            left -= _word_bits(words, bits, left)
            count -= 1
        elif here <= count:
            left -= lengths[look]
            count -= here
        else:
            left -= first[look]
            count -= 1
    return left
