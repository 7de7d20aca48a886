"""One-use tickets: what a browser opens a stream with, so that it never holds a key.

A ticket is ``tkt_`` and 192 random bits in hexadecimal, which also makes it a legal WebSocket subprotocol. It is minted
for one principal and one route and is taken once, within a minute (RFC 9700 section 4.3.2 tells why no more).
"""

import re
from dataclasses import dataclass

TICKET_BYTES = 24
"""How much randomness :func:`mint_ticket` wants."""
LIFE_S = 60
"""How long a ticket may be redeemed."""
_TICKET = re.compile(rb"tkt_[0-9a-f]{48}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """What a ticket's bearer may do: open one stream on one route, as whoever minted it.

    ``credential``: the registry's digest (32 bytes) of the API key that minted it; for people an access token made for
    this. At redemption it is asked for again, so that a key or a person who was shut out meanwhile opens nothing.
    """

    tenant_id: str
    credential: bytes
    route: str
    """The route's name."""
    longest_s: float
    """How long the stream may last, in seconds."""


def mint_ticket(randomness: bytes) -> str:
    """A new ticket's text from :data:`TICKET_BYTES` of a cryptographic source."""
    if len(randomness) != TICKET_BYTES:
        raise ValueError(f"a ticket takes exactly {TICKET_BYTES} random bytes")
    return "tkt_" + randomness.hex()


def is_ticket(secret: bytes) -> bool:
    """Whether these bytes have the shape of a ticket."""
    return _TICKET.fullmatch(secret) is not None
