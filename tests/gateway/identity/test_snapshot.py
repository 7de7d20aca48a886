"""Credentials identified already: no cross-talk, no answer that outlives its truth, no question asked twice at once."""

import asyncio
from dataclasses import replace

import pytest

from gateway.identity.digests import digest
from gateway.identity.snapshot import Snapshot
from policies.http.credentials import RANDOM_BYTES, Presented, mint_key
from policies.identity.principals import Principal, Standing
from storage.ports import Invalidation, Unavailable
from tests.gateway.harness import PEPPER, PRINCIPAL, Gateway, MemoryKeys

FRESH_S, STALE_S = 15.0, 60.0


class Clock:
    """Time as an argument."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        """Seconds."""
        return self.now


class Registry(MemoryKeys):
    """A registry whose answers can be held back: it looks first, and answers when ``go`` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.go = asyncio.Event()
        self.go.set()
        self.looked = asyncio.Event()

    async def identify_key(self, key: bytes) -> Principal | None:
        """As the registry does."""
        found = await super().identify_key(key)
        self.looked.set()
        await self.go.wait()
        return found


@pytest.fixture
async def registry() -> Registry:
    return Registry()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def snapshot(registry: Registry, clock: Clock) -> Snapshot:
    return Snapshot(registry, PEPPER, clock, FRESH_S, STALE_S)


def add(registry: MemoryKeys, number: int, **changes: object) -> str:
    """A key of this number and its principal."""
    key = mint_key(number.to_bytes(RANDOM_BYTES))
    registry.by_digest[digest(PEPPER, key.encode())] = replace(PRINCIPAL, key_id=f"key_{number}", **changes)
    return key


def change(registry: MemoryKeys, key: str, **changes: object) -> None:
    """What the registry says from now on."""
    row = digest(PEPPER, key.encode())
    registry.by_digest[row] = replace(registry.by_digest[row], **changes)


async def who(snapshot: Snapshot, key: str) -> Principal | None:
    """As the gatekeeper asks."""
    presented = Presented(key.encode())
    entry = snapshot.known(presented)
    if entry is None:
        entry = await snapshot.identify(presented)
    return entry.principal


async def test_an_answer_is_remembered_while_it_is_fresh(snapshot: Snapshot, registry: Registry, clock: Clock) -> None:
    """Then it is asked for again, and the new answer counts."""
    key = add(registry, 1)
    for _ in range(3):
        assert await who(snapshot, key) is not None
    assert registry.asked == 1
    clock.now += FRESH_S
    change(registry, key, standing=Standing.REVOKED)
    found = await who(snapshot, key)
    assert found is not None
    assert found.standing is Standing.REVOKED
    assert registry.asked == 2


async def test_keys_that_share_all_but_one_character_are_strangers(snapshot: Snapshot, registry: Registry) -> None:
    """J-14 (LiteLLM CVE-2026-35030): the whole credential is the key, never a part of it."""
    keys = [
        add(registry, number, tenant_id=f"ten_{number}")
        for number in (*range(1, 40), *(2**k for k in range(8, 130, 4)))
    ]
    for _ in range(2):
        for key in keys:
            found = await who(snapshot, key)
            assert found is not None
            assert found.tenant_id == found.key_id.replace("key", "ten")
    assert registry.asked == len(keys)


async def test_what_cannot_be_a_key_is_never_asked_for_nor_remembered(snapshot: Snapshot, registry: Registry) -> None:
    """A flood of junk costs neither the registry nor the memory anything."""
    good = add(registry, 1)
    for secret in ("x", good[:-1], good + "0", good.swapcase(), " " + good, good + "\n", "thk_live_" + "0" * 28):
        assert await who(snapshot, secret) is None
    assert registry.asked == 0
    assert not snapshot._entries


async def test_an_unknown_key_is_remembered_for_a_moment_only(
    snapshot: Snapshot, registry: Registry, clock: Clock
) -> None:
    """J-14: a poisoned negative entry cannot outlive five seconds, nor an invalidation."""
    key = mint_key((7).to_bytes(RANDOM_BYTES))
    assert await who(snapshot, key) is None
    assert await who(snapshot, key) is None
    assert registry.asked == 1
    add(registry, 7)
    clock.now += 5.0
    assert await who(snapshot, key) is not None


