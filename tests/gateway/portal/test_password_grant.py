"""Tokens for a password: the same tries, the same answers and the same second factor as on the log-in page (L-14)."""

from typing import Any

import pytest

from gateway.portal.oauth.parts import OAUTH
from policies.identity.tenants import UserStatus
from policies.identity.tokens import AccessToken
from tests.gateway.portal.conftest import EMAIL, PASSWORD, SAME_ORIGIN, Client, Town, log_in


async def ask(portal: Client, *, status: int = 200, **fields: str) -> Any:
    """The token endpoint's answer."""
    body = {"grant_type": "password", "email": EMAIL, "password": PASSWORD} | fields
    async with portal.post("/auth/token", data=body) as answer:
        assert answer.status == status, await answer.text()
        return await answer.json()


async def test_a_password_gets_tokens(portal: Client, town: Town) -> None:
    """Form or JSON, ``email`` or the standard's ``username``; all that the person may, unless less is asked for."""
    answer = await ask(portal)
    assert (answer["token_type"], answer["expires_in"]) == ("Bearer", 600)
    assert answer["refresh_token"].startswith("thr_")
    assert "transcribe" in answer["scope"].split()
    tokens = portal.app[OAUTH].tokens  # type: ignore[union-attr]
    found = await tokens.bearers.examine(answer["access_token"].encode())
    assert isinstance(found, AccessToken)
    assert (found.subject, found.tenant_id) == (town.user.id, town.tenant.id)
    assert (await ask(portal, scope="transcribe"))["scope"] == "transcribe"
    body = {"grant_type": "password", "username": EMAIL, "password": PASSWORD, "tenant": town.tenant.slug}
    async with portal.post("/auth/token", json=body) as json_answer:
        assert json_answer.status == 200
    async with portal.post("/auth/token", json={"email": EMAIL, "password": PASSWORD}) as first_party:
        assert first_party.status == 200


@pytest.mark.parametrize("case", ["wrong", "unknown", "disabled", "nowhere"])
async def test_every_failure_is_the_same_answer(portal: Client, town: Town, case: str) -> None:
    """L-01."""
    fields = {
        "wrong": {"password": PASSWORD + "!"},
        "unknown": {"email": "nobody@example.com"},
        "disabled": {},
        "nowhere": {"tenant": "nowhere"},
    }[case]
    if case == "disabled":
        await town.directory.set_user_status(town.tenant.id, EMAIL, UserStatus.DISABLED)
    answer = await ask(portal, status=400, **fields)
    answer.pop("request_id")
    assert answer["error"] == "invalid_grant"
    assert "do not belong together" in answer["error_description"]


async def test_tries_are_counted_together_with_those_of_the_page(portal: Client, town: Town) -> None:
    """L-05: no weaker twin; the right password does not help while it is locked."""
    for _ in range(3):
        await ask(portal, status=400, password="wrong")
        await log_in(portal, password="wrong")
    answer = await ask(portal, status=429)
    assert answer["error"] == "too_many_tries"


async def test_logging_out_everywhere_ends_them(portal: Client, town: Town) -> None:
    """K-08: sessions and tokens alike."""
    answer = await ask(portal)
    tokens = portal.app[OAUTH].tokens  # type: ignore[union-attr]
    await tokens.log_out_everywhere(town.user.id)
    async with portal.post(
        "/auth/token", data={"grant_type": "refresh_token", "refresh_token": answer["refresh_token"]}
    ) as again:
        assert again.status == 400
    assert tokens.state.is_revoked(await tokens.bearers.examine(answer["access_token"].encode()))


async def test_another_site_can_do_nothing_with_a_browser_here(portal: Client, town: Town) -> None:
    """C-01: a cookie opens nothing at the token endpoint, so nothing is lost by taking forms without a token."""
    await log_in(portal)
    async with portal.post("/auth/token", data={"grant_type": "refresh_token"}, headers=SAME_ORIGIN) as answer:
        assert (await answer.json())["error"] == "invalid_request"
