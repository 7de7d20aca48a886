"""Credentials among the subprotocols that a client offers: browsers cannot set headers on a WebSocket.

``realtime, openai-insecure-api-key.<key>`` (OpenAI), ``token, <key>`` and ``bearer, <token>`` (Deepgram),
``xai-client-secret.<token>`` (xAI), or a ticket as a protocol of its own. What is secret is taken out here and
goes neither on nor back.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from policies.http.tickets import is_reusable, is_ticket

_SCHEMES = frozenset({b"token", b"bearer"})
"""A subprotocol that says that the next one is the credential."""
_PREFIXES = (b"openai-insecure-api-key.", b"xai-client-secret.")
_MOST = 64
"""How many subprotocols are read: nobody offers a tenth of it, and they are sorted before anybody is known."""


@dataclass(frozen=True, slots=True)
class Offer:
    """A client's subprotocols, sorted."""

    secrets: tuple[bytes, ...]
    passing: tuple[bytes, ...]
    """What goes to the upstream."""
    own: bytes
    """What the gateway selects where the upstream selects nothing: a browser that offered some wants one of them."""

    @classmethod
    def read(cls, handshake: Sequence[tuple[bytes, bytes]]) -> "Offer":
        """Sort the protocols of a handshake's fields."""
        values = [value for name, value in handshake if name == b"sec-websocket-protocol"]
        secrets: list[bytes] = []
        passing: list[bytes] = []
        own = spent = b""  # a ticket that is the only offer is worth nothing once redeemed: it may be said back
        offered = [name.strip() for value in values for name in value.split(b",", _MOST)[:_MOST]]
        names = iter([name for name in offered if name][:_MOST])
        for name in names:
            prefix = next((p for p in _PREFIXES if name.lower().startswith(p)), b"")
            if name.lower() in _SCHEMES:
                passing.append(name)
                own = own or name
                secrets += [secret] if (secret := next(names, b"")) else []
            elif prefix or is_ticket(name):
                secret = name[len(prefix) :]
                secrets.append(secret)
                spent = name if is_ticket(secret) and not is_reusable(secret) else spent
            else:
                passing.append(name)
        own = own or (passing[0] if passing else spent)
        return cls(tuple(secrets), tuple(passing), own if secrets else b"")
