"""Wound: a framing header that one server reads and the next one overlooks (S-04; CL.TE and TE.CL smuggling).

One byte is put into, or in place of a byte of, a ``Content-Length`` or ``Transfer-Encoding`` line that contradicts the
other one. Whatever the byte is: the request is refused, or the upstream gets one well-framed request and nothing that
was hidden in its body.
"""

import os
import re

import pytest

from tests.gateway.harness import Gateway, Seen
from tests.wounds.wire import SMUGGLED, last, request, smuggled, statuses, targets, whole

POST = b"POST /v1/listen HTTP/1.1"
NAMES = {b"Transfer-Encoding": b"chunked", b"Content-Length": b"5"}
BYTES = bytes(number for number in range(256) if number not in b"0123456789")  # digits make another length, lawfully
if "AIOHTTP_NO_EXTENSIONS" in os.environ:  # to whose regular expressions letters are alike, and bytes beyond ASCII
    BYTES = re.sub(rb"[A-Za-z\x80-\xff]", b"", BYTES) + b"AaEeXxZz\x80\x85\xa0\xff"
_FRAMING = re.compile(rb"\s*(?:content[-_.]length|transfer[-_.]encoding)\s*:")


def mutations(name: bytes, value: bytes) -> list[bytes]:
    """The line with one byte more, or one byte exchanged, at every place where servers are known to differ."""
    line = []
    for number in BYTES:
        byte = bytes([number])
        line += [
            byte + name + b": " + value,
            name + byte + b": " + value,
            name + b":" + byte + value,
            name + b": " + byte + value,
            name + b": " + value[:1] + byte + value[1:],
            name + b": " + value + byte,
            name.replace(b"-", byte) + b": " + value,
            name + byte + value,
            b"X-A: b" + byte + name + b": " + value,
            b"X-A: b\r\n" + byte + name + b": " + value,
            b"X-A: b\r" + byte + b"\n" + name + b": " + value,
        ]
    return line


def assert_well_framed(seen: Seen) -> None:
    """At most one framing header, spelt as the gateway spells it, and nothing that resembles one."""
    lines = seen.head.split(b"\r\n")[1:-2]
    assert all(b": " in line and not set(line) & set(b"\r\n\0") for line in lines)
    framing = [line for line in lines if _FRAMING.match(line.lower())]
    assert len(framing) <= 1
    assert all(re.fullmatch(rb"Content-Length: \d+|Transfer-Encoding: chunked", line) for line in framing)


@pytest.mark.parametrize("name", NAMES, ids=lambda name: name.decode())
async def test_one_odd_byte_in_a_framing_line_hides_nothing(gateway: Gateway, name: bytes) -> None:
    """S-04: with the other framing header beside it, before and after."""
    hidden = smuggled(gateway.key)
    chunked = b"0\r\n\r\n" + hidden  # to whoever believes the chunks, the hidden request is the next one
    counted = b"%x\r\n%b\r\n0\r\n\r\n" % (len(hidden), hidden)  # to whoever believes a short length, it is as well
    for mutated in mutations(name, NAMES[name]):
        if name == b"Transfer-Encoding":
            other, body = b"Content-Length: %d" % len(chunked), chunked
        else:
            other, body = b"Transfer-Encoding: chunked", counted
        gateway.upstream.seen.clear()
        got = statuses(await whole(gateway, request(gateway.key, POST, mutated, other, body=body + last(gateway.key))))
        assert SMUGGLED not in targets(gateway), mutated
        assert targets(gateway) in ([], ["/v1/listen"], ["/v1/listen", "/v1/models/next"]), mutated
        assert len(got) <= 2
        assert got[:1] == [200] or all(400 <= status < 500 for status in got), mutated
        for seen in gateway.upstream.seen:
            assert_well_framed(seen)


@pytest.mark.parametrize("name", NAMES, ids=lambda name: name.decode())
async def test_one_odd_byte_in_a_lone_framing_line_hides_nothing(gateway: Gateway, name: bytes) -> None:
    """S-04: what is no framing header leaves a request without a body, to both sides alike."""
    body = b"5\r\nhello\r\n0\r\n\r\n" if name == b"Transfer-Encoding" else b"hello"
    for mutated in mutations(name, NAMES[name]):
        gateway.upstream.seen.clear()
        await whole(gateway, request(gateway.key, POST, mutated, b"Connection: close", body=body))
        assert targets(gateway) in ([], ["/v1/listen"]), mutated
        for seen in gateway.upstream.seen:
            assert seen.body in (b"", b"hello", body), mutated
            assert_well_framed(seen)
