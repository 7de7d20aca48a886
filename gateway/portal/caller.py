"""Who asks, as the gateway says it: identity headers, the client's address, the request's id."""

from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from aiohttp import web

from gateway.portal.parts import PARTS
from policies.http.inquiry import is_plain_path


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """The holder of the API key or token that came with a request; all empty where none did.

    Sessions are not among it: on its own paths the gateway leaves cookies to the portal.
    """

    tenant_id: str
    user_id: str
    key_id: str
    scopes: frozenset[str]
    roles: tuple[str, ...]

    @property
    def is_known(self) -> bool:
        """Whether a credential was presented; it was good then."""
        return bool(self.tenant_id)


def caller(request: web.Request) -> Caller:
    """The identity that the gateway vouches for."""
    headers = request.headers
    return Caller(
        tenant_id=headers.get("X-Tenant-ID", ""),
        user_id=headers.get("X-User-ID", ""),
        key_id=headers.get("X-API-Key-ID", ""),
        scopes=frozenset(headers.get("X-Auth-Scopes", "").split()),
        roles=tuple(headers.get("X-Auth-Roles", "").split()),
    )


def client_address(request: web.Request) -> str:
    """The client's address, judged by the gateway's rules on forwarding headers; empty outside the gateway."""
    return request.headers.get("X-Client-IP", "")


def request_id(request: web.Request) -> str:
    """The id that the gateway gave this request, and repeats in its answer and its log."""
    return request.headers.get("X-Request-ID", "")


def came_from(request: web.Request) -> str:
    """The path of the page of ours that has sent the request; empty where it says none, or another site's."""
    came, here = split(request.headers.get("Referer", "")), urlsplit(request.app[PARTS].public_url)
    if came is None or (came.scheme, came.netloc) != (here.scheme, here.netloc):
        return ""
    return came.path if is_plain_path(came.path) else ""


def split(url: str) -> SplitResult | None:
    """An address that a client names, in its parts; None for what is none, such as ``http://[``."""
    try:
        return urlsplit(url)
    except ValueError:
        return None


def user_agent(request: web.Request) -> str:
    """What the client calls itself, cut to a length that can be kept; what is no UTF-8 in it is told as that."""
    said = request.headers.get("User-Agent", "")[:256]
    return said.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
