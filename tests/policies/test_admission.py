"""The last word: admitted with every level, or refused with the limit's name and its rate."""

from policies.admission import Admit, conclude
from policies.authorise import Permit
from policies.http.verdict import Deny, Refusal
from policies.identity.principals import Method, Principal, Standing
from policies.limits.rates import FREE, Charge, Level, Rate, Taken
from policies.routing.routes import Route

PRINCIPAL = Principal(method=Method.API_KEY, standing=Standing.GOOD, tenant_id="ten_a", tenant_slug="a")
CHARGE = Charge("tenant-requests", "rate:{ten_a}", Rate(600, 60_000))
PERMIT = Permit(PRINCIPAL, Route(name="r", path="/r", methods=("GET",)), (CHARGE,), b"", b"")


def test_what_was_taken_is_admitted() -> None:
    for taken in (FREE, Taken.of((Level(CHARGE, 0, 60_000),))):
        assert conclude(PERMIT, taken) == Admit(PERMIT, taken)


def test_what_was_refused_is_denied_and_says_which_limit_it_was() -> None:
    taken = Taken.of((Level(CHARGE, 0, 60_000),), CHARGE, 100)
    answer = conclude(PERMIT, taken)
    assert isinstance(answer, Deny)
    assert (answer.refusal, answer.taken, answer.principal) == (Refusal.RATE_LIMIT_EXCEEDED, taken, PRINCIPAL)
    assert answer.message.endswith("The limit 'tenant-requests' is 600/m.")
