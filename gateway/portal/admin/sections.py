"""Which pages administrators have, in the order of their navigation, and the permission that each needs."""

from collections.abc import Set as AbstractSet
from typing import NamedTuple

from policies.identity.permissions import Permission


class Section(NamedTuple):
    """One entry of the navigation."""

    key: str
    path: str
    title: str
    needs: Permission


SECTIONS = (
    Section("overview", "/admin", "Overview", Permission.USAGE_READ),
    Section("keys", "/admin/keys", "API keys", Permission.KEYS_READ),
    Section("members", "/admin/members", "Members", Permission.USERS_READ),
    Section("usage", "/admin/usage", "Usage", Permission.USAGE_READ),
    Section("limits", "/admin/limits", "Limits", Permission.LIMITS_READ),
    Section("audit", "/admin/audit", "Audit log", Permission.AUDIT_READ),
)


def open_to(held: AbstractSet[Permission]) -> list[Section]:
    """Those that somebody with these permissions may see."""
    return [section for section in SECTIONS if section.needs in held]
