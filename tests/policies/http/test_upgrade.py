"""The opening of a WebSocket: what is well-formed, where credentials stand, and what may be said back."""

import pytest

from policies.http.credentials import CONFLICT, NOTHING, Presented, mint_key, present, redacted
from policies.http.headers import AnswerHead, RequestHead
from policies.http.subprotocols import Offer
from policies.http.tickets import TICKET_BYTES, is_reusable, is_ticket, mint_ticket
from policies.http.upgrade import Upgrade, from_same_origin
from policies.http.verdict import Deny, Refusal

KEY = mint_key(bytes(17))
OTHER = mint_key(bytes(16) + b"\x01")
TICKET = mint_ticket(bytes(TICKET_BYTES))
REUSABLE = mint_ticket(bytes(TICKET_BYTES), reusable=True)
NONCE = b"dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # both from RFC 6455 section 1.3


def request(*protocols: str, **changes: bytes | None) -> RequestHead:
    """An upgrade's header; a change of None removes a field."""
    fields: dict[str, bytes | None] = {
        "Host": b"gateway.test",
        "Upgrade": b"websocket",
        "Connection": b"keep-alive, Upgrade",
        "Sec-WebSocket-Version": b"13",
        "Sec-WebSocket-Key": NONCE,
    }
    fields |= {name.replace("_", "-"): value for name, value in changes.items()}
    raw = [(name.encode(), value) for name, value in fields.items() if value is not None]
    raw += [(b"Sec-WebSocket-Protocol", value.encode()) for value in protocols]
    return RequestHead.walk(raw)


def read(head: RequestHead, query: str = "", method: str = "GET", version: tuple[int, int] = (1, 1)) -> Upgrade | Deny:
    return Upgrade.read(head, method, version, query)


def refusal(read: Upgrade | Deny) -> Refusal:
    assert isinstance(read, Deny)
    return read.refusal


def sound(*protocols: str, query: str = "") -> Upgrade:
    made = read(request(*protocols), query)
    assert isinstance(made, Upgrade)
    return made


@pytest.mark.parametrize(
    ("offered", "secrets", "passing", "own"),
    [
        ((), (), (), ""),
        (("chat",), (), ("chat",), ""),
        (("realtime, openai-insecure-api-key.K",), ("K",), ("realtime",), "realtime"),
        (("realtime", "openai-insecure-api-key.K, openai-beta.realtime-v1"), ("K",),
         ("realtime", "openai-beta.realtime-v1"), "realtime"),
        (("token, K",), ("K",), ("token",), "token"),
        (("Bearer, J.W.T",), ("J.W.T",), ("Bearer",), "Bearer"),
        (("token, K, x-deepgram-session-id, 17",), ("K",), ("token", "x-deepgram-session-id", "17"), "token"),
        (("xai-client-secret.K",), ("K",), (), ""),
        (("token",), (), ("token",), ""),
        ((TICKET,), (TICKET,), (), TICKET),
        ((f"v1, {TICKET}",), (TICKET,), ("v1",), "v1"),
        ((f"xai-client-secret.{TICKET}",), (TICKET,), (), f"xai-client-secret.{TICKET}"),
    ],
)  # fmt: skip
def test_secrets_are_told_from_protocols(
    offered: tuple[str, ...], secrets: tuple[str, ...], passing: tuple[str, ...], own: str
) -> None:
    offer = Offer.read(request(*offered).websocket)
    assert offer.secrets == tuple(s.encode() for s in secrets)
    assert offer.passing == tuple(p.encode() for p in passing)
    assert offer.own == own.encode()


def test_a_subprotocol_is_a_credential_like_any_other() -> None:
    """One is one, wherever it stands; two different ones are refused."""
    found = present(request(f"token, {KEY}", Authorization=b"Bearer " + KEY.encode()))
    assert isinstance(found, Presented)
    assert found.secret == KEY.encode()
    assert present(request(f"token, {KEY}", Authorization=b"Bearer " + OTHER.encode())) is CONFLICT
    assert present(request(f"token, {KEY}, realtime, openai-insecure-api-key.{OTHER}")) is CONFLICT
    assert present(request("realtime")) is NOTHING


def test_nothing_of_the_clients_handshake_passes_by_itself() -> None:
    """Whatever the spelling: the upstream gets a handshake of its own."""
    head = request(f"token, {KEY}", Sec_WebSocket_Extensions=b"permessage-deflate", sec_WEBSOCKET_protocol=b"x")
    assert head.lines == []
    assert RequestHead.walk([(b"Sec_WebSocket-Protocol", KEY.encode())]).lines == []


