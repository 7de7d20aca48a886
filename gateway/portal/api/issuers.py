"""Other issuers whose access tokens are taken, as the settings name them; for operators, to see."""

from typing import Any

from pydantic import Field

from gateway.configuration.issuers import IssuerSettings
from gateway.portal.api.operations import Ask, Nothing, Operations, Sent, Shown
from gateway.portal.api.paging import ByName, Page
from policies.permissions import Permission
from storage.ports import NotFound

operations = Operations("issuers")


class IssuerShown(Shown):
    """An issuer, and what its tokens' claims mean here. It is changed in the settings."""

    name: str
    issuer: str
    jwks_url: str
    audience: str
    algorithms: list[str]
    types: list[str]
    tenant: str = Field(description="The tenant of all of its people; empty: a claim tells.")
    tenant_claim: str
    tenants: list[str] = Field(description="What that claim's values mean: value=slug.")
    scope_claim: str
    scopes: list[str] = Field(description="theirs=ours")
    roles_claim: str
    roles: list[str] = Field(description="theirs=ours")


class IssuerList(ByName, Sent):
    """Which issuers. Their age is their place in the settings."""

    issuer: str | None = Field(default=None, max_length=2_048, description="That of tokens with this `iss`.")


@operations.get("/issuers", Permission.PLATFORM_READ, query=IssuerList, answer=Page[IssuerShown])
async def list_issuers(ask: Ask[IssuerList, Any]) -> Page[IssuerShown]:
    """The other issuers whose access tokens are taken, by name if nothing else is said."""
    query, found = ask.query, ask.parts.settings.issuers
    places = {name: "" if query.sort == "name" else f"{place:04}" for place, name in enumerate(found)}
    kept = [name for name, one in found.items() if query.issuer in (None, one.issuer)]
    names, following = ask.cursors.cut(kept, query, lambda name: (places[name], name))
    return Page(data=[_shown(name, found[name]) for name in names], next_cursor=following)


@operations.get("/issuers/{name}", Permission.PLATFORM_READ, query=Nothing, answer=IssuerShown)
async def show_issuer(ask: Ask[Nothing, Any]) -> IssuerShown:
    """One issuer, by its name in the settings."""
    name = ask.path("name")
    found = ask.parts.settings.issuers.get(name)
    if found is None:
        raise NotFound(f"The settings name no issuer {name!r}.")
    return _shown(name, found)


def _shown(name: str, issuer: IssuerSettings) -> IssuerShown:
    return IssuerShown(name=name, **issuer.model_dump())
