"""What was said: words, the utterances they stand in, and the whole transcript. Times are whole milliseconds."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Word:
    """One word and where it stands in the audio.

    ``score`` is the decoder's acoustic score between 0 and 1: it falls when the sound fits the word badly. It is not
    calibrated, so it ranks words of one transcript and says nothing across recognisers.
    """

    text: str
    start_ms: int
    end_ms: int
    score: float


def joined(words: tuple[Word, ...]) -> str:
    """The words as one line of text."""
    return " ".join(word.text for word in words)


@dataclass(frozen=True, slots=True)
class Utterance:
    """A stretch of speech between two pauses, the pauses' edges included."""

    start_ms: int
    end_ms: int
    words: tuple[Word, ...]

    @property
    def text(self) -> str:
        """The words as one line of text."""
        return joined(self.words)


@dataclass(frozen=True, slots=True)
class Transcript:
    """All that was heard in one audio of ``duration_ms``. Stretches without words are left out."""

    duration_ms: int
    utterances: tuple[Utterance, ...]

    @property
    def text(self) -> str:
        """The words as one line of text; empty for silence."""
        return joined(self.words)

    @property
    def words(self) -> tuple[Word, ...]:
        """The words of all utterances, in order."""
        return tuple(word for utterance in self.utterances for word in utterance.words)
