"""Wound: the answer to a creation, secrets included, was given again to a token of the same person that may do less.

A-08, J-14: what is kept under an ``Idempotency-Key`` is for whoever could have had it done.
"""

from dataclasses import replace

from policies.identity.permissions import Permission
from policies.identity.tenants import Role
from tests.gateway.portal.api import Caller, Houses

ONCE = {"Idempotency-Key": "the-key-of-the-nightly-job"}
WISH = {"name": "nightly", "scopes": ["limits:write"]}


def _token(caller: Caller, *scopes: Permission) -> Caller:
    """Another one of the same person: tokens have no key's id."""
    headers = {name: value for name, value in caller.headers.items() if name != "X-API-Key-ID"}
    return replace(caller, headers=headers | {"X-Auth-Scopes": " ".join(scopes)})


async def test_a_token_that_may_less_is_not_given_what_a_stronger_one_made(houses: Houses) -> None:
    """Nor anything else under that key: it is refused as if nobody had asked before."""
    person = await houses.person()
    strong = _token(person, Permission.KEYS_WRITE, Permission.LIMITS_WRITE)
    weak = _token(person, Permission.KEYS_WRITE)
    made = await strong.ask("POST", "/keys", WISH, status=201, headers=ONCE)
    refused = await weak.ask("POST", "/keys", WISH, status=403, headers=ONCE)
    assert refused["code"] == "exceeds_own_permissions"
    assert await strong.ask("POST", "/keys", WISH, status=201, headers=ONCE) == made


async def test_a_person_who_has_lost_a_role_is_not_given_what_it_made_before(houses: Houses) -> None:
    owner = await houses.person()
    other = await houses.person(owner.tenant)
    token = _token(other, *Permission)
    await token.ask("POST", "/keys", WISH, status=201, headers=ONCE)
    await owner.ask("PATCH", f"/memberships/{other.user.id}", {"role": Role.ADMIN})
    assert (await token.ask("POST", "/keys", WISH, status=403, headers=ONCE))["code"] == "exceeds_own_permissions"


async def test_two_people_and_two_keys_share_no_answer(houses: Houses) -> None:
    """Each makes its own, under one and the same Idempotency-Key."""
    first = await houses.person()
    callers = (first, await houses.person(first.tenant), await houses.machine(first.tenant), await houses.person())
    made = [await caller.ask("POST", "/keys", WISH, status=201, headers=ONCE) for caller in callers]
    assert len({one["id"] for one in made}) == len({one["key"] for one in made}) == len(callers)
