"""Operations: declared once, with what they need, take and give; carried out here in one way; described by ``openapi``.

The order is fixed: who asks, whether they may, in which tenant, whether the query and the body are what was declared
(nothing unknown is taken), whether it was done before, and only then the handler. What a repository says no with is
translated here: not found 404, exists already 409, a value it cannot store 422.

Two doors lead to an operation: :func:`handler`, for programs, and ``gateway.portal.admin``, for people. Both make an
:class:`Ask` and :func:`perform` it.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, TypeVar

import structlog
from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

from gateway.portal.api import etags
from gateway.portal.api.idempotency import Kept, Repeatable, fingerprint, idempotency_key
from gateway.portal.api.paging import Cursors
from gateway.portal.api.subject import Subject, subject
from gateway.portal.caller import request_id
from gateway.portal.entry.identity import trail
from gateway.portal.parts import PARTS, Parts
from gateway.portal.web.bodies import read_json, validated
from gateway.portal.web.problem import Handler, Problem
from policies.http.verdict import Refusal
from policies.identity.permissions import Permission
from storage.ports import AlreadyExists, Invalidation, NotFound, Unavailable
from storage.postgres.absences import no_tenant
from storage.postgres.audit import AuditTrail
from storage.postgres.idempotency import IdempotencyBook
from storage.postgres.keys.registry import PostgresKeyRegistry
from storage.postgres.tenants.directory import PostgresDirectory

_log = structlog.get_logger("gateway.portal")

PREFIX = "/platform/v1"

_Query = TypeVar("_Query", bound=BaseModel)
_Body = TypeVar("_Body", bound=BaseModel | None)


class Sent(BaseModel):
    """What clients send: nothing unknown is taken, so that a misspelt field is told and none is slipped in."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)


class Nothing(Sent):
    """No query, or no body."""


class InTenant(Sent):
    """The query of every operation in a tenant."""

    tenant: str | None = Field(
        default=None,
        max_length=63,
        description="For operators: the slug of the tenant that is meant.",
    )


