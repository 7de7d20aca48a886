"""What is said where a thing is not there: one sentence each, whoever looked for it.

So what another tenant has sounds like what nobody has.
"""

from storage.ports import NotFound


def no_tenant(tenant: str) -> NotFound:
    """By slug or id."""
    return NotFound(f"There is no tenant {tenant!r}.", what="tenant")


def no_person(user_id: str) -> NotFound:
    """Nobody whom the platform knows."""
    return NotFound(f"There is no person {user_id!r}.")


def no_member(user_id: str) -> NotFound:
    """A person perhaps, but none of this tenant's."""
    return NotFound(f"This tenant has no member {user_id!r}.", what="user")


def no_role(name: str | None) -> NotFound:
    """None of this tenant's own."""
    return NotFound(f"This tenant has no role {name!r}.")


def no_account(account_id: str) -> NotFound:
    """A service account of any tenant's."""
    return NotFound(f"There is no service account {account_id!r}.", what="service-account")


def no_enabled_account(account_id: str | None) -> NotFound:
    """Another tenant's, perhaps, or one that is disabled."""
    said = f"This tenant has no service account {account_id!r} that is still enabled."
    return NotFound(said, what="service-account")
