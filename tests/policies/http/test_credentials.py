"""Where a credential may stand, and that a mistyped key is known without asking anybody."""

import base64
import binascii
import re
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.http.credentials import (
    CONFLICT,
    KEY_PATTERN,
    NOTHING,
    RANDOM_BYTES,
    Conflict,
    Nothing,
    Presented,
    is_well_formed,
    mint_key,
    present,
    redacted,
    stands_in,
    without_credentials,
)
from policies.http.headers import RequestHead

KEY = mint_key(bytes(range(RANDOM_BYTES)))
OTHER = mint_key(bytes(RANDOM_BYTES))
BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

keys = st.builds(
    lambda randomness, live: mint_key(randomness, live=live), st.binary(min_size=17, max_size=17), st.booleans()
)


@given(key=keys)
def test_a_minted_key_is_well_formed_and_matches_the_published_pattern(key: str) -> None:
    """A-05; the alphabet makes it a legal token (RFC 9110 section 5.6.2), and a double click selects it whole."""
    assert is_well_formed(key.encode())
    assert re.fullmatch(KEY_PATTERN, key)
    assert re.fullmatch(r"\w+", key, re.ASCII)


@given(a=st.binary(min_size=17, max_size=17), b=st.binary(min_size=17, max_size=17))
def test_different_randomness_makes_different_keys(a: bytes, b: bytes) -> None:
    """Up to what 22 characters hold: 131 bits."""
    same = int.from_bytes(a) % 62**22 == int.from_bytes(b) % 62**22
    assert (mint_key(a) == mint_key(b)) is same


def test_a_key_is_unlike_its_test_twin() -> None:
    assert mint_key(bytes(17), live=True)[9:] != mint_key(bytes(17), live=False)[9:]


@pytest.mark.parametrize("length", [0, 16, 18])
def test_a_key_takes_exactly_as_much_randomness_as_it_holds(length: int) -> None:
    with pytest.raises(ValueError, match="17 random bytes"):
        mint_key(bytes(length))


@given(key=keys, place=st.integers(0, 36), other=st.characters(codec="latin-1"))
def test_every_mistyped_character_is_noticed(key: str, place: int, other: str) -> None:
    """A-04: any one character replaced by any other; CRC-32 finds every burst of up to 32 bits."""
    wrong = key[:place] + other + key[place + 1 :]
    assert is_well_formed(wrong.encode("latin-1")) is (wrong == key)


@given(key=keys, place=st.integers(0, 35))
def test_every_two_neighbours_that_changed_places_are_noticed(key: str, place: int) -> None:
    swapped = key[:place] + key[place + 1] + key[place] + key[place + 2 :]
    assert is_well_formed(swapped.encode()) is (swapped == key)


@given(key=keys, one=st.integers(0, 36), two=st.integers(0, 36))
def test_any_two_characters_that_changed_places_are_noticed(key: str, one: int, two: int) -> None:
    """Not a certainty as with neighbours, but the odds against it are those of a 32-bit checksum."""
    characters = list(key)
    characters[one], characters[two] = characters[two], characters[one]
    swapped = "".join(characters)
    assert is_well_formed(swapped.encode()) is (swapped == key)


@given(key=keys, cut=st.integers(0, 36), more=st.text(st.sampled_from(BASE62), min_size=1, max_size=3))
def test_a_shortened_or_lengthened_key_is_noticed(key: str, cut: int, more: str) -> None:
    assert not is_well_formed(key[:cut].encode())
    assert not is_well_formed((key + more).encode())
    assert not is_well_formed((more + key).encode())


@pytest.mark.parametrize(
    "secret",
    [b"", b"thk_live_", KEY.upper().encode(), KEY.lower().encode(), KEY.encode() + b"\n", b" " + KEY.encode(), b"\x00",
     b"' OR '1'='1", b"%00", b'{"key":1}', b"x" * 99_999, b"thk_live_" + b"9" * 28, "thk_é".encode(), b"\xff\xfe"],
)  # fmt: skip
def test_what_is_no_key_is_no_key(secret: bytes) -> None:
    """A-04, A-06."""
    assert not is_well_formed(secret)


def test_the_checksum_is_crc_32_in_base62() -> None:
    """Anybody can check a key against the published description, without our code."""
    number = 0
    for character in KEY[-6:]:
        number = number * 62 + BASE62.index(character)
    assert number == binascii.crc32(KEY[:-6].encode())


FOREIGN = (b"api-key", b"Api-Key", b"apikey", b"xi-api-key", b"x-gladia-key")


def basic(user: str, password: str) -> bytes:
    return b"Basic " + base64.b64encode(f"{user}:{password}".encode())


