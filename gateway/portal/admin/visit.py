"""Who is on the administrators' pages: what they may, what they ask of an operation, the frame of their pages."""

import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from pydantic import BaseModel

from gateway.portal.admin.sections import open_to
from gateway.portal.api.etags import etag
from gateway.portal.api.idempotency import Kept
from gateway.portal.api.operations import Ask, Run, perform
from gateway.portal.api.service import OPERATIONS
from gateway.portal.api.subject import Subject, of_session
from gateway.portal.entry import browser
from gateway.portal.own.account import fields_in, own
from gateway.portal.parts import PARTS
from gateway.portal.web.bodies import Known, validated
from gateway.portal.web.pages import render
from gateway.portal.web.problem import Problem
from policies.http.verdict import Refusal
from policies.identity.permissions import Permission
from policies.people import Place, Session
from storage.postgres.labels import called
from storage.postgres.people.accounts import Account

_DECLARED = {operation.run: operation for operation in OPERATIONS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """One request of somebody who is signed in, in the tenant that the session is in."""

    request: web.Request
    session: Session
    account: Account
    who: Subject

    def may(self, permission: Permission) -> bool:
        """Whether the person holds it in this tenant."""
        return permission in self.who.permissions

    @property
    def place(self) -> Place | None:
        """The tenant; None for an operator who is no member of it any more."""
        return next((place for place in self.account.places if place.tenant_id == self.session.tenant_id), None)

    async def ask(
        self,
        run: Run,
        query: Mapping[str, object] | None = None,
        body: Mapping[str, object] | None = None,
        *,
        path: Mapping[str, str] | None = None,
        version: str = "",
        once: str = "",
    ) -> Any:
        """What an operation of the API gives this person: its answer's model, or None.

        ``version`` is that of what the person has seen (:func:`version_of`), ``once`` the idempotency key of a form.
        Raises Problem and Unavailable, as the operation does.
        """
        operation = _DECLARED[run]
        self.who.require(operation.permission)
        known = Known.of(self.request)
        ask: Ask[Any, Any] = Ask(
            self.request,
            operation,
            self.who,
            validated(operation.query, query or {}),
            validated(operation.body, body or {}, known) if operation.body is not None else None,
            path=path or {},
            versions=[f'"{version}"'] if version else (),
            once=once or None,
        )
        done = await perform(ask)
        if isinstance(done, Kept):
            assert operation.answer is not None
            return operation.answer.model_validate_json(done.body)
        return done

    async def fields(self) -> dict[str, str]:
        """What the form says that was sent. Raises Problem for one of a page that was opened in another tenant."""
        return await fields_in(self.request, self.session)

    async def names(self, kind: str, ids: Iterable[str]) -> Mapping[str, str]:
        """What people call the keys (``key``) or members (``user``) with these ids, as far as this one may know."""
        needs = Permission.KEYS_READ if kind == "key" else Permission.USERS_READ
        parts = self.request.app[PARTS]
        return await called(parts.pool, self.session.tenant_id, kind, ids) if self.may(needs) else {}

    def page(
        self, template: str, *, tab: str, title: str, problem: Problem | None = None, **more: object
    ) -> web.Response:
        """A page in the administrators' frame."""
        return render(
            self.request, template, title=title, tab=tab, problem=problem.in_form() if problem else None,
            person=self.account.person,
            tenant_id=self.session.tenant_id, place=self.place,
            places=[place for place in self.account.places if place.active], sections=open_to(self.who.permissions),
            may=self.may, is_later=bool(self.request.query.get("cursor")),
            **{"done": self.request.query.get("done", "")} | more,
        )  # fmt: skip


async def enter(request: web.Request, needs: Permission, *, fresh: bool = False) -> Visit:
    """Whoever is signed in and may; who is not goes to the log-in first.

    ``fresh``: the password was given just now, or is asked for first. Raises Problem.
    """
    visit = await arrive(request, fresh=fresh)
    visit.who.require(needs)
    return visit


async def arrive(request: web.Request, *, fresh: bool = False) -> Visit:
    """Whoever is signed in and sees any of these pages. Raises Problem."""
    session = await (browser.required_fresh(request) if fresh else browser.required(request))
    visit = Visit(
        request=request,
        session=session,
        account=await own(request, session),
        who=await of_session(request, session),
    )
    if not open_to(visit.who.permissions):
        raise Problem(Refusal.INSUFFICIENT_PERMISSION)
    return visit


def version_of(shown: BaseModel) -> str:
    """Which version of a thing a page shows: the API's ETag, for a field of its forms."""
    return etag(shown).strip('"')


def once_of(fields: Mapping[str, str], problem: Problem | None) -> str:
    """The idempotency key of a form that is shown; the same again while what was sent with it is still being done.

    So whoever pressed twice, and is told that, sees what the first time made when pressing once more.
    """
    is_running = problem is not None and problem.refusal is Refusal.IDEMPOTENT_REQUEST_RUNNING
    return (fields.get("once", "") if is_running else "") or secrets.token_urlsafe(16)


def filled(request: web.Request, *names: str) -> dict[str, str]:
    """The fields of the address that are filled in, of those named. Raises Problem for one that is there twice."""
    found = {}
    for name in names:
        values = request.query.getall(name, [])
        if len(values) > 1:
            raise Problem(Refusal.INVALID_INPUT, fields={name: "This is there more than once."})
        if values and values[0].strip():
            found[name] = values[0].strip()
    return found
