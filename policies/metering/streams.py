"""How a stream ends, by name, and what may watch one pass. Documented in ``docs/errors.md``.

Close codes are RFC 6455's (section 7.4.1, and the registry it founded) where one fits, else from 4000 up, which belong
to applications.
"""

import enum
from typing import Protocol

from policies.account.usage import Measured, Outcome
from policies.http.websocket import Fault


class Ending(enum.Enum):
    """Why the gateway ends a stream: close code for the client, what the record says, and a sentence.

    The stable code, which begins the close frame's reason, is the name in lower case.
    """

    CREDENTIAL_ENDED = 4001, Outcome.DENIED, "The credential that opened this stream is no longer good for it."
    POLICY_VIOLATED = 4008, Outcome.DENIED, "Too many control frames."
    STREAM_IDLE = 4010, Outcome.OK, "No message passed for too long."
    STREAM_TOO_LONG = 4011, Outcome.OK, "The stream reached the longest time that one may last. Open another one."
    LIMIT_REACHED = 4029, Outcome.DENIED, "A limit of this credential or its organisation is used up."
    SHUTTING_DOWN = 1012, Outcome.OK, "This instance is shutting down. Connect again; another one will answer."
    PROTOCOL_ERROR = 1002, Outcome.DENIED, "What was sent breaks the WebSocket protocol (RFC 6455)."
    MESSAGE_TOO_LARGE = 1009, Outcome.DENIED, "A message was larger than this route takes."
    UPSTREAM_GONE = 1014, Outcome.UPSTREAM_FAILED, "The transcription service broke off."

    def __init__(self, close_code: int, outcome: Outcome, message: str) -> None:
        self.close_code = close_code
        self.outcome = outcome
        self.message = message
        self.code = self.name.lower()

    @classmethod
    def of(cls, fault: Fault) -> "Ending":
        """The ending for what a peer did wrong."""
        return cls.MESSAGE_TOO_LARGE if fault is Fault.TOO_LARGE else cls.PROTOCOL_ERROR


GOING_AWAY = 1001
"""The close code for the upstream, whatever the gateway's reason is: it is none of the upstream's doing."""


class StreamMeter(Protocol):
    """Measures the audio of one stream. Pieces are as ``policies.http.websocket.Consumer`` has them. Never raises."""

    session: str
    """What the client calls its session, where it hears no message that does not name that (WhisperLive); or empty."""

    def client_piece(self, opcode: int, piece: bytes, last: bool) -> None:  # noqa: FBT001  called by position alone
        """A piece of a message on its way to the upstream."""

    def upstream_piece(self, opcode: int, piece: bytes, last: bool) -> None:  # noqa: FBT001
        """A piece of a message on its way to the client."""

    def measured(self) -> Measured:
        """The figure for all that has passed so far. Asked every few seconds, and at the end."""
