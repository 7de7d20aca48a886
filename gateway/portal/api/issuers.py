"""Other issuers whose access tokens are taken: for operators. Those of the settings are shown, and changed there."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError

from gateway.configuration.issuers import (
    IssuerSettings,
    check_algorithms,
    check_keys_url,
    check_roles,
    check_scopes,
    check_tenant,
    check_tenants,
)
from gateway.identity.issuer_book import InSettings, IssuerBook, KnownIssuer, Unfit
from gateway.portal.api.operations import Ask, Nothing, Operations, Sent, Shown
from gateway.portal.api.paging import ByName, Page
from gateway.portal.api.shapes import Instant
from gateway.portal.web.bodies import faults
from gateway.portal.web.problem import Problem
from policies.http.verdict import Refusal
from policies.identity.permissions import Permission
from policies.identity.verification_keys import ALGORITHMS
from storage.ports import Invalidation
from storage.postgres.tokens.issuers import PostgresIssuers

operations = Operations("issuers")

_Text = Annotated[str, Field(min_length=1, max_length=2_048)]
_Claim = Annotated[str, Field(max_length=256)]
_Each = Annotated[str, Field(min_length=1, max_length=256)]
_Words = Annotated[tuple[_Each, ...], Field(min_length=1, max_length=16)]
_Pairs = Annotated[tuple[_Each, ...], Field(max_length=1_000)]
_Issuer = Annotated[str, Field(min_length=1, max_length=2_048, pattern=r"^[!-~]+$")]
_KeysUrl = Annotated[_Text, AfterValidator(check_keys_url)]
_Algorithm = Annotated[str, Field(json_schema_extra={"enum": sorted(ALGORITHMS)})]
_Algorithms = Annotated[
    tuple[_Algorithm, ...], AfterValidator(check_algorithms), Field(min_length=1, max_length=len(ALGORITHMS))
]
_Tenant = Annotated[
    str, AfterValidator(check_tenant), Field(max_length=63, description="A slug or an id; empty: a claim tells.")
]
_Tenants = Annotated[
    _Pairs, AfterValidator(check_tenants), Field(description="What that claim's values mean: value=slug.")
]
_Scopes = Annotated[_Pairs, AfterValidator(check_scopes), Field(description="theirs=ours; others give nothing.")]
_Roles = Annotated[_Pairs, AfterValidator(check_roles), Field(description="theirs=owner, admin, member or viewer")]


class IssuerShown(Shown):
    """An issuer, and what its tokens' claims mean here."""

    name: str
    source: Literal["settings", "api"] = Field(description="One of the settings is changed there.")
    enabled: bool = Field(description="Whether its tokens are taken.")
    created_at: Instant | None = Field(description="Null for one of the settings.")
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


class IssuerWish(IssuerSettings):
    """A new issuer, as the settings would name it (a table `[issuers.NAME]`)."""

    name: str = Field(
        max_length=31,
        pattern="^[a-z]([a-z0-9-]{0,29}[a-z0-9])?$",
        description="Stands before its subjects, wherever they are named.",
    )
    enabled: bool = True
    issuer: _Issuer = Field(description="What its tokens have as `iss`, to the letter.")
    jwks_url: _KeysUrl = Field(description="Where its keys are (a JWK Set).")
    audience: _Text = Field(description="What its tokens for this gateway have as `aud`, or among it.")
    algorithms: _Algorithms = ("EdDSA", "ES256", "RS256")
    types: _Words = ("at+jwt",)
    tenant: _Tenant = ""
    tenant_claim: _Claim = ""
    tenants: _Tenants = ()
    scope_claim: _Claim = "scope"
    scopes: _Scopes = ()
    roles_claim: _Claim = ""
    roles: _Roles = ()


class IssuerChange(Sent):
    """What of an issuer changes."""

    enabled: bool | None = None
    issuer: _Issuer | None = None
    jwks_url: _KeysUrl | None = None
    audience: _Text | None = None
    algorithms: _Algorithms | None = None
    types: _Words | None = None
    tenant: _Tenant | None = None
    tenant_claim: _Claim | None = None
    tenants: _Tenants | None = None
    scope_claim: _Claim | None = None
    scopes: _Scopes | None = None
    roles_claim: _Claim | None = None
    roles: _Roles | None = None


