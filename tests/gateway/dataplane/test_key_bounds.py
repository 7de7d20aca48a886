"""What a key is bound to: networks, routes; that it may rest; and that its last use is known."""

import asyncio
import json
from dataclasses import replace

import pytest

from gateway.dataplane.key_uses import KeyUses
from policies.identity.principals import Standing
from policies.networks import holds, network
from storage.ports import Unavailable
from storage.postgres.keys.uses import KeyUse
from tests.gateway.harness import Gateway


def bound(gateway: Gateway, **changes: object) -> None:
    """The good key, changed."""
    for digest, principal in gateway.keys.by_digest.items():
        gateway.keys.by_digest[digest] = replace(principal, **changes)


@pytest.mark.parametrize(
    ("networks", "status"),
    [([], 200), (["127.0.0.0/8"], 200), (["10.0.0.0/8", "127.0.0.1"], 200), (["10.0.0.0/8"], 403), (["::/0"], 403)],
)
async def test_a_key_works_from_its_networks_alone(gateway: Gateway, networks: list[str], status: int) -> None:
    bound(gateway, networks=tuple(map(network, networks)))
    for _ in range(2):  # asked for, then remembered
        answer = await gateway.ask("GET", "/v1/models")
        assert answer.status == status
    if status == 403:
        assert json.loads(answer.body)["error"]["code"] == "address_not_allowed"
        assert gateway.upstream.seen == []


async def test_a_key_works_on_its_routes_alone(gateway: Gateway) -> None:
    bound(gateway, only_routes=frozenset({"openai.models"}))
    assert (await gateway.ask("GET", "/v1/models")).status == 200
    refused = await gateway.ask("POST", "/v1/listen")
    assert refused.status == 403


async def test_a_key_that_rests_is_refused(gateway: Gateway) -> None:
    bound(gateway, standing=Standing.DISABLED)
    answer = await gateway.ask("GET", "/v1/models")
    assert (answer.status, json.loads(answer.body)["error"]["code"]) == (401, "api_key_disabled")


@pytest.mark.parametrize(
    ("address", "inside"),
    [("192.0.2.7", True), ("::ffff:192.0.2.7", True), ("192.0.3.1", False), ("unix", False), ("", False)],
)
def test_an_address_is_in_a_network_in_either_form(address: str, inside: bool) -> None:
    assert holds((network("192.0.2.0/24"),), address) is inside


async def test_a_last_use_waits_for_a_database_that_is_away(gateway: Gateway) -> None:
    away, written = True, []

    async def write(uses: list[KeyUse]) -> None:
        if away:
            raise Unavailable("PostgreSQL is away")
        written.extend(uses)

    uses = KeyUses(write)
    await gateway.ask("GET", "/v1/models")
    (principal,) = gateway.keys.by_digest.values()
    uses.note(principal, "192.0.2.1", "first")
    await uses.flush()
    uses.note(principal, "192.0.2.2", "second")
    away = False
    await asyncio.gather(uses.flush(), uses.flush())
    assert [(use.address, use.agent) for use in written] == [("192.0.2.2", "second")]
