"""Tickets: what a page opens a stream with, or uploads with, so that it never holds a key.

A ticket is ``tkt_`` and 192 random bits in hexadecimal, which also makes it a legal WebSocket subprotocol. It is minted
for one principal and its routes, and is taken once, soon (RFC 9700 section 4.3.2 tells why no more).

One that begins with ``ek_`` is good many times while it lasts, for SDKs that connect again with what they have
(``docs/decisions/0006-tokens-of-stock-sdks.md``). Its text says so, and never stands in a URL.
"""

import re
from dataclasses import dataclass

from policies.identity.tokens import AccessToken

TICKET_BYTES = 24
"""How much randomness :func:`mint_ticket` wants."""
LIFE_S = 60
"""How long a ticket may be redeemed where nobody asks for another time."""
LONGEST_S = 600
"""The longest time that may be asked for: that of an access token."""
MOST_USES = 100
"""How often one may be used that is good many times: more than any SDK reconnects, and few enough to be found out."""
_REUSABLE = "ek_"
"""Without it OpenAI's SDK refuses a secret in a browser."""
_TICKET = re.compile(rb"(?:ek_)?tkt_[0-9a-f]{48}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """What a ticket's bearer may do: ask on one of its routes, as whoever minted it.

    That is an API key, of which ``key`` is the registry's digest (32 bytes), or whoever ``token`` stands for: the
    access token that asked, with the scopes and the end of the ticket, or what such a one would say of a session. At
    redemption it is asked for again, so that a key, a token or a person who was shut out meanwhile opens nothing.
    """

    tenant_id: str
    routes: tuple[str, ...]
    """The names of the routes."""
    longest_s: float
    """How long a stream may last, in seconds."""
    key: bytes = b""
    token: AccessToken | None = None
    first: str = ""
    """The message that each of its streams begins with, before the client says anything."""


def mint_ticket(randomness: bytes, *, reusable: bool = False) -> str:
    """A new ticket's text from :data:`TICKET_BYTES` of a cryptographic source."""
    if len(randomness) != TICKET_BYTES:
        raise ValueError(f"a ticket takes exactly {TICKET_BYTES} random bytes")
    return f"{_REUSABLE if reusable else ''}tkt_{randomness.hex()}"


def is_ticket(secret: bytes) -> bool:
    """Whether these bytes have the shape of a ticket."""
    return _TICKET.fullmatch(secret) is not None


def is_reusable(ticket: bytes) -> bool:
    """Whether a ticket is good :data:`MOST_USES` times, and not once."""
    return ticket.startswith(_REUSABLE.encode())
