"""How good a password is: its length, whether it is a common one, and how soon it would be guessed.

The estimate is zxcvbn's (Dropbox, MIT), whose lists are the blocklist too: 30 000 passwords of leaks, words, names. It
reads 72 characters: what is longer than that is judged by its beginning, which can only make it look weaker.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from zxcvbn import zxcvbn
from zxcvbn.frequency_lists import FREQUENCY_LISTS

from gateway.identity.passwords import SHORTEST, check_length

_READ = 72
_ENOUGH = 3
"""zxcvbn's score for 10^8 guesses and more: safe against whoever has stolen the hashes, which are slow to check."""
_ENOUGH_WITH_SECOND_FACTOR = 2
"""For 10^6 and more: safe against whoever guesses at the log-in, and would need the second factor as well."""
WORDS = ("very weak", "weak", "fair", "good", "strong")


@dataclass(frozen=True, slots=True, kw_only=True)
class Strength:
    """``score`` from 0 to 4; ``fault`` is a sentence, empty for a password that may be taken."""

    score: int
    fault: str
    advice: tuple[str, ...] = ()

    @property
    def word(self) -> str:
        """The score in words."""
        return WORDS[self.score]


@cache
def common() -> frozenset[str]:
    """The blocklist, folded."""
    return frozenset(FREQUENCY_LISTS["passwords"])


def strength(password: str, *, shortest: int, about: Sequence[str] = ()) -> Strength:
    """Judge a password. ``about`` are words of the person: name, address. Takes some milliseconds."""
    try:
        check_length(password, shortest)
    except ValueError as error:
        return Strength(score=0, fault=f"{str(error).capitalize()}.")
    if is_common(password):
        return Strength(score=0, fault="This is one of the passwords that are tried first. Choose another.")
    words = [word for text in about for word in (text, *text.replace("@", " ").replace(".", " ").split()) if word]
    found = zxcvbn(password[:_READ], user_inputs=[*words, "tahoe", "gateway"])
    feedback = found["feedback"]
    advice = tuple(text for text in (feedback["warning"], *feedback["suggestions"]) if text)
    score = int(found["score"])
    enough = _ENOUGH if shortest >= SHORTEST else _ENOUGH_WITH_SECOND_FACTOR
    fault = "" if score >= enough else "This password is too easy to guess. Make it longer, or use unrelated words."
    return Strength(score=score, fault=fault, advice=advice)


def is_common(password: str) -> bool:
    """Whether it is on the list, or one of the list's repeated, however it is capitalised."""
    folded = unicodedata.normalize("NFKC", password).casefold().strip()
    if not folded:
        return True
    return any(
        folded[:size] * (len(folded) // size) == folded and (size == 1 or folded[:size] in common())
        for size in range(1, len(folded) + 1)
        if len(folded) % size == 0 and (size <= 40 or size == len(folded))
    )
