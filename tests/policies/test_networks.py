"""An address has one form, and what is none is None."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.networks import address, customer, proxies


@pytest.mark.parametrize(
    ("written", "plain"),
    [
        ("1.2.3.4", "1.2.3.4"), (" 1.2.3.4\t", "1.2.3.4"), ("1.2.3.4:80", "1.2.3.4"), ("2001:DB8::0:1", "2001:db8::1"),
        ("[::1]", "::1"), ("[::1]:80", "::1"), ("::ffff:1.2.3.4", "1.2.3.4"), ("[::ffff:1.2.3.4]:65535", "1.2.3.4"),
        ("[1.2.3.4]:80", "1.2.3.4"),
        ("", None), ("unix", None), ("unknown", None), ("_hidden", None), ("1.2.3", None), ("01.2.3.4", None),
        ("1.2.3.4:", None), ("1.2.3.4:x", None), ("1.2.3.4:-1", None), ("1.2.3.4:123456", None), ("1.2.3.4:²", None),
        ("[::1", None), ("[::1]80", None), ("[::1]:", None), ("::1]", None), ("fe80::1%eth0", None),
        ("[fe80::1%x]:80", None), ("1.2.3.4, 5.6.7.8", None), ("for=1.2.3.4", None), ("1.2.3.4/32", None),
        ('"[::1]"', None), ("1.2.3.4\x00", None),
    ],
)  # fmt: skip
def test_an_address_is_read_in_one_way(written: str, plain: str | None) -> None:
    assert address(written) == plain


@given(st.one_of(st.ip_addresses(), st.ip_addresses(network="::ffff:0:0/96")), st.integers(0, 65_535))
def test_every_address_has_one_form_with_a_port_and_without(made: object, port: int) -> None:
    plain = address(str(made))
    assert plain is not None
    assert address(plain) == plain
    written = f"[{made}]" if isinstance(made, ipaddress.IPv6Address) else str(made)
    assert address(f"{written}:{port}") == plain
    (network,) = proxies([str(made)])
    assert ipaddress.ip_address(plain) in network


@given(st.text(max_size=30))
def test_any_text_is_an_address_or_none(text: str) -> None:
    """Nothing of it survives that a log line, a key of a limit or a header could be surprised by."""
    plain = address(text)
    assert plain is None or str(ipaddress.ip_address(plain)) == plain


@pytest.mark.parametrize(
    ("written", "known"),
    [
        ("192.0.2.7", "192.0.2.7"), ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"), ("2001:db8:1:2::9", "2001:db8:1:2::"),
        ("::ffff:192.0.2.7", "192.0.2.7"), ("", None), ("unix", None),
    ],
)  # fmt: skip
def test_a_customer_has_one_ipv4_address_or_a_whole_64_of_ipv6(written: str, known: str | None) -> None:
    """Q-04: who has a /64 has as many addresses as there are."""
    assert customer(written) == known