@pytest.mark.parametrize(
    "what",
    [Invalidation(), Invalidation(tenant_id="ten_a"), Invalidation(tenant_id="ten_b"), Invalidation(key_id="key_9")],
)
async def test_any_change_forgets_who_was_unknown(snapshot: Snapshot, registry: Registry, what: Invalidation) -> None:
    """A key that was just created works at once, whatever the message about it names."""
    key = mint_key((7).to_bytes(RANDOM_BYTES))
    assert await who(snapshot, key) is None
    add(registry, 7)
    snapshot.forget(what)
    assert await who(snapshot, key) is not None


async def test_a_revocation_is_believed_at_once(snapshot: Snapshot, registry: Registry) -> None:
    """A-07, J-14: forgotten, and asked for again, by key, by tenant, and all of them."""
    for what in (
        Invalidation(key_id="key_1"),
        Invalidation(tenant_id="ten_a"),
        Invalidation(),
        Invalidation("ten_a", "key_1"),
    ):
        key = add(registry, 1)
        snapshot.forget(Invalidation())
        assert await who(snapshot, key) is not None
        change(registry, key, standing=Standing.REVOKED)
        snapshot.forget(what)
        found = await who(snapshot, key)
        assert found is not None
        assert found.standing is Standing.REVOKED


async def test_what_a_change_does_not_touch_stays(snapshot: Snapshot, registry: Registry) -> None:
    """One tenant's change costs the other tenants no question."""
    mine, theirs, other = add(registry, 1), add(registry, 2, tenant_id="ten_b"), add(registry, 3)
    for key in (mine, theirs, other):
        await who(snapshot, key)
    snapshot.forget(Invalidation(key_id="key_1"))
    await who(snapshot, theirs)
    await who(snapshot, other)
    assert registry.asked == 3
    snapshot.forget(Invalidation(tenant_id="ten_a"))
    await who(snapshot, theirs)
    assert registry.asked == 3
    await who(snapshot, other)
    assert registry.asked == 4


async def test_an_answer_that_a_revocation_overtook_is_not_kept(snapshot: Snapshot, registry: Registry) -> None:
    """The registry looked before the revocation and answered after it."""
    key = add(registry, 1)
    registry.go.clear()
    asking = asyncio.get_running_loop().create_task(who(snapshot, key))
    await registry.looked.wait()
    change(registry, key, standing=Standing.REVOKED)
    snapshot.forget(Invalidation(key_id="key_1"))
    registry.go.set()
    await asking
    found = await who(snapshot, key)
    assert found is not None
    assert found.standing is Standing.REVOKED


async def test_who_asks_after_a_revocation_does_not_share_a_question_from_before(
    snapshot: Snapshot, registry: Registry
) -> None:
    """Guarantee 4: a question under way when the revocation arrives is no answer for those who come later."""
    key = add(registry, 1)
    registry.go.clear()
    early = asyncio.get_running_loop().create_task(who(snapshot, key))
    await registry.looked.wait()
    change(registry, key, standing=Standing.REVOKED)
    snapshot.forget(Invalidation(key_id="key_1"))
    late = asyncio.get_running_loop().create_task(who(snapshot, key))
    await asyncio.sleep(0)
    registry.go.set()
    await early
    found = await late
    assert found is not None
    assert found.standing is Standing.REVOKED
    assert not snapshot._asking


async def test_one_question_is_asked_for_all_who_wait(snapshot: Snapshot, registry: Registry) -> None:
    """F-06: no herd, and nobody's leaving takes the answer from the others."""
    key = add(registry, 1)
    registry.go.clear()
    waiting = [asyncio.get_running_loop().create_task(who(snapshot, key)) for _ in range(50)]
    await registry.looked.wait()
    for task in waiting[:25]:
        task.cancel()
    registry.go.set()
    found = await asyncio.gather(*waiting, return_exceptions=True)
    assert registry.asked == 1
    assert all(isinstance(one, asyncio.CancelledError) for one in found[:25])
    assert {one.key_id for one in found[25:] if isinstance(one, Principal)} == {"key_1"}


