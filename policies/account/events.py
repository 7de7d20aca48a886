"""Events for others: envelope (CloudEvents 1.0), signature (Standard Webhooks), retries, and where they may be sent."""

import base64
import hmac
import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

SECRET_PREFIX = "whsec_"  # noqa: S105  a prefix
_RETRIES_S = (5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
"""Waits after each failure, in seconds: more than three days in all, as Standard Webhooks recommends."""

_NOT_PUBLIC = tuple(
    ipaddress.ip_network(text)
    for text in ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32", "192.88.99.0/24", "fec0::/10")
)
"""Networks that Python calls global and that lead elsewhere: NAT64, 6to4 and Teredo carry an IPv4 address inside."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened. ``id`` is unique with the installation's ``source``; ``data`` is JSON-able."""

    id: str
    tenant_id: str
    type: str
    subject: str
    at: datetime
    data: Mapping[str, Any]


def envelope(event: Event, source: str) -> dict[str, Any]:
    """The event in CloudEvents' JSON format. ``source`` names the installation: the same in every replica."""
    return {
        "specversion": "1.0",
        "id": event.id,
        "source": source,
        "type": event.type,
        "subject": event.subject,
        "time": event.at.astimezone(UTC).isoformat(timespec="microseconds").removesuffix("+00:00") + "Z",
        "datacontenttype": "application/json",
        "tenantid": event.tenant_id,
        "data": dict(event.data),
    }


def signature_headers(secrets: Iterable[bytes], message_id: str, at: datetime, body: bytes) -> dict[str, str]:
    """The three headers of Standard Webhooks, with a signature for each secret: two while one replaces the other."""
    stamp = str(int(at.timestamp()))
    signed = f"{message_id}.{stamp}.".encode() + body
    signatures = [base64.b64encode(hmac.digest(secret, signed, "sha256")).decode() for secret in secrets]
    return {
        "webhook-id": message_id,
        "webhook-timestamp": stamp,
        "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
    }


def secret_text(secret: bytes) -> str:
    """A secret as receivers' libraries take it."""
    return SECRET_PREFIX + base64.b64encode(secret).decode()


def is_wanted(patterns: Iterable[str], event_type: str) -> bool:
    """Whether one of the patterns names the type: itself, ``key.*``, or ``*``."""
    noun = event_type.partition(".")[0]
    return any(pattern in ("*", event_type, f"{noun}.*") for pattern in patterns)


def next_try(failures: int, chance: float) -> timedelta | None:
    """How long to wait after so many failures; None: give up. ``chance`` from 0 to 1 adds up to a fifth."""
    if failures > len(_RETRIES_S):
        return None
    return timedelta(seconds=_RETRIES_S[failures - 1] * (1 + chance / 5))


def is_public(address: str) -> bool:
    """Whether an IP address is one of the public internet's: what is not may be our own network (CWE-918)."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped:
        ip = ip.ipv4_mapped
    if not ip.is_global or ip.is_multicast or ip.is_reserved or ip.is_unspecified:
        return False
    return not any(ip in network for network in _NOT_PUBLIC if network.version == ip.version)
