"""Wound: a key in the URL, which the logs of all that is behind keep (A-01; RFC 6750 section 2.3, RFC 9700).

It opens nothing. Beside a good credential in its place, or where none is asked for, it went on to the upstream.
"""

import pytest

from policies.http.credentials import mint_key, stands_in
from tests.gateway.harness import Gateway

KEY = mint_key(bytes(17))
TOKEN = "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJ4In0.c2ln"
TICKET = "tkt_" + 48 * "a"


@pytest.mark.parametrize(
    "target",
    [
        f"/v1/models?api_key={KEY}",
        f"/v1/models?a=1&x={KEY}&b=2",
        f"/v1/models?x=thk%5Flive%5f{KEY[9:]}",
        "/v1/models?x=" + "".join(f"%{ord(letter):02x}" for letter in KEY),
        f"/v1/models?token={TICKET}",
        f"/v1/models?access_token={TOKEN}",
        f"/v1/models?Token=Bearer%20{TOKEN}",
        f"/v1/models?jwt=Bearer+{TOKEN}",
        f"/v1/models/{KEY}",
    ],
)
async def test_a_target_with_a_credential_in_it_goes_no_further(gateway: Gateway, target: str) -> None:
    """Without another one it is no credential at all; with one the request is refused."""
    assert (await gateway.ask("GET", target, key=None)).status == 401
    answer = await gateway.ask("GET", target)
    assert (answer.status, answer.code) == (400, "credential_in_query")
    assert not gateway.upstream.connections
    assert (await gateway.ask("GET", "/v1/models?x=1")).status == 200


@pytest.mark.parametrize(
    "query",
    [
        "lengths_in_ms=20&months_of_the_year_in_all_of_them=1",
        "q=thk_live_",
        f"callback=https://elsewhere.test/?t={TOKEN}",
        f"callback=https%3A%2F%2Felsewhere%2Etest%2F%3Fa%3D1%26token%3D{TOKEN}",
        "token=theirs&key=sk-theirs",
        "token=eyJ1234567.c2ln&key=eyJhbGciOiJFZERTQSJ9",
        "",
    ],
)
def test_what_is_no_credential_of_ours_is_the_upstreams_business(query: str) -> None:
    """Nor is a token that somebody else's address needs."""
    assert not stands_in("/v1/months_of_the_year_in_all_of_them", query)


@pytest.mark.parametrize(
    "field",
    [
        ("Referer", f"https://app.test/listen?api_key={KEY}"),
        ("Referer", "https://app.test/?x=" + "".join(f"%{ord(letter):02x}" for letter in KEY)),
        ("Referer", f"https://app.test/?access_token={TOKEN}"),
        ("User-Agent", f"our-app/1.0 ({KEY})"),
        ("User-Agent", TOKEN),
        ("X-Our-Key", KEY),
        ("X-Ticket", TICKET),
    ],
)
async def test_a_line_with_a_credential_in_it_goes_no_further(gateway: Gateway, field: tuple[str, str]) -> None:
    """Of a header the line alone is left out, each time: a browser sends Referer without being asked to."""
    for _ in range(4):  # from the second on it is recognised
        assert (await gateway.ask("GET", "/v1/models", [field, ("X-A", "b_%41")])).status == 200
    assert [(seen.all(field[0].lower()), seen.all("x-a")) for seen in gateway.upstream.seen] == 4 * [([], ["b_%41"])]
    assert not any(field[1] in str(line) for line in gateway.lines)


@pytest.mark.parametrize(
    "field", [("X-Their-Token", TOKEN), ("Referer", "https://app.test/lengths_in_ms?x=%41"), ("X-Odd", "thk_live_ %zz")]
)
async def test_a_line_that_only_looks_like_it_passes(gateway: Gateway, field: tuple[str, str]) -> None:
    """A token may be somebody else's, and meant for what is behind."""
    await gateway.ask("GET", "/v1/models", [field])
    assert gateway.upstream.seen[0].all(field[0].lower()) == [field[1]]
