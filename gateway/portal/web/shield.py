"""Security headers: what a page may load, who may frame it, what is kept. On every answer of the portal.

Answers in the place of a service have of them what an answer to a program needs.
"""

from aiohttp import web

from gateway.portal.parts import PARTS

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
_ALWAYS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": (
        "camera=(), geolocation=(), microphone=(), payment=(), usb=(), publickey-credentials-get=(self), "
        "publickey-credentials-create=(self)"
    ),
    "Cache-Control": "no-store",
}
_OF_A_SERVICE = {name: _ALWAYS[name] for name in ("X-Content-Type-Options", "Cache-Control")}
_YEAR_S = 31_536_000
_IS_OF_A_SERVICE = web.RequestKey("is_of_a_service", bool)


def as_service(request: web.Request) -> None:
    """Mark a request that a program takes for one to a service of the table: no page is among the answers."""
    request[_IS_OF_A_SERVICE] = True


async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Set what the handler has not set itself; aiohttp calls this before an answer's head is written."""
    response.headers["Server"] = "tahoe-gateway"  # aiohttp has put its own there, with every version
    for name, value in (_OF_A_SERVICE if request.get(_IS_OF_A_SERVICE) else _ALWAYS).items():
        response.headers.setdefault(name, value)
    if request.app[PARTS].is_https:
        response.headers.setdefault("Strict-Transport-Security", f"max-age={_YEAR_S}")
