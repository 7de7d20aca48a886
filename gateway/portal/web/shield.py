"""Security headers: what a page may load, who may frame it, what is kept. On every answer of the portal."""

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
_YEAR_S = 31_536_000


async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Set what the handler has not set itself; aiohttp calls this before an answer's head is written."""
    response.headers["Server"] = "tahoe-gateway"  # aiohttp has put its own there, with every version
    for name, value in _ALWAYS.items():
        response.headers.setdefault(name, value)
    if request.app[PARTS].is_https:
        response.headers.setdefault("Strict-Transport-Security", f"max-age={_YEAR_S}")