def presented(*lines: tuple[bytes, bytes]) -> Presented | Nothing | Conflict:
    return present(RequestHead.walk(lines))


@pytest.mark.parametrize("scheme", [b"Bearer", b"bearer", b"BEARER", b"Token", b"Key", b"ApiKey", b"apikey"])
def test_a_scheme_in_any_case_is_taken_off(scheme: bytes) -> None:
    assert presented((b"Authorization", scheme + b" " + KEY.encode())) == Presented(KEY.encode())
    assert presented((b"authorization", scheme + b"   " + KEY.encode() + b"  ")) == Presented(KEY.encode())


@pytest.mark.parametrize("pair", [(KEY, ""), ("", KEY), ("user", KEY), (KEY, "x"), (KEY, KEY), ("user", f"{KEY}:x")])
@pytest.mark.parametrize("scheme", [b"Basic", b"basic"])
def test_basic_carries_a_key_as_user_or_as_password(pair: tuple[str, str], scheme: bytes) -> None:
    """As curl's ``-u key:`` sends it (RFC 7617); a password goes on to the end, colons and all."""
    secret = next(part for part in pair if part.startswith("thk_"))
    assert presented((b"Authorization", scheme + basic(*pair)[5:])) == Presented(secret.encode())


@pytest.mark.parametrize(
    ("lines", "secret"),
    [
        ([(b"Authorization", KEY.encode())], KEY.encode()),
        ([(b"X-API-Key", KEY.encode())], KEY.encode()),
        ([(b"x-api-key", b" " + KEY.encode() + b" ")], KEY.encode()),
        ([(b"Authorization", b"Bearer " + KEY.encode()), (b"X-API-Key", KEY.encode())], KEY.encode()),
        ([(b"Authorization", b"Bearer " + KEY.encode()), (b"Authorization", b"Token " + KEY.encode())], KEY.encode()),
        ([(b"Authorization", b""), (b"X-API-Key", KEY.encode())], KEY.encode()),
        ([(b"Authorization", b"Bearer"), (b"X-API-Key", KEY.encode())], KEY.encode()),
        # What is there and bad is presented whole, and then is no key: it never counts as nothing.
        ([(b"Authorization", b"Basic dXNlcjpwdw==")], b"Basic dXNlcjpwdw=="),
        ([(b"Authorization", b"Basic")], b"Basic"),
        ([(b"Authorization", b"Basic " + KEY.encode())], b"Basic " + KEY.encode()),
        ([(b"Authorization", b"Digest " + KEY.encode())], b"Digest " + KEY.encode()),
        # The headers of other services, with a key of ours; what else stands in them was not meant for us.
        *(([(name, KEY.encode())], KEY.encode()) for name in FOREIGN),
        ([(b"api-key", b"another"), (b"Authorization", b"Bearer " + KEY.encode())], KEY.encode()),
        ([(b"apikey", KEY.encode() + b" "), (b"X-API-Key", KEY.encode())], KEY.encode()),
        ([(b"api-key", b"thk_live_short")], b"thk_live_short"),
        ([(b"Authorization", b"Bearer a, Bearer b")], b"a, Bearer b"),
        ([(b"Authorization", b"Bearer\t" + KEY.encode())], b"Bearer\t" + KEY.encode()),
        ([(b"Authorization", b"Bearer Bearer x")], b"Bearer x"),
        ([(b"X-API-Key", b"Bearer x")], b"Bearer x"),
        ([(b"Authorization", b"\xff")], b"\xff"),
    ],
)
def test_one_credential_is_found(lines: list[tuple[bytes, bytes]], secret: bytes) -> None:
    assert presented(*lines) == Presented(secret)


@pytest.mark.parametrize(
    "lines",
    [
        [],
        [(b"Authorization", b"")],
        [(b"Authorization", b"Bearer")],
        [(b"Authorization", b"Bearer ")],
        [(b"X-API-Key", b"  ")],
        [(b"X_API_Key", KEY.encode())],
        [(b"Api_Key", KEY.encode())],
        [(b"api-key", b"somebody else's")],
        [(b"xi-api-key", b""), (b"x-gladia-key", b"  ")],
        [(b"Cookie", b"sid=" + KEY.encode())],
        [(b"Referer", b"https://x/?api_key=" + KEY.encode())],
        [(b"Proxy-Authorization", b"Bearer " + KEY.encode())],
    ],
)
def test_elsewhere_there_is_no_credential(lines: list[tuple[bytes, bytes]]) -> None:
    """A-01, H-02: an alias of a header, a cookie, a referring address."""
    assert presented(*lines) is NOTHING


