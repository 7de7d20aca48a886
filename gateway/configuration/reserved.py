"""The gateway's own paths: routes to the portal, built in, so that no route table can lose or widen them.

Their access is decided in the portal, which knows sessions: ``public`` here, or ``optional`` where an API key or a
token may speak as well and the gateway says in the identity headers whose it is.
"""

from policies.routing.routes import PORTAL, Access, Route

_READ = ("GET", "HEAD", "OPTIONS")
_PAGES = (*_READ, "POST")
_API = (*_PAGES, "PUT", "PATCH", "DELETE")
_MAX_BODY = 1_048_576


def _route(name: str, path: str, methods: tuple[str, ...], access: Access = Access.PUBLIC) -> Route:
    return Route(
        name=f"{PORTAL}.{name}",
        path=path,
        methods=methods,
        access=access,
        upstream=PORTAL,
        dialect="problem",
        max_body=_MAX_BODY,
        first_byte_s=30.0,
    )


ROUTES = (
    _route("grant", "/auth/grant", ("POST",), Access.OPTIONAL),
    _route("auth", "/auth/{rest...}", _PAGES),
    _route("account", "/account", _PAGES),
    _route("account.slash", "/account/", _READ),  # people type it; the portal says where the page is
    _route("account.pages", "/account/{rest...}", _PAGES),
    _route("admin", "/admin", _PAGES),
    _route("admin.slash", "/admin/", _READ),
    _route("admin.pages", "/admin/{rest...}", _PAGES),
    _route("api", "/platform/v1/{rest...}", _API, Access.OPTIONAL),
    _route("api.docs", "/platform/docs", _READ),
    _route("well-known", "/.well-known/{rest...}", _READ),
)
"""Beside those of the table (:meth:`policies.routing.route_table.RouteTable.with_own`)."""
