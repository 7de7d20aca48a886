"""A tenant's people, and the roles they are in: its own beside those that every tenant has."""

from typing import Annotated, Any, Literal

from pydantic import Field

from gateway.portal.api.operations import Ask, InTenant, Operations, Sent, Shown
from gateway.portal.api.paging import ByEmail, ByName, Page
from gateway.portal.api.second_factor import sign_out_who_lacks_it
from gateway.portal.api.shapes import Instant, Slug, stamp
from gateway.portal.web.problem import Problem
from policies.http.verdict import Refusal
from policies.identity.permissions import ASSIGNABLE, ROLES, Permission
from policies.identity.tenants import Role, UserStatus
from storage.ports import Invalidation
from storage.postgres.absences import no_person
from storage.postgres.tenants.members import LastOwner, Member, PostgresMembers, permissions_in
from storage.postgres.tenants.roles import CustomRole, InUse, PostgresRoles

operations = Operations("members")

_ONE_OF_THEM: dict[str, Any] = {"items": {"type": "string", "enum": list(ASSIGNABLE)}, "uniqueItems": True}
Permissions = Annotated[list[str], Field(max_length=64, json_schema_extra=_ONE_OF_THEM)]


class MemberShown(Shown):
    """A person in the tenant. With a custom role, its permissions stand in place of the role's."""

    user_id: str
    email: str
    name: str
    status: UserStatus
    role: Role
    custom_role: str | None
    permissions: list[str]
    joined_at: Instant


class MemberList(ByEmail, InTenant):
    """Which members."""

    email: str = Field(default="", max_length=254, description="A part of the address.")
    role: Role | None = None


class RoleChange(Sent):
    """The role that a member gets."""

    role: Role
    custom_role: Slug | None = None


class MemberWish(RoleChange):
    """Who becomes a member, and in which role."""

    user_id: str = Field(max_length=64)


class RoleShown(Shown):
    """A role: what it allows."""

    name: str
    description: str
    permissions: list[str]
    built_in: bool


class RoleWish(Sent):
    """A new role of the tenant's own."""

    name: Slug
    description: str = Field(default="", max_length=200)
    permissions: Permissions


class RoleEdit(Sent):
    """What of a role changes."""

    description: str | None = Field(default=None, max_length=200)
    permissions: Permissions | None = None


@operations.get("/memberships", Permission.USERS_READ, query=MemberList, answer=Page[MemberShown])
async def list_members(ask: Ask[MemberList, Any]) -> Page[MemberShown]:
    """The tenant's members, by e-mail if nothing else is said."""
    query = ask.query
    members = _members(ask)
    found = await members.page(
        ask.tenant_id,
        query.limit + 1,
        sort=query.sort,
        beyond=ask.cursors.beyond(query.cursor),
        email=query.email.lower(),
        role=query.role,
    )
    custom = {role.name: role for role in await _roles(ask).all(ask.tenant_id)}
    shown = [_shown(each, custom.get(each.custom_role or "")) for each in found]
    places = [[each.email if query.sort == "email" else each.place] for each in found]
    return ask.cursors.page(shown, query.limit, places)


@operations.get("/memberships/{user_id}", Permission.USERS_READ, answer=MemberShown)
async def show_member(ask: Ask[InTenant, Any]) -> MemberShown:
    """One member."""
    return await _with_role(ask, await _members(ask).member(ask.tenant_id, ask.path("user_id")))


@operations.post("/memberships", Permission.USERS_WRITE, body=MemberWish, answer=MemberShown)
async def add_member(ask: Ask[InTenant, MemberWish]) -> MemberShown:
    """Make somebody a member who has an account, in a role that holds no more than one's own permissions.

    Operators add anybody; others whom they look after in another tenant already, and invite everybody else.
    """
    wish, members = ask.body, _members(ask)
    custom = await _roles(ask).one(ask.tenant_id, wish.custom_role) if wish.custom_role else None
    ask.who.may_give(custom.permissions if custom else ROLES[wish.role])
    if not (ask.who.is_operator or await _looks_after(ask, wish.user_id)):
        raise no_person(wish.user_id)  # or none that the caller may know of
    made = await members.add(ask.tenant_id, wish.user_id, wish.role, wish.custom_role)
    await ask.announce(Invalidation(user_id=made.user_id))
    return _shown(made, custom)


async def _looks_after(ask: Ask[Any, Any], user_id: str) -> bool:
    """Whether the caller manages people in a tenant that this person is a member of."""
    who = ask.who.user_id
    for tenant_id in await _members(ask).shared_tenants(who, user_id) if who else ():
        if Permission.USERS_WRITE in await permissions_in(ask.parts.pool, tenant_id, who):
            return True
    return False


@operations.patch("/memberships/{user_id}", Permission.USERS_WRITE, body=RoleChange, answer=MemberShown)
async def change_member(ask: Ask[InTenant, RoleChange]) -> MemberShown:
    """Give a member another role: one that has no more than one's own permissions, as the present one must."""
    wish, members = ask.body, _members(ask)
    current = await _with_role(ask, await members.member(ask.tenant_id, ask.path("user_id")))
    ask.check_version(current)
    custom = await _roles(ask).one(ask.tenant_id, wish.custom_role) if wish.custom_role else None
    ask.who.may_give(current.permissions)
    ask.who.may_give(custom.permissions if custom else ROLES[wish.role])

    def unchanged(member: Member) -> None:
        if (member.role, member.custom_role) != (current.role, current.custom_role):
            raise Problem(Refusal.STALE_VERSION)

    try:
        changed = await members.set_role(ask.tenant_id, current.user_id, wish.role, wish.custom_role, unchanged)
    except LastOwner as error:
        raise Problem(Refusal.LAST_OWNER) from error
    await ask.announce(Invalidation(tenant_id=ask.tenant_id))
    await sign_out_who_lacks_it(ask, changed.user_id)  # the new role may ask for more than the old one
    return _shown(changed, custom)