class Shown(etags.Versioned):
    """What the API shows."""

    model_config = ConfigDict(frozen=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One operation as it is declared. ``permission`` None: any identified caller."""

    name: str
    tag: str
    method: str
    path: str
    summary: str
    permission: Permission | None
    query: type[BaseModel]
    body: type[BaseModel] | None
    answer: type[BaseModel] | None
    status: int
    run: Callable[["Ask[Any, Any]"], Awaitable[Any]]

    @property
    def is_in_tenant(self) -> bool:
        """Whether it acts in one tenant."""
        return issubclass(self.query, InTenant)


class Ask(Generic[_Query, _Body]):
    """One request to one operation: what was sent, who asks, and what they may work with.

    ``path`` holds the parts of the path, ``versions`` the ETags that the caller has seen (none: it says nothing of
    that), ``once`` the idempotency key. Raises Problem when the caller lacks the operation's permission.
    """

    def __init__(
        self,
        request: web.Request,
        operation: Operation,
        who: Subject,
        query: _Query,
        body: _Body,
        *,
        path: Mapping[str, str],
        versions: Sequence[str] = (),
        once: str | None = None,
    ) -> None:
        who.require(operation.permission)
        self.request = request
        self.operation = operation
        self.who = who
        self.query = query
        self.body = body
        self.once = once
        self.tenant_id = who.tenant_id
        """The tenant in which the operation acts."""
        self._path = path
        self._versions = versions

    @property
    def parts(self) -> Parts:
        """The portal's parts."""
        return self.request.app[PARTS]

    @cached_property
    def trail(self) -> AuditTrail:
        """Records what this caller does."""
        return trail(self.request)

    @cached_property
    def directory(self) -> PostgresDirectory:
        """Tenants and people, changed in this caller's name."""
        return PostgresDirectory(self.parts.pool, self.trail)

    @cached_property
    def keys(self) -> PostgresKeyRegistry:
        """API keys, changed in this caller's name."""
        return PostgresKeyRegistry(self.parts.pool, self.trail)

    def path(self, name: str) -> str:
        """A part of the path."""
        return self._path[name]

    @cached_property
    def cursors(self) -> Cursors:
        """The cursors of this list: in this tenant, below this path, with these filters, in this order."""
        return self.cursors_of(self.operation.name, self.query)

    def cursors_of(self, operation_name: str, query: BaseModel) -> Cursors:
        """The cursors of the list that another operation gives for ``query``."""
        asked = query.model_dump_json(exclude={"limit", "cursor", "tenant"})
        name = "\0".join((operation_name, self.tenant_id, *self._path.values(), asked))
        return Cursors(self.parts.secret_for("cursors"), name)

    async def announce(self, change: Invalidation) -> None:
        """Tell every gateway what to forget. If it cannot be told, caches expire by themselves within seconds."""
        try:
            await self.parts.bus.publish(change)
        except Unavailable as error:
            _log.warning("a change could not be announced", reason=str(error), request_id=request_id(self.request))

    def check_version(self, current: BaseModel) -> None:
        """Raises Problem when the caller has seen another version than ``current`` and said so."""
        etags.check(self._versions, current)


Run = Callable[[Ask[Any, Any]], Awaitable[Any]]


class Operations:
    """The operations of one resource. Paths are relative to ``/platform/v1``."""

    def __init__(self, tag: str) -> None:
        self.tag = tag
        self.all: list[Operation] = []

    def get(self, path: str, permission: Permission | None, **declared: Any) -> Callable[[Run], Run]:
        """Show something."""
        return self._declare("GET", path, permission, declared)

    def post(self, path: str, permission: Permission | None, **declared: Any) -> Callable[[Run], Run]:
        """Make something, or do something to it."""
        return self._declare("POST", path, permission, {"status": 201, **declared})

    def patch(self, path: str, permission: Permission | None, **declared: Any) -> Callable[[Run], Run]:
        """Change something."""
        return self._declare("PATCH", path, permission, declared)

    def put(self, path: str, permission: Permission | None, **declared: Any) -> Callable[[Run], Run]:
        """Set something."""
        return self._declare("PUT", path, permission, declared)

    def delete(self, path: str, permission: Permission | None, **declared: Any) -> Callable[[Run], Run]:
        """End something."""
        return self._declare("DELETE", path, permission, {"status": 204, **declared})

    def _declare(
        self, method: str, path: str, permission: Permission | None, declared: dict[str, Any]
    ) -> Callable[[Run], Run]:
        def add(run: Run) -> Run:
            summary = (run.__doc__ or "").strip().partition("\n")[0]
            defaults: dict[str, Any] = {
                "query": InTenant, "body": None, "answer": None, "status": 200,
            }  # fmt: skip
            self.all.append(
                Operation(
                    name=run.__name__,
                    tag=self.tag,
                    method=method,
                    path=PREFIX + path,
                    summary=summary,
                    permission=permission,
                    run=run,
                    **{**defaults, **declared},
                )
            )
            return run

        return add


_LISTS = {
    "tenant": "tenants", "plan": "plans", "user": "memberships", "issuer": "issuers",
    "service-account": "service-accounts",
}  # fmt: skip
"""Where a program finds what is there already (:attr:`storage.ports.StorageError.what`)."""


def handler(operation: Operation) -> Handler:
    """What aiohttp calls for an operation."""

    async def answer(request: web.Request) -> web.StreamResponse:
        who = await subject(request)
        who.require(operation.permission)
        query = _query(request, operation)
        body = None if operation.body is None else await read_json(request, operation.body)
        ask: Ask[Any, Any] = Ask(
            request,
            operation,
            who,
            query,
            body,
            path=request.match_info,
            versions=etags.wanted(request),
            once=idempotency_key(request) if operation.method == "POST" else None,
        )
        try:
            return _answer(ask, await perform(ask))
        except Problem as problem:
            found = problem.__cause__
            if not isinstance(found, AlreadyExists) or found.what not in _LISTS:
                raise
            raise Problem(problem.refusal, f"{problem.detail} See GET {PREFIX}/{_LISTS[found.what]}.") from problem

    return answer


async def perform(ask: Ask[Any, Any]) -> Any:
    """What the operation gives: what it shows, None, an answer of its own making; or the one that was kept.

    Raises Problem and Unavailable.
    """
    try:
        if ask.operation.is_in_tenant:
            ask.tenant_id = await _tenant(ask)
        if ask.operation.method == "GET":
            return await ask.operation.run(ask)
        async with ask.parts.changes.of(ask.tenant_id or ask.who.user_id):
            return await (ask.operation.run(ask) if ask.once is None else _once(ask, ask.once))
    except NotFound as error:
        raise Problem(Refusal.NOT_FOUND, str(error)) from error
    except AlreadyExists as error:
        raise Problem(Refusal.ALREADY_EXISTS, str(error)) from error
    except ValueError as error:
        raise Problem(Refusal.INVALID_INPUT, f"{error}.") from error


def _query(request: web.Request, operation: Operation) -> BaseModel:
    sent: dict[str, str] = {}
    for name, value in request.query.items():
        if name in sent:
            raise Problem(Refusal.INVALID_INPUT, fields={name: "This is there more than once."})
        sent[name] = value
    return validated(operation.query, sent)


async def _tenant(ask: Ask[InTenant, Any]) -> str:
    """The caller's own tenant; an operator's choice. Another tenant is nowhere to be seen for everybody else."""
    slug = ask.query.tenant
    if slug is None:
        if not ask.who.tenant_id:
            raise Problem(Refusal.INVALID_INPUT, fields={"tenant": "Say which tenant is meant."})
        return ask.who.tenant_id
    found = await ask.directory.tenant(slug)
    if found.id != ask.who.tenant_id and not ask.who.is_operator:
        _log.warning(
            "another tenant was asked for",
            tenant_id=ask.who.tenant_id, user_id=ask.who.user_id, key_id=ask.who.key_id, wanted=found.id,
            operation=ask.operation.name, request_id=request_id(ask.request),
        )  # fmt: skip
        raise no_tenant(slug)
    return found.id


async def _once(ask: Ask[Any, Any], key: str) -> Any:
    actor, may = ask.trail.actor, " ".join(sorted(ask.who.permissions))
    repeatable = Repeatable(
        IdempotencyBook(ask.parts.pool),
        ask.parts.secret_for("idempotency"),
        scope=f"{ask.tenant_id}\0{actor.kind}\0{actor.id}\0{may}\0{ask.operation.name}",
        key=key,
        fingerprint=await fingerprint(ask.request),
    )
    kept = await repeatable.begin()
    if kept is not None:
        return kept
    try:
        made = await ask.operation.run(ask)
    except BaseException:
        await repeatable.forget()
        raise
    await repeatable.keep(Kept(status=ask.operation.status, body=_body(made)))
    return made


def _answer(ask: Ask[Any, Any], done: Any) -> web.StreamResponse:
    if isinstance(done, web.StreamResponse):
        return done
    if isinstance(done, Kept):
        return _json(done.status, done.body, {"Idempotent-Replayed": "true"})
    if done is None:
        return web.Response(status=ask.operation.status)
    headers = {"ETag": etags.etag(done)}
    if ask.operation.method == "GET" and etags.is_known(ask.request, done):
        return web.Response(status=304, headers=headers)
    return _json(ask.operation.status, _body(done), headers)


def _body(shown: BaseModel | None) -> bytes:
    return b"" if shown is None else shown.model_dump_json().encode()


def _json(status: int, body: bytes, headers: dict[str, str]) -> web.Response:
    return web.Response(status=status, body=body, content_type="application/json", headers=headers)