async def test_shared_questions_of_two_keys_do_not_mix(snapshot: Snapshot, registry: Registry) -> None:
    """C-12, J-14 (Traefik CVE-2026-71326): each waits for its own."""
    keys = [add(registry, number, tenant_id=f"ten_{number}") for number in (1, 2)]
    registry.go.clear()
    waiting = [asyncio.get_running_loop().create_task(who(snapshot, keys[n % 2])) for n in range(50)]
    await registry.looked.wait()
    registry.go.set()
    found = await asyncio.gather(*waiting)
    assert [one.tenant_id for one in found if one is not None] == ["ten_1", "ten_2"] * 25
    assert registry.asked == 2


async def test_while_the_registry_is_down_a_known_key_is_believed_until_it_is_stale(
    snapshot: Snapshot, registry: Registry, clock: Clock
) -> None:
    """Then nobody knows: Unavailable, which is 503 and never 401; and no negative entry is made of it."""
    key = add(registry, 1)
    await who(snapshot, key)
    registry.down = True
    clock.now += STALE_S - 0.1
    assert await who(snapshot, key) is not None
    clock.now += 0.2
    with pytest.raises(Unavailable):
        await who(snapshot, key)
    registry.down = False
    assert await who(snapshot, key) is not None


async def test_while_the_registry_is_down_what_was_revoked_is_not_believed(
    snapshot: Snapshot, registry: Registry
) -> None:
    """An old answer that an invalidation named is gone, however short the registry's failure."""
    key = add(registry, 1)
    await who(snapshot, key)
    registry.down = True
    snapshot.forget(Invalidation(key_id="key_1"))
    with pytest.raises(Unavailable):
        await who(snapshot, key)


async def test_while_the_registry_is_down_a_revocation_that_comes_during_the_question_counts(
    snapshot: Snapshot, registry: Registry, clock: Clock
) -> None:
    """The old word is no refuge either when it is forgotten between the question and its failure."""
    key = add(registry, 1)
    await who(snapshot, key)
    clock.now += FRESH_S

    class Failing(Registry):
        async def identify_key(self, _: bytes) -> Principal | None:
            snapshot.forget(Invalidation(key_id="key_1"))
            raise Unavailable("down")

    snapshot._keys = Failing()
    with pytest.raises(Unavailable):
        await who(snapshot, key)


async def test_memory_is_bounded(registry: Registry, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Q-10: an anonymous client with endless well-formed keys makes no more entries than the bound."""
    monkeypatch.setattr("gateway.identity.snapshot._MOST", 10)
    snapshot = Snapshot(registry, PEPPER, clock, FRESH_S, STALE_S)
    for number in range(50):
        await who(snapshot, mint_key(number.to_bytes(RANDOM_BYTES)))
    assert len(snapshot._entries) == 10


async def test_an_expired_key_is_refused_while_its_entry_is_fresh(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Expiry is judged at every request, by the clock, whatever was remembered and permitted before."""
    now = 1_000_000
    monkeypatch.setattr(gateway.proxy._gatekeeper, "_now_ms", lambda: now)
    key = gateway.add_key(expires_ms=1_000_500)
    assert (await gateway.ask(key=key)).status == 200
    now = 1_000_499
    assert (await gateway.ask(key=key)).status == 200
    now = 1_000_500
    assert (await gateway.ask(key=key)).code == "api_key_expired"
    assert gateway.keys.asked == 1


async def test_a_revoked_key_is_refused_on_the_connection_that_used_it(gateway: Gateway) -> None:
    """A-07: whatever a connection remembers of its last header is not who was behind it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    head = f"GET /v1/models HTTP/1.1\r\nHost: a\r\nX-API-Key: {gateway.key}\r\n\r\n".encode()
    statuses = []
    for act in (
        lambda: None,
        lambda: None,
        lambda: gateway.snapshot.forget(Invalidation(key_id="key_1")),
        lambda: None,
    ):
        if len(statuses) == 2:
            change(gateway.keys, gateway.key, standing=Standing.REVOKED)
        act()
        writer.write(head)
        answer = await reader.readuntil(b"}")
        statuses.append(answer.partition(b" ")[2][:3])
        if statuses[-1] == b"401":
            await reader.readuntil(b"}")
    writer.close()
    assert statuses == [b"200", b"200", b"401", b"401"]