@pytest.mark.parametrize(
    "lines",
    [
        [(b"Authorization", b"Bearer " + KEY.encode()), (b"X-API-Key", OTHER.encode())],
        [(b"Authorization", b"Bearer " + KEY.encode()), (b"Authorization", b"Bearer " + OTHER.encode())],
        [(b"X-API-Key", KEY.encode()), (b"X-API-Key", OTHER.encode())],
        [(b"Authorization", b"Basic x"), (b"X-API-Key", KEY.encode())],
        [(b"Authorization", basic(KEY, OTHER))],
        [(b"Authorization", basic(KEY, "x")), (b"X-API-Key", OTHER.encode())],
        [(b"api-key", KEY.encode()), (b"xi-api-key", OTHER.encode())],
        [(b"Authorization", b"Bearer x"), (b"x-gladia-key", KEY.encode())],
        [(b"Authorization", KEY.encode()), (b"Authorization", KEY.lower().encode())],
    ],
)
def test_two_credentials_are_a_conflict_and_neither_wins(lines: list[tuple[bytes, bytes]]) -> None:
    """H-10."""
    assert presented(*lines) is CONFLICT
    assert presented(*reversed(lines)) is CONFLICT


@given(key=keys, before=st.text(max_size=10), after=st.text(st.characters(exclude_characters=BASE62), max_size=10))
def test_no_key_is_left_in_a_text_for_the_log(key: str, before: str, after: str) -> None:
    """A-02: whole or cut short."""
    for part in (key, key[:20], key + "x"):
        assert part[9:] not in redacted(before + part + after)
    assert redacted(before + after) == before + after or "thk_" in before + after


def test_what_a_log_shows_of_a_key_is_its_kind() -> None:
    assert redacted(f"/v1/models/{KEY}?") == "/v1/models/thk_live_[redacted]?"


@pytest.mark.parametrize(
    ("lines", "secret"),
    [
        ([(b"Sec-WebSocket-Protocol", b"realtime, tkt_" + b"0" * 48)], b"tkt_" + b"0" * 48),
        ([(b"Sec-WebSocket-Protocol", b"bearer, " + KEY.encode())], KEY.encode()),
        ([(b"Sec-WebSocket-Protocol", b"realtime")], b"of-the-session"),
        ([(b"Authorization", b"Bearer " + KEY.encode())], None),
        ([(b"Sec-WebSocket-Protocol", b"bearer, " + KEY.encode()), (b"X-API-Key", OTHER.encode())], None),
    ],
)
def test_a_session_beside_what_a_script_offers_is_no_conflict(
    lines: list[tuple[bytes, bytes]], secret: bytes | None
) -> None:
    """No script can open a WebSocket without the browser's cookies; every other pair of credentials is one too many."""
    upgrade = [(b"Upgrade", b"websocket"), (b"Connection", b"Upgrade"), (b"Cookie", b"tahoe_session=of-the-session")]
    found = present(RequestHead.walk([*upgrade, *lines]), "tahoe_session")
    if secret is None:
        assert isinstance(found, Conflict)
    else:
        assert isinstance(found, Presented)
        assert found.secret == secret
        assert found.session is (secret == b"of-the-session")


@given(
    st.lists(
        st.tuples(
            st.sampled_from((b"Authorization", b"X-API-Key", b"api-key", b"Cookie", b"Sec-WebSocket-Protocol")),
            st.binary(max_size=60) | st.binary(max_size=30).map(lambda junk: b"Bearer " + junk + KEY.encode()),
        ),
        max_size=4,
    )
)
def test_any_bytes_are_one_credential_none_or_a_conflict(lines: list[tuple[bytes, bytes]]) -> None:
    """No error whatever a client sends (A-06); and what is presented stood in the request, plainly or in base64."""
    found = present(RequestHead.walk(lines), "tahoe_session")
    if isinstance(found, Presented):
        assert any(found.secret in value or b"basic" in value.lower() for _, value in lines)


@given(
    st.lists(
        st.sampled_from(["%", "%%", "%7", "=", "=74", "thk_live_", "%74hk_live%5f", "%2574hk_live_", "a", "%61", "%g1"])
    )
)
def test_an_escaped_key_is_found_wherever_it_would_be_read(pieces: list[str]) -> None:
    """By whoever undoes the escapes once, as servers do."""
    text = "".join(pieces)
    is_there = re.search("thk_live_[0-9A-Za-z]", unquote(text, "latin-1")) is not None
    assert stands_in("/", text) == is_there
    assert (without_credentials([b"X-A: " + text.encode()]) == []) == is_there