@operations.delete("/memberships/{user_id}", Permission.USERS_WRITE)
async def remove_member(ask: Ask[InTenant, Any]) -> None:
    """Take a person out of the tenant: its keys here are revoked, its sessions and log-ins here are over.

    Whoever does it to another must hold what that member holds.
    """
    members, user_id = _members(ask), ask.path("user_id")
    current = await _with_role(ask, await members.member(ask.tenant_id, user_id))
    ask.check_version(current)
    if user_id != ask.who.user_id:
        ask.who.may_govern(current.permissions)

    def unchanged(member: Member) -> None:
        if (member.role, member.custom_role) != (current.role, current.custom_role):
            raise Problem(Refusal.STALE_VERSION)

    try:
        await members.remove(ask.tenant_id, user_id, unchanged)
    except LastOwner as error:
        raise Problem(Refusal.LAST_OWNER) from error
    await ask.announce(Invalidation(user_id=user_id))


class RoleList(ByName, InTenant):
    """Which roles."""

    kind: Literal["built-in", "own"] | None = Field(default=None, description="Those of all tenants, or its own.")


@operations.get("/roles", Permission.ROLES_READ, query=RoleList, answer=Page[RoleShown])
async def list_roles(ask: Ask[RoleList, Any]) -> Page[RoleShown]:
    """Every role that members can be in: those of all tenants, which are the oldest, then the tenant's own."""
    query = ask.query
    placed: dict[tuple[str, ...], RoleShown] = {
        ("0", f"{place:02}"): role for place, role in enumerate(_BUILT_IN) if query.kind != "own"
    }
    for role in await _roles(ask).all(ask.tenant_id) if query.kind != "built-in" else ():
        age = "" if query.sort == "name" else stamp(role.created_at)
        placed["1", age, role.name] = _own(role)
    places, following = ask.cursors.cut(list(placed), query, lambda place: place)
    return Page(data=[placed[place] for place in places], next_cursor=following)


@operations.post("/roles", Permission.ROLES_WRITE, body=RoleWish, answer=RoleShown)
async def create_role(ask: Ask[InTenant, RoleWish]) -> RoleShown:
    """Make a role of the tenant's own."""
    wish = ask.body
    ask.who.may_give(_known(wish.permissions))
    return _own(await _roles(ask).create(ask.tenant_id, wish.name, wish.description, wish.permissions))


@operations.get("/roles/{name}", Permission.ROLES_READ, answer=RoleShown)
async def show_role(ask: Ask[InTenant, Any]) -> RoleShown:
    """One role."""
    name = ask.path("name")
    built_in = next((role for role in _BUILT_IN if role.name == name), None)
    return built_in or _own(await _roles(ask).one(ask.tenant_id, name))


@operations.patch("/roles/{name}", Permission.ROLES_WRITE, body=RoleEdit, answer=RoleShown)
async def change_role(ask: Ask[InTenant, RoleEdit]) -> RoleShown:
    """Change a role of the tenant's own; its members have the new permissions within a second."""
    edit = ask.body

    def check(current: CustomRole) -> None:
        ask.check_version(_own(current))
        ask.who.may_give(current.permissions)

    if edit.permissions is not None:
        ask.who.may_give(_known(edit.permissions))
    changed = await _roles(ask).change(ask.tenant_id, ask.path("name"), edit.description, edit.permissions, check)
    await ask.announce(Invalidation(tenant_id=ask.tenant_id))
    return _own(changed)


@operations.delete("/roles/{name}", Permission.ROLES_WRITE)
async def delete_role(ask: Ask[InTenant, Any]) -> None:
    """End a role of the tenant's own that nobody is in."""
    try:
        await _roles(ask).delete(ask.tenant_id, ask.path("name"), lambda current: ask.check_version(_own(current)))
    except InUse as error:
        raise Problem(Refusal.IN_USE, str(error)) from error


def _members(ask: Ask[Any, Any]) -> PostgresMembers:
    return PostgresMembers(ask.parts.pool, ask.trail)


def _roles(ask: Ask[Any, Any]) -> PostgresRoles:
    return PostgresRoles(ask.parts.pool, ask.trail)


async def _with_role(ask: Ask[Any, Any], member: Member) -> MemberShown:
    custom = await _roles(ask).one(ask.tenant_id, member.custom_role) if member.custom_role else None
    return _shown(member, custom)


def _known(permissions: list[str]) -> list[str]:
    strangers = sorted(set(permissions) - set(ASSIGNABLE))
    if strangers:
        known = ", ".join(ASSIGNABLE)
        raise Problem(
            Refusal.INVALID_INPUT,
            fields={"permissions": f"There is no permission {strangers[0]!r}; there are {known}."},
        )
    return permissions


def _shown(member: Member, custom: CustomRole | None) -> MemberShown:
    return MemberShown(
        user_id=member.user_id,
        email=member.email,
        name=member.name,
        status=member.status,
        role=member.role,
        custom_role=member.custom_role,
        permissions=sorted(custom.permissions if custom else ROLES[member.role]),
        joined_at=member.joined_at,
    )


def _own(role: CustomRole) -> RoleShown:
    return RoleShown(name=role.name, description=role.description, permissions=list(role.permissions), built_in=False)


_BUILT_IN = [
    RoleShown(name=role, description="", permissions=sorted(permissions), built_in=True)
    for role, permissions in ROLES.items()
]
