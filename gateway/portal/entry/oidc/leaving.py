"""The way to a provider from a form: by a page that goes on by itself.

The policy of our pages lets a form lead to our own addresses only.
"""

from aiohttp import web

from gateway.portal.entry.oidc.provider import Provider
from gateway.portal.web.pages import render


def leave(request: web.Request, provider: Provider, away: web.Response) -> web.Response:
    """The page in place of the redirect ``away``."""
    url = away.headers["Location"]
    response = render(
        request, "message.html", title=f"On to {provider.label}", message="Your browser goes on by itself.", link=url,
        link_text="Go on",
    )  # fmt: skip
    response.headers["Refresh"] = f"0; url={url}"
    response.cookies.update(away.cookies)
    return response
