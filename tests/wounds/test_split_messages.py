"""Wound: a message that is read otherwise when its bytes arrive otherwise (aiohttp CVE-2026-54277 and its kind).

Each message here is cut in two at every byte. The answers, and what the upstream sees, are those of the whole message.
"""

import pytest

from tests.gateway.harness import Gateway
from tests.wounds.wire import in_pieces, last, request, statuses

POST = b"POST /v1/listen HTTP/1.1"
CHUNKED = b"Transfer-Encoding: chunked"


def messages(key: str) -> dict[str, bytes]:
    """Good and bad, with the next request behind it where the connection goes on."""
    end = last(key)
    return {
        "plain": end,
        "two": request(key) + end,
        "length": request(key, POST, b"Content-Length: 5", body=b"hello" + end),
        "chunks": request(key, POST, CHUNKED, body=b'2;a="b"\r\nhe\r\n3\r\nllo\r\n0\r\nX-A: b\r\n\r\n' + end),
        "no key": request(None) + end,
        "target": request(key, b"GET /v1/../admin HTTP/1.1", body=end),
        "both": request(key, POST, b"Content-Length: 5", CHUNKED, body=b"0\r\n\r\n" + end),
        "folded": request(key, POST, b"X-A: b\r\n c", body=end),
        "size": request(key, POST, CHUNKED, body=b"0x2\r\nhe\r\n0\r\n\r\n" + end),
        "name": request(key, POST, b"X_Tenant_ID: ten_b", b"Connection: close"),
    }


@pytest.mark.parametrize("case", messages(""))
async def test_a_message_cut_anywhere_is_the_same_message(gateway: Gateway, case: str) -> None:
    """S: one reading, wherever the segments end."""
    data = messages(gateway.key)[case]
    whole = statuses(await in_pieces(gateway, [data]))
    seen = [(one.method, one.target, one.body, sorted(one.names())) for one in gateway.upstream.seen]
    key = data.find(b"Bearer ") + 12
    for cut in range(1, len(data)):
        if key < cut < key + 20:
            continue  # the inside of the key is one byte like the other
        gateway.upstream.seen.clear()
        assert statuses(await in_pieces(gateway, [data[:cut], data[cut:]])) == whole, data[:cut]
        now = [(one.method, one.target, one.body, sorted(one.names())) for one in gateway.upstream.seen]
        assert _framing_aside(now) == _framing_aside(seen), data[:cut]


def _framing_aside(seen: list[tuple[str, str, bytes, list[str]]]) -> list[tuple[object, ...]]:
    """A body that had not arrived whole goes on in chunks, or with the client's length: ours to choose."""
    ours = {"content-length", "transfer-encoding"}
    return [
        (method, target, body, [name for name in names if name not in ours]) for method, target, body, names in seen
    ]
