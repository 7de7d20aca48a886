"""The keys that sign tokens, for operators."""

from typing import Any

from gateway.identity.signing import SEALING, heirs, successor
from gateway.portal.api.operations import Ask, Nothing, Operations, Sent, Shown
from gateway.portal.api.paging import OldestFirst, Page
from gateway.portal.api.shapes import Instant, stamp
from policies.identity.permissions import Permission
from policies.identity.signing_keys import OVERLAP, SigningKey, Stage
from storage.ports import Invalidation, NotFound
from storage.postgres.tokens.signing_keys import PostgresSigningKeys

operations = Operations("signing-keys")


class SigningKeyShown(Shown):
    """A key: published, then signing, then believed for a while, then gone."""

    id: str
    algorithm: str
    stage: Stage
    created_at: Instant
    active_at: Instant
    retiring_at: Instant | None
    gone_at: Instant | None


class SigningKeyList(OldestFirst, Sent):
    """Which keys."""

    stage: Stage | None = None


@operations.get("/signing-keys", Permission.PLATFORM_READ, query=SigningKeyList, answer=Page[SigningKeyShown])
async def list_signing_keys(ask: Ask[SigningKeyList, Any]) -> Page[SigningKeyShown]:
    """All keys in the order in which they become active, or the other way round, those that are gone included."""
    query, now = ask.query, ask.parts.now()
    kept = [key for key in await _keys(ask).keys() if query.stage in (None, key.stage(now))]
    page, following = ask.cursors.cut(kept, query, lambda key: (stamp(key.active_at), key.id))
    return Page(data=[_shown(ask, key) for key in page], next_cursor=following)


@operations.post("/signing-keys", Permission.PLATFORM_WRITE, query=Nothing, answer=SigningKeyShown)
async def rotate_signing_keys(ask: Ask[Nothing, Any]) -> SigningKeyShown:
    """Make a new key that takes over in some minutes. What the old one signed stays good until it expires."""
    keys, now = _keys(ask), ask.parts.now()
    made = successor(await keys.keys(), ask.parts.secret_for(SEALING), now)
    await keys.succeed(made, OVERLAP)
    await ask.announce(Invalidation())
    return _shown(ask, made)


@operations.get("/signing-keys/{kid}", Permission.PLATFORM_READ, query=Nothing, answer=SigningKeyShown)
async def show_signing_key(ask: Ask[Nothing, Any]) -> SigningKeyShown:
    """One key, also one that is gone."""
    kid = ask.path("kid")
    for key in await _keys(ask).keys():
        if key.id == kid:
            return _shown(ask, key)
    raise NotFound(f"There is no signing key {kid!r}.")


@operations.delete("/signing-keys/{kid}", Permission.PLATFORM_WRITE, query=Nothing)
async def revoke_signing_key(ask: Ask[Nothing, Any]) -> None:
    """Believe a key no more, from now on: what it signed is refused within seconds, and another takes its place."""
    now = ask.parts.now()
    await _keys(ask).end(
        ask.path("kid"),
        now,
        heirs(ask.parts.secret_for(SEALING), now),
        lambda current: ask.check_version(_shown(ask, current)),
    )
    await ask.announce(Invalidation())


def _keys(ask: Ask[Any, Any]) -> PostgresSigningKeys:
    return PostgresSigningKeys(ask.parts.pool, ask.trail)


def _shown(ask: Ask[Any, Any], key: SigningKey) -> SigningKeyShown:
    return SigningKeyShown(
        id=key.id,
        algorithm=key.algorithm,
        stage=key.stage(ask.parts.now()),
        created_at=key.created_at,
        active_at=key.active_at,
        retiring_at=key.retiring_at,
        gone_at=key.gone_at,
    )
