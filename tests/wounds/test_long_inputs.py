"""Wound: a check that takes for ever on what it refuses (D-12, ReDoS). Each input is as long as a line may be."""

import time
from collections.abc import Callable

import pytest

from gateway.dataplane.inquiries import TrustedProxies, usable_request_id
from policies.http.credentials import has_key, present, redacted, stands_in, without_credentials
from policies.http.headers import RequestHead, connection_tokens
from policies.http.inquiry import Target, is_plain_host
from policies.metering.meters import meter_for

SIZE = 8_190
SEEDS = [
    "a",
    "/",
    "//",
    "/a",
    "%25",
    "%61",
    "%%",
    "%2",
    "..",
    ".",
    "a.",
    "-",
    "a-",
    ":",
    "[",
    "[::",
    "1.",
    "0",
    ",",
    ", ",
    ";",
    " ",
    "\t",
    "=",
    "a,b ",
    "eyJ",
    "eyJ.",
    "thk_",
    ";a=",
    "\\",
    "boundary=",
]
INPUTS = [(seed * SIZE)[: SIZE - 1] + end for seed in SEEDS for end in ("", "!", "\x00", "\xff")]
TRUSTED = TrustedProxies(())

CHECKS: dict[str, Callable[[str], object]] = {
    "target": lambda text: Target.parse("/" + text),
    "query": lambda text: Target.parse("/a?" + text),
    "host": is_plain_host,
    "connection": lambda text: connection_tokens(text.encode("latin-1")),
    "request id": lambda text: usable_request_id(text.encode("latin-1")),
    "authorization": lambda text: present(RequestHead.walk([(b"Authorization", text.encode("latin-1"))])),
    "bearer": lambda text: present(
        RequestHead.walk([(b"Authorization", b"Bearer thk_live_" + text.encode("latin-1"))])
    ),
    "key": lambda text: present(RequestHead.walk([(b"X-API-Key", text.encode("latin-1"))])),
    "name": lambda text: RequestHead.walk([(text.encode("latin-1"), b"")]),
    "credential in a path": lambda text: stands_in(text, ""),
    "credential in a query": lambda text: stands_in("/", "token=" + text),
    "credential in a line": lambda text: without_credentials([b"Referer: " + text.encode("latin-1")]),
    "credential among subprotocols": lambda text: has_key(text.encode("latin-1")),
    "subprotocols": lambda text: present(RequestHead.walk([(b"Sec-WebSocket-Protocol", text.encode("latin-1"))])),
    "log line": lambda text: redacted(text[:1_024]),
    "form": lambda text: meter_for("multipart", "multipart/form-data; " + text),
    "forwarded for": lambda text: TRUSTED.client_address("10.0.0.1", text.encode("latin-1")),
}


@pytest.mark.parametrize("check", CHECKS)
def test_every_check_takes_a_time_that_grows_with_its_input_alone(check: str) -> None:
    """A hundred inputs of 8 kB each: milliseconds; a check that went back and forth would take hours for the first."""
    started = time.process_time()
    for text in INPUTS:
        CHECKS[check](text)
    assert time.process_time() - started < 0.01 * len(INPUTS)