class IssuerList(ByName, Sent):
    """Which issuers. Those of the settings are the oldest, in their order."""

    issuer: str | None = Field(default=None, max_length=2_048, description="That of tokens with this `iss`.")
    source: Literal["settings", "api"] | None = None
    state: Literal["enabled", "disabled"] | None = None


@operations.get("/issuers", Permission.PLATFORM_READ, query=IssuerList, answer=Page[IssuerShown])
async def list_issuers(ask: Ask[IssuerList, Any]) -> Page[IssuerShown]:
    """The other issuers whose access tokens are taken, by name if nothing else is said."""
    query = ask.query
    found = {
        ("" if query.sort == "name" else f"{place:06}", each.name): shown
        for place, each in enumerate(await _book(ask).all())
        if query.issuer in (None, (shown := _shown(each)).issuer)
        and query.source in (None, shown.source)
        and query.state in (None, "enabled" if shown.enabled else "disabled")
    }
    places, following = ask.cursors.cut(list(found), query, lambda place: place)
    return Page(data=[found[place] for place in places], next_cursor=following)


@operations.get("/issuers/{name}", Permission.PLATFORM_READ, query=Nothing, answer=IssuerShown)
async def show_issuer(ask: Ask[Nothing, Any]) -> IssuerShown:
    """One issuer, by its name."""
    return _shown(await _book(ask).issuer(ask.path("name")))


@operations.post("/issuers", Permission.PLATFORM_WRITE, query=Nothing, body=IssuerWish, answer=IssuerShown)
async def create_issuer(ask: Ask[Nothing, IssuerWish]) -> IssuerShown:
    """Take another issuer's access tokens: on every worker within a second."""
    wish = ask.body
    one = IssuerSettings.model_validate(wish.model_dump(include=set(IssuerSettings.model_fields)))
    ask.who.may_give(one.gives)
    try:
        made = await _book(ask).create(wish.name, one, enabled=wish.enabled)
    except Unfit as error:
        raise _problem(error) from error
    await ask.announce(Invalidation())
    return _shown(made)


@operations.patch("/issuers/{name}", Permission.PLATFORM_WRITE, query=Nothing, body=IssuerChange, answer=IssuerShown)
async def change_issuer(ask: Ask[Nothing, IssuerChange]) -> IssuerShown:
    """Change an issuer, or what its claims mean: also for tokens that were seen and streams that are open."""
    edit = ask.body.model_dump(exclude_none=True)

    def edited(current: KnownIssuer) -> tuple[IssuerSettings, bool]:
        ask.check_version(_shown(current))
        fields = current.settings.model_dump() | edit
        enabled = fields.pop("enabled", current.enabled)
        try:
            one = IssuerSettings.model_validate(fields)
        except ValidationError as error:
            raise Problem(Refusal.INVALID_INPUT, fields=faults(error)) from error
        if edit != {"enabled": False}:  # whoever may change it may stop it
            ask.who.may_give(one.gives)
        return one, enabled

    try:
        changed = await _book(ask).change(ask.path("name"), edited)
    except Unfit as error:
        raise _problem(error) from error
    except InSettings as error:
        raise Problem(Refusal.IN_USE, str(error)) from error
    await ask.announce(Invalidation())
    return _shown(changed)


@operations.delete("/issuers/{name}", Permission.PLATFORM_WRITE, query=Nothing)
async def delete_issuer(ask: Ask[Nothing, Any]) -> None:
    """Take an issuer's tokens no more: on every worker within a second, and its guests' streams end."""
    try:
        await _book(ask).delete(ask.path("name"), lambda current: ask.check_version(_shown(current)))
    except InSettings as error:
        raise Problem(Refusal.IN_USE, str(error)) from error
    await ask.announce(Invalidation())


def _book(ask: Ask[Any, Any]) -> IssuerBook:
    return IssuerBook(ask.parts.settings, PostgresIssuers(ask.parts.pool, ask.trail))


def _problem(error: Unfit) -> Problem:
    return Problem(Refusal.INVALID_INPUT, fields={error.field: error.sentence})


def _shown(issuer: KnownIssuer) -> IssuerShown:
    return IssuerShown(
        name=issuer.name,
        source="settings" if issuer.in_settings else "api",
        enabled=issuer.enabled,
        created_at=issuer.created_at,
        **issuer.settings.model_dump(),
    )
