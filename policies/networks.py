"""Addresses and networks, as operators and proxies write them, in one form."""

import ipaddress
from collections.abc import Sequence

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_WIDEST = {4: 8, 6: 16}
"""The shortest prefix that still names somebody: 10.0.0.0/8 is a private network, 8.0.0.0/7 a part of the internet."""
_PRIVATE = (ipaddress.IPv6Network("fc00::/7"), ipaddress.IPv6Network("fe80::/10"))
_HALF = {4: 2**31, 6: 2**124}
"""So many addresses are half of IPv4, and of the eighth of IPv6 that is in use (2000::/3)."""


def proxies(written: Sequence[object]) -> tuple[Network, ...]:
    """Addresses and networks of proxies, empty entries left out. Raises ValueError with a sentence for the operator.

    As wide as the internet is refused, in one piece or in several: it would mean that everybody is believed
    (oauth2-proxy CVE-2026-76835). A network of IPv4-mapped addresses is the IPv4 network that it stands for.
    """
    networks, faults = [], []
    for part in written:
        if isinstance(part, str) and not part.strip():
            continue
        try:
            networks.append(_proxy(part))
        except ValueError as fault:
            faults.append(str(fault))
    if faults:
        raise ValueError("; ".join(faults))
    for version, half in _HALF.items():
        public = {n for n in networks if n.version == version and not _is_private(n)}
        if sum(n.num_addresses for n in public) >= half:
            raise ValueError("together these networks would trust everybody; name your proxies' own addresses")
    return tuple(networks)


def _proxy(part: object) -> Network:
    network = _unmapped(part if isinstance(part, Network) else ipaddress.ip_network(_text(part), strict=False))
    if network.prefixlen == 0:
        raise ValueError(f"{network} would trust everybody; name your proxies' own addresses")
    if network.prefixlen < _WIDEST[network.version] and not _is_private(network):
        raise ValueError(f"{network} would trust much of the internet; name your proxies' own addresses")
    return network


def network(written: str) -> Network:
    """An address or a network in its one form. Raises ValueError with a sentence."""
    try:
        return _unmapped(ipaddress.ip_network(written.strip(), strict=False))
    except ValueError:
        raise ValueError(f"{written!r} is not an address or a network such as 192.0.2.0/24") from None


def holds(networks: Sequence[Network], address: str) -> bool:
    """Whether an address is in one of the networks. What is no address, such as a socket file's end, is in none."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return any((mapped or parsed) in network for network in networks)


def customer(address: str) -> str | None:
    """What one customer is known by: an IPv4 address, or the /64 of an IPv6 one, the least that a customer is given.

    None for what is no address.
    """
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return None
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    return str(parsed.ipv4_mapped or ipaddress.IPv6Address(int(parsed) >> 64 << 64))


def _text(part: object) -> str:
    if not isinstance(part, str):
        raise ValueError(f"{part!r} is not an address or a network")  # noqa: TRY004  pydantic makes a sentence of it
    return part.strip()


def _unmapped(network: Network) -> Network:
    if isinstance(network, ipaddress.IPv6Network) and network.prefixlen >= 96:
        mapped = network.network_address.ipv4_mapped
        if mapped is not None:
            return ipaddress.IPv4Network((mapped, network.prefixlen - 96))
    return network


def _is_private(network: Network) -> bool:
    return isinstance(network, ipaddress.IPv6Network) and any(network.subnet_of(private) for private in _PRIVATE)


def address(written: str) -> str | None:
    """An address in its one form, or None: ``::ffff:10.0.0.1`` is ``10.0.0.1``, capitals and leading zeros go.

    With a port behind it, as some balancers write their peers (``10.0.0.1:4711``, ``[::1]:4711``), the port goes. An
    address with a zone (``fe80::1%eth0``) means something on one machine only, and a zone may hold anything: None.
    """
    text = written.strip()
    if text.startswith("["):
        text, bracket, port = text[1:].partition("]")
        if not bracket or not _is_port(port, optional=True):
            return None
    elif text.count(":") == 1:
        text, _, port = text.partition(":")
        if not _is_port(f":{port}"):
            return None
    if "%" in text:
        return None
    try:
        parsed = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return str(mapped or parsed)


def _is_port(text: str, *, optional: bool = False) -> bool:
    digits = text.removeprefix(":")
    return (optional and not text) or (text != digits and digits.isascii() and digits.isdigit() and len(digits) <= 5)


def lie_within(inner: Sequence[str], outer: Sequence[str]) -> bool:
    """Whether each of the inner networks is part of an outer one. No networks are everywhere, and lie within none."""
    wide = [network(text) for text in outer]
    return bool(inner) and all(
        any(each.version == one.version and each.subnet_of(one) for one in wide)  # type: ignore[arg-type]
        for each in map(network, inner)
    )
