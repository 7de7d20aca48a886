"""Tickets: what a browser opens a stream with, so that it never holds a key.

A ticket is ``tkt_`` and 192 random bits in hexadecimal, which also makes it a legal WebSocket subprotocol. It is minted
for one principal and its routes, and is taken once, soon (RFC 9700 section 4.3.2 tells why no more).

One that begins with ``ek_`` opens streams as often as its time allows, for SDKs that connect again with what they have
(``docs/decisions/0006-tokens-of-stock-sdks.md``). Its text says so, and never stands in a URL.
"""

import re
from dataclasses import dataclass

TICKET_BYTES = 24
"""How much randomness :func:`mint_ticket` wants."""
LIFE_S = 60
"""How long a ticket may be redeemed where nobody asks for another time."""
LONGEST_S = 600
"""The longest time that may be asked for: that of an access token."""
_REUSABLE = "ek_"
"""Without it OpenAI's SDK refuses a secret in a browser."""
_TICKET = re.compile(rb"(?:ek_)?tkt_[0-9a-f]{48}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """What a ticket's bearer may do: open a stream on one of its routes, as whoever minted it.

    ``credential``: the registry's digest (32 bytes) of the API key that minted it; for people an access token made for
    this. At redemption it is asked for again, so that a key or a person who was shut out meanwhile opens nothing.
    """

    tenant_id: str
    credential: bytes
    routes: tuple[str, ...]
    """The names of the routes."""
    longest_s: float
    """How long the stream may last, in seconds."""


def mint_ticket(randomness: bytes, *, reusable: bool = False) -> str:
    """A new ticket's text from :data:`TICKET_BYTES` of a cryptographic source."""
    if len(randomness) != TICKET_BYTES:
        raise ValueError(f"a ticket takes exactly {TICKET_BYTES} random bytes")
    return f"{_REUSABLE if reusable else ''}tkt_{randomness.hex()}"


def is_ticket(secret: bytes) -> bool:
    """Whether these bytes have the shape of a ticket."""
    return _TICKET.fullmatch(secret) is not None


def is_reusable(ticket: bytes) -> bool:
    """Whether a ticket is good until its time is over, and not once."""
    return ticket.startswith(_REUSABLE.encode())
