"""Plans: what holds for a tenant that has limits of its own, and which routes are open."""

import dataclasses
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.authorise import Permit, authorise
from policies.http.verdict import Deny, Refusal
from policies.identity.principals import Method, Principal, Standing
from policies.limits.allowances import Allowance, Scope, What
from policies.limits.plans import Plan, checked, in_force
from policies.routing.routes import PORTAL, Route

REQUESTS = Allowance.parse(What.REQUESTS, "600/m")
MONTHLY = Allowance.parse(What.REQUESTS, "100000/month")
AUDIO = Allowance.parse(What.AUDIO, "100h/month")


@pytest.mark.parametrize(
    ("own", "held"),
    [
        ([], [REQUESTS, MONTHLY, AUDIO]),
        ([Allowance.parse(What.REQUESTS, "5/s")], [AUDIO]),
        ([dataclasses.replace(REQUESTS, count=5, shadow=True)], [REQUESTS, MONTHLY, AUDIO]),
        ([dataclasses.replace(REQUESTS, count=5, route="listen")], [REQUESTS, MONTHLY, AUDIO]),
        ([dataclasses.replace(REQUESTS, count=5, scope=Scope.KEY)], [REQUESTS, MONTHLY, AUDIO]),
        ([dataclasses.replace(AUDIO, count=5), dataclasses.replace(REQUESTS, count=5)], []),
    ],
)
def test_a_limit_of_the_tenants_own_stands_in_place(own: list[Allowance], held: list[Allowance]) -> None:
    """Of its kind, and only if it binds the whole tenant: a shadow, a route's or a key's does not count."""
    assert in_force(own, [REQUESTS, MONTHLY, AUDIO]) == held


@given(st.permutations([REQUESTS, MONTHLY, AUDIO]))
def test_limits_have_one_order(limits: list[Allowance]) -> None:
    assert checked(limits) == (AUDIO, REQUESTS, MONTHLY)
    made = Plan(name="p", limits=checked(limits), created_at=datetime.now(UTC))
    assert made.texts == {"requests": ["600/m", "100000/month"], "audio": ["100h/month"]}


def test_two_windows_of_one_kind_are_refused() -> None:
    with pytest.raises(ValueError, match="one limit of a kind"):
        checked([REQUESTS, Allowance.parse(What.REQUESTS, "5/s")])


@pytest.mark.parametrize(
    ("plan", "name", "upstream", "is_open"),
    [
        (frozenset(), "listen", "default", True),
        (frozenset({"listen"}), "listen", "default", True),
        (frozenset({"listen"}), "other", "default", False),
        (frozenset({"listen"}), "portal.api", PORTAL, True),
    ],
)
def test_a_plan_opens_its_routes_and_leaves_the_gateways_own(
    plan: frozenset[str], name: str, upstream: str, *, is_open: bool
) -> None:
    principal = Principal(
        method=Method.API_KEY, standing=Standing.GOOD, tenant_id="ten_a", tenant_slug="a", plan_routes=plan
    )
    route = Route(name=name, path="/r", methods=("GET",), scope="", upstream=upstream)
    answer = authorise(principal, route, 0)
    if is_open:
        assert isinstance(answer, Permit)
    else:
        assert isinstance(answer, Deny)
        assert answer.refusal is Refusal.ROUTE_DENIED
