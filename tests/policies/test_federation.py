"""What another provider's word is worth: a table of who comes, and what follows."""

from datetime import UTC, datetime

import pytest

from policies.federation import Asserted, Outcome, Rules, check_id_token, outcome, read_asserted
from policies.http.verdict import Refusal
from policies.identity.foreign import Meaning
from policies.identity.tenants import Role, UserStatus
from policies.identity.tokens import Fault
from policies.people import Person, Place, Proven, Step


def rules(*, makes: bool = False, links: bool = False, domains: str = "", tenant: str = "acme") -> Rules:
    meaning = Meaning(name="corp", tenant=tenant, tenants={}, scopes={}, roles_claim="groups", roles={"b": Role.ADMIN})
    return Rules(
        meaning=meaning, domains=frozenset(domains.split()), default_role=Role.VIEWER, makes_people=makes,
        links_by_email=links,
    )  # fmt: skip


def asserted(email: str = "a@x.org", tenant: str = "acme") -> Asserted:
    return Asserted(issuer="i", subject="s", email=email, name="", tenant=tenant, role=Role.MEMBER, proved_s=None)


@pytest.mark.parametrize(
    ("who", "by", "linked", "has_account", "follows"),
    [
        (asserted(), rules(), True, True, Outcome.SIGN_IN),
        (asserted(""), rules(), True, True, Outcome.SIGN_IN),
        (asserted(""), rules(domains="x.org"), True, True, Refusal.PROVIDER_EMAIL_UNVERIFIED),
        (asserted("a@y.org"), rules(domains="x.org"), True, True, Refusal.PROVIDER_NOT_ADMITTED),
        (asserted("a@sub.x.org"), rules(domains="x.org", makes=True), False, False, Refusal.PROVIDER_NOT_ADMITTED),
        (asserted(), rules(), False, True, Refusal.PROVIDER_NOT_LINKED),
        (asserted(), rules(makes=True), False, True, Refusal.PROVIDER_NOT_LINKED),
        (asserted(), rules(links=True), False, True, Outcome.ASK),
        (asserted(""), rules(links=True, makes=True), False, False, Refusal.PROVIDER_EMAIL_UNVERIFIED),
        (asserted(), rules(links=True), False, False, Refusal.PROVIDER_NOT_ADMITTED),
        (asserted(), rules(makes=True), False, False, Outcome.MAKE),
        (asserted(tenant=""), rules(makes=True), False, False, Refusal.PROVIDER_NOT_ADMITTED),
    ],
)
def test_what_follows(who: Asserted, by: Rules, linked: bool, has_account: bool, follows: Outcome | Refusal) -> None:
    assert outcome(who, by, linked=linked, has_account=has_account) is follows


def test_what_claims_say() -> None:
    """The strongest role counts, and an address only where it is vouched for in so many words."""
    claims = {"iss": "i", "sub": "s", "email": "Ada@X.org", "email_verified": True, "name": 7, "groups": ["b", "z"]}
    assert read_asserted({**claims, "auth_time": 9}, rules()) == Asserted(
        issuer="i", subject="s", email="ada@x.org", name="", tenant="acme", role=Role.ADMIN, proved_s=9
    )
    for when in (True, -1, 1.5, "9", 10**12, None):
        assert read_asserted({**claims, "auth_time": when}, rules()).proved_s is None
    for email in ("no address", "two@at@x.org", 7, None):
        assert not read_asserted({**claims, "email": email}, rules()).email
    assert not read_asserted({**claims, "email_verified": "true"}, rules()).email


def test_an_identity_token_is_for_one_log_in() -> None:
    good = {"aud": "c", "sub": "s", "nonce": "n", "auth_time": 1_000}
    assert check_id_token(good, client_id="c", nonce="n") is None
    assert check_id_token({**good, "aud": ["c"], "azp": "c"}, client_id="c", nonce="n", signed_in_since_s=1_020) is None
    for wrong, fault in (
        ({"aud": ["c", "d"]}, Fault.WRONG_AUDIENCE),
        ({"azp": None}, Fault.WRONG_AUDIENCE),
        ({"nonce": "m"}, Fault.BAD_CLAIMS),
        ({"nonce": None}, Fault.BAD_CLAIMS),
        ({"sub": "x" * 256}, Fault.BAD_CLAIMS),
        ({"sub": "a\nb"}, Fault.BAD_CLAIMS),
        ({"auth_time": True}, Fault.EXPIRED),
        ({"auth_time": 900}, Fault.EXPIRED),
    ):
        assert check_id_token({**good, **wrong}, client_id="c", nonce="n", signed_in_since_s=1_000) is fault


@pytest.mark.parametrize(
    ("app", "passkey", "asked", "methods", "step"),
    [
        (False, False, False, ("pwd",), Step.DONE),
        (False, True, False, ("pwd",), Step.DONE),
        (True, False, False, ("pwd",), Step.PROVE),
        (True, False, False, ("oidc",), Step.PROVE),
        (True, False, True, ("pwd", "otp"), Step.DONE),
        (True, False, True, ("pwd", "browser"), Step.DONE),
        (False, True, True, ("pwd",), Step.PROVE),
        (False, True, True, ("pop", "mfa"), Step.DONE),
        (False, False, True, ("pwd",), Step.SET_UP),
        (False, False, True, ("oidc", "mfa"), Step.DONE),
    ],
)
def test_what_comes_after_a_proof(app: bool, passkey: bool, asked: bool, methods: tuple[str, ...], step: Step) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    person = Person(
        id="usr_1", email="a@x.org", name="", status=UserStatus.ACTIVE, language="en", time_zone="UTC", created_at=now,
        password_changed_at=None, last_login_at=None, has_password=True, has_second_factor=app, has_passkey=passkey,
    )  # fmt: skip
    place = Place(tenant_id="t", slug="t", name="T", role=Role.MEMBER, active=True, asks_second_factor=asked)
    assert Proven(person=person, place=place, methods=methods).next_step is step