def test_the_upstreams_handshake_offers_no_extension_and_no_secret() -> None:
    lines = sound(f"token, {KEY}, chat").lines
    assert lines == (
        b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: " + NONCE + b"\r\nSec-WebSocket-Protocol: token, chat\r\n"
    )


@pytest.mark.parametrize(
    ("head", "method", "version", "expected"),
    [
        (request(), "POST", (1, 1), Refusal.MALFORMED_HANDSHAKE),
        (request(), "GET", (1, 0), Refusal.MALFORMED_HANDSHAKE),
        (request(Connection=b"keep-alive"), "GET", (1, 1), Refusal.MALFORMED_HANDSHAKE),
        (request(Content_Length=b"5"), "GET", (1, 1), Refusal.MALFORMED_HANDSHAKE),
        (request(Transfer_Encoding=b"chunked"), "GET", (1, 1), Refusal.MALFORMED_HANDSHAKE),
        (request(Expect=b"100-continue"), "GET", (1, 1), Refusal.MALFORMED_HANDSHAKE),
        (request(Sec_WebSocket_Key=None), "GET", (1, 1), Refusal.MALFORMED_HANDSHAKE),
        (request(Sec_WebSocket_Key=b"short"), "GET", (1, 1), Refusal.MALFORMED_HANDSHAKE),
        (request(Sec_WebSocket_Key=b"dGhlIHNhbXBsZSBub25jZ===" ), "GET", (1, 1), Refusal.MALFORMED_HANDSHAKE),
        (request(sec_websocket_key=NONCE), "GET", (1, 1), Refusal.MALFORMED_HANDSHAKE),
        (request(Sec_WebSocket_Version=b"8"), "GET", (1, 1), Refusal.WEBSOCKET_VERSION),
        (request(Sec_WebSocket_Version=None), "GET", (1, 1), Refusal.WEBSOCKET_VERSION),
        (request(sec_websocket_version=b"13"), "GET", (1, 1), Refusal.WEBSOCKET_VERSION),
        (request(KEY), "GET", (1, 1), Refusal.MALFORMED_HANDSHAKE),
        (request("a b"), "GET", (1, 1), Refusal.MALFORMED_HANDSHAKE),
    ],
)  # fmt: skip
def test_a_handshake_that_is_not_one_is_refused(
    head: RequestHead, method: str, version: tuple[int, int], expected: Refusal
) -> None:
    assert refusal(read(head, method=method, version=version)) is expected


def test_a_length_of_nothing_is_no_body() -> None:
    assert isinstance(read(request(Content_Length=b"0")), Upgrade)


def test_a_ticket_may_stand_in_the_query_and_is_taken_out_of_it() -> None:
    """Everything else stays as it came, byte for byte."""
    made = sound(query=f"model=a%20b&token={TICKET}&x&y=")
    assert (made.ticket, made.query) == (TICKET.encode(), "model=a%20b&x&y=")
    for name in ("token", "access_token", "api_key", "api-key", "apikey", "key", "jwt"):
        assert sound(query=f"{name}={TICKET}").query == ""
    assert sound(query="token=theirs&x=1").query == "token=theirs&x=1"
    assert sound(query=f"token={TICKET}&jwt=&tokens=x").query == "jwt=&tokens=x"


@pytest.mark.parametrize(
    "query",
    [
        f"token={KEY}", f"x={KEY}", f"token={TICKET}&key={TICKET}", f"token={TICKET}&token={TICKET}", f"{TICKET}",
        f"%74oken={TICKET}", f"TOKEN={TICKET}", f"token=x{TICKET}", f"token={REUSABLE}", f"token={TICKET}&x={REUSABLE}",
    ],
)  # fmt: skip
def test_a_key_in_the_query_is_refused(query: str) -> None:
    """So is a ticket that is good more than once, and one whose place could be read in two ways."""
    assert refusal(read(request(), query)) is Refusal.CREDENTIAL_IN_QUERY


@pytest.mark.parametrize("other", ["token=theirs", "jwt=theirs", "%6Bey=theirs", "API_KEY=theirs"])
def test_two_credentials_in_the_query_are_one_too_many(other: str) -> None:
    """Whoever is behind might go by the second one."""
    for query in (f"token={TICKET}&{other}", f"{other}&token={TICKET}"):
        assert refusal(read(request(), query)) is Refusal.CONFLICTING_CREDENTIALS


