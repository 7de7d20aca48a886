"""Events for others: what leaves, how it is signed, when it is tried again, and where it may go."""

import base64
import hashlib
import hmac
from datetime import UTC, datetime, timedelta

import pytest

from policies.account.events import Event, envelope, is_public, is_wanted, next_try, secret_text, signature_headers

AT = datetime(2026, 11, 26, 12, tzinfo=UTC)


def test_the_envelope_is_a_cloud_event() -> None:
    event = Event(id="evt_1", tenant_id="ten_1", type="key.created", subject="key_1", at=AT, data={"name": "ci"})
    assert envelope(event, "https://gw.example") == {
        "specversion": "1.0",
        "id": "evt_1",
        "source": "https://gw.example",
        "type": "key.created",
        "subject": "key_1",
        "time": "2026-11-26T12:00:00.000000Z",
        "datacontenttype": "application/json",
        "tenantid": "ten_1",
        "data": {"name": "ci"},
    }


def test_a_receivers_library_accepts_the_signature() -> None:
    """The algorithm of the Standard Webhooks specification, written down once more."""
    secret, body = b"s" * 32, b'{"a":1}'
    headers = signature_headers([b"new" * 11, secret], "evt_1", AT, body)
    key = base64.b64decode(secret_text(secret).removeprefix("whsec_"))
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.{body.decode()}".encode()
    expected = "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    assert expected in headers["webhook-signature"].split(" ")
    assert len(headers["webhook-signature"].split(" ")) == 2
    assert headers["webhook-timestamp"] == str(int(AT.timestamp()))


@pytest.mark.parametrize(
    ("patterns", "event", "wanted"),
    [
        (["*"], "key.created", True),
        (["key.*"], "key.created", True),
        (["key.created"], "key.created", True),
        (["key.revoked", "user.*"], "key.created", False),
        (["key"], "key.created", False),
        (["ke.*"], "key.created", False),
        ([], "key.created", False),
    ],
)
def test_a_pattern_names_a_type_a_family_or_all(patterns: list[str], event: str, wanted: bool) -> None:
    assert is_wanted(patterns, event) is wanted


def test_tries_go_on_for_more_than_three_days_and_end() -> None:
    waits = []
    while (wait := next_try(len(waits) + 1, 0.0)) is not None:
        waits.append(wait)
    assert waits == sorted(waits)
    assert timedelta(days=3) < sum(waits, timedelta()) < timedelta(days=10)
    assert next_try(1, 1.0) == timedelta(seconds=6)


NOT_PUBLIC = [
    "127.0.0.1", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "255.255.255.255",
    "224.0.0.1", "192.0.2.1", "198.18.0.1", "240.0.0.1", "::", "::1", "fe80::1", "fc00::1", "fd00:ec2::254", "ff02::1",
    "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "64:ff9b:1::1", "2002:7f00:1::", "2001::1", "fec0::1",
    "2001:db8::1", "localhost", "", "1", "0x7f000001", "127.1", "fe80::1%eth0",
]  # fmt: skip


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_an_address_that_may_be_ours_is_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["1.1.1.1", "8.8.8.8", "2606:4700:4700::1111", "::ffff:8.8.8.8"])
def test_an_address_of_the_internet_is_public(address: str) -> None:
    assert is_public(address)
