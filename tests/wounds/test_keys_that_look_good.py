"""Wound: a key whose owner is out was shown as active, so that who looked for keys to end did not see what is in force.

A-07, T-09: the API says what the gateway does with a key now, be it for those on whom it depends.
"""

from datetime import UTC, datetime, timedelta

from policies.identity.principals import Standing
from policies.identity.tenants import Role, UserStatus
from tests.gateway.portal.api import Caller, Houses


async def _status(caller: Caller, key_id: str) -> str:
    shown = await caller.ask("GET", f"/keys/{key_id}")
    listed = {key["id"]: key["status"] for key in (await caller.ask("GET", "/keys"))["data"]}
    assert listed[key_id] == shown["status"]
    return str(shown["status"])


async def test_a_key_of_a_disabled_account_is_over_and_cannot_be_enabled(houses: Houses) -> None:
    """Its account does not come back, so neither does the key: whoever enables it sees that it stays over."""
    owner = await houses.person()
    account = (await owner.ask("POST", "/service-accounts", {"name": "ci"}, status=201))["id"]
    made = await owner.ask("POST", "/keys", {"name": "k", "service_account_id": account}, status=201)
    assert (made["status"], await _status(owner, made["id"])) == ("active", "active")
    await owner.ask("DELETE", f"/service-accounts/{account}", status=204)
    assert await _status(owner, made["id"]) == Standing.REVOKED
    path = f"/keys/{made['id']}"
    await owner.ask("PATCH", path, {"enabled": False})
    assert (await owner.ask("PATCH", path, {"enabled": True}))["status"] == Standing.REVOKED


async def test_a_key_of_a_disabled_person_says_so_until_that_one_is_back(houses: Houses) -> None:
    owner = await houses.person()
    member = await houses.person(owner.tenant, Role.MEMBER)
    wish = {"name": "k", "user_id": member.user.id}
    made = await owner.ask("POST", "/keys", wish, status=201)
    await houses.directory.set_user_status(owner.tenant.id, member.user.email, UserStatus.DISABLED)
    assert await _status(owner, made["id"]) == Standing.USER_DISABLED
    assert (await owner.ask("POST", "/keys", wish, status=201))["status"] == Standing.USER_DISABLED
    assert (await owner.ask("PATCH", f"/keys/{made['id']}", {"enabled": False}))["status"] == Standing.DISABLED
    await houses.directory.set_user_status(owner.tenant.id, member.user.email, UserStatus.ACTIVE)
    assert (await owner.ask("PATCH", f"/keys/{made['id']}", {"enabled": True}))["status"] == "active"


async def test_what_rests_and_has_expired_is_told_as_the_gateway_refuses_it(houses: Houses) -> None:
    owner = await houses.person()
    made = await owner.ask("POST", "/keys", {"name": "k"}, status=201)
    past = (datetime.now(UTC) - timedelta(days=1)).isoformat()
    await owner.ask("PATCH", f"/keys/{made['id']}", {"expires_at": past})
    assert await _status(owner, made["id"]) == "expired"
    await owner.ask("PATCH", f"/keys/{made['id']}", {"enabled": False})
    assert await _status(owner, made["id"]) == Standing.DISABLED