def answer(*fields: tuple[str, str]) -> AnswerHead:
    return AnswerHead.walk([f"{name}: {value}".encode() for name, value in fields])


GOOD = ("Sec-WebSocket-Accept", ACCEPT.decode())


def test_the_client_gets_the_protocol_that_the_upstream_chose() -> None:
    lines = sound("chat, superchat").answer(answer(GOOD, ("sec-websocket-protocol", "superchat")))
    assert lines == [
        b"Upgrade: websocket",
        b"Connection: Upgrade",
        b"Sec-WebSocket-Accept: " + ACCEPT,
        b"Sec-WebSocket-Protocol: superchat",
    ]


def test_a_browser_that_offered_a_secret_gets_a_protocol_even_if_the_upstream_chose_none() -> None:
    assert sound(f"token, {KEY}").answer(answer(GOOD))[-1] == b"Sec-WebSocket-Protocol: token"
    assert sound(TICKET).answer(answer(GOOD))[-1] == b"Sec-WebSocket-Protocol: " + TICKET.encode()
    assert len(sound("chat").answer(answer(GOOD))) == 3


@pytest.mark.parametrize(
    "fields",
    [
        (),
        (("Sec-WebSocket-Accept", "bm90IHRoZSBhbnN3ZXI="),),
        (GOOD, GOOD),
        (GOOD, ("Sec-WebSocket-Protocol", "other")),
        (GOOD, ("Sec-WebSocket-Protocol", KEY)),
        (GOOD, ("Sec-WebSocket-Protocol", "chat"), ("Sec-WebSocket-Protocol", "token")),
        (GOOD, ("Sec-WebSocket-Extensions", "permessage-deflate")),
    ],
)
def test_an_upstream_that_errs_in_its_handshake_is_not_believed(fields: tuple[tuple[str, str], ...]) -> None:
    with pytest.raises(ValueError, match="it"):
        sound(f"chat, token, {KEY}").answer(answer(*fields))


@pytest.mark.parametrize(
    ("origins", "by_setting", "by_host"),
    [
        ((b"https://gw.test",), True, False),
        ((b"HTTPS://GW.test",), True, False),
        ((b"https://gateway.test",), False, True),
        ((b"http://gateway.test",), False, True),
        ((), False, False),
        ((b"null",), False, False),
        ((b"",), False, False),
        ((b"https://evil.test",), False, False),
        ((b"https://gw.test.evil.test",), False, False),
        ((b"http://gw.test",), False, False),
        ((b"https://gw.test:444",), False, False),
        ((b"https://gateway.test:444",), False, False),
        ((b"ftp://gateway.test",), False, False),
        ((b"https://gw.test", b"https://gw.test"), False, False),
    ],
)
def test_a_cookie_counts_from_our_own_pages_only(origins: tuple[bytes, ...], by_setting: bool, by_host: bool) -> None:
    """Those of the public address, or, where none is set, of the host that was asked."""
    head = RequestHead.walk([*request().raw, *((b"Origin", origin) for origin in origins)])
    assert head.hosts == [b"gateway.test"]
    assert from_same_origin(head, b"https://gw.test") is by_setting
    assert from_same_origin(head, b"") is by_host


def test_a_ticket_has_a_shape_of_its_own() -> None:
    assert is_ticket(TICKET.encode())
    assert is_ticket(REUSABLE.encode())
    assert [is_reusable(one.encode()) for one in (TICKET, REUSABLE)] == [False, True]
    assert redacted(f"/x/{REUSABLE}/y") == "/x/ek_tkt_[redacted]/y"
    assert not is_ticket(KEY.encode())
    assert not is_ticket(TICKET.encode() + b"0")
    with pytest.raises(ValueError, match="random bytes"):
        mint_ticket(b"few")


@pytest.mark.parametrize("lines", [1, 7])
def test_of_an_offer_without_end_the_beginning_is_read(lines: int) -> None:
    """It is read before anybody is known, and took two milliseconds for a line of it. What is left out goes nowhere."""
    names = [b"a", *(b"x%d" % number for number in range(8_000)), b"token", KEY.encode()]
    each = len(names) // lines
    values = [b",".join(names[at : at + each]) for at in range(0, len(names), each)]
    offer = Offer.read([(b"sec-websocket-protocol", value) for value in values])
    assert offer.passing == tuple(names[:64])
    assert offer.secrets == ()
