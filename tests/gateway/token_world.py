"""A gateway that takes tokens: keys, revocations and subjects in memory, and a clock that runs true."""

import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from gateway.identity.assertions import Assertions
from gateway.identity.bearers import Bearers
from gateway.identity.signing import new_key
from gateway.identity.token_state import TokenState
from policies.identity.principals import Method, Principal
from policies.identity.signing_keys import SigningKey, unsigned_from
from policies.identity.tokens import ACCESS_S, ACCESS_TYPE, AccessToken, access_claims
from storage.ports import Unavailable
from storage.token_ports import Revocation
from tests.gateway.harness import PRINCIPAL, Gateway, Options, running
from tests.policies.signing import ISSUER

SEALING_KEY = b"sealing key for tests, 32 bytes!"
MEMBER = replace(PRINCIPAL, method=Method.JWT, key_id="")


class MemorySigningKeys:
    """Keys in a list. ``down`` makes them unreachable; ``asked`` counts questions."""

    def __init__(self) -> None:
        self.found: list[SigningKey] = []
        self.down = False
        self.asked = 0

    async def keys(self) -> Sequence[SigningKey]:
        self.asked += 1
        if self.down:
            raise Unavailable("the database is down")
        return list(self.found)

    async def add_first(self, key: SigningKey) -> bool:
        if self.found:
            return False
        self.found.append(key)
        return True

    async def succeed(self, key: SigningKey, overlap: timedelta) -> None:
        self.found = [replace(old, retiring_at=key.active_at, gone_at=key.active_at + overlap) for old in self.found]
        self.found.append(key)

    async def end(
        self,
        key_id: str,
        now: datetime,
        heir: Callable[[SigningKey, datetime], SigningKey],
        check: Callable[[SigningKey], None] = lambda _: None,
    ) -> SigningKey | None:
        index = next(index for index, key in enumerate(self.found) if key.id == key_id)
        old = self.found[index]
        check(old)
        self.found[index] = replace(old, retiring_at=now, gone_at=now, sealed=None)
        moment = unsigned_from(self.found, now)
        if moment is None:
            return None
        self.found.append(heir(old, moment))
        return self.found[-1]


class MemoryRevocations:
    """Revocations in a list."""

    def __init__(self) -> None:
        self.made: list[Revocation] = []
        self.down = False

    async def revoke(self, what: str, _: str = "") -> Revocation:
        self.made.append(Revocation(what, datetime.now(UTC)))
        return self.made[-1]

    async def since(self, instant: datetime | None) -> Sequence[Revocation]:
        if self.down:
            raise Unavailable("the database is down")
        return [each for each in self.made if instant is None or each.revoked_at >= instant]


class MemorySubjects:
    """Subjects by tenant and name."""

    def __init__(self) -> None:
        self.known: dict[tuple[str, str], Principal] = {("ten_a", "usr_a"): MEMBER}
        self.down = False
        self.asked = 0

    async def identify_subject(self, tenant: str, subject: str) -> Principal | None:
        self.asked += 1
        if self.down:
            raise Unavailable("the database is down")
        return self.known.get((tenant, subject))


@dataclass
class TokenWorld:
    """A running gateway and what stands behind its tokens."""

    gateway: Gateway
    state: TokenState
    keys: MemorySigningKeys
    revocations: MemoryRevocations
    subjects: MemorySubjects
    numbers: int = 0

    def token(self, kind: str = ACCESS_TYPE, **changes: Any) -> str:
        """A new access token of ``usr_a``, or as told; ``iss``, ``aud`` and the like replace the right ones."""
        self.numbers += 1
        now = int(time.time())
        good = AccessToken(
            id=f"tok_{self.numbers}",
            subject="usr_a",
            tenant_id="ten_a",
            client_id="first-party",
            scopes=frozenset({"transcribe"}),
            roles=("member",),
            issued_s=now,
            expires_s=now + ACCESS_S,
            family="fam_a",
        )
        claims = access_claims(good, ISSUER, ISSUER) | changes
        return self.state.ring.sign(claims, kind, datetime.now(UTC))

    async def status(self, token: str) -> int:
        """What the gateway says to a request with this token."""
        return (await self.gateway.ask(key=token)).status


@contextlib.asynccontextmanager
async def token_world(options: Options | None = None, **changes: Any) -> AsyncIterator[TokenWorld]:
    """A gateway that has read its keys."""
    keys, revocations, subjects = MemorySigningKeys(), MemoryRevocations(), MemorySubjects()
    state = TokenState(keys, revocations, SEALING_KEY)
    await state.refresh()
    assertions = Assertions(state, ISSUER)
    options = replace(
        options or Options(), bearers=Bearers(state, subjects, ISSUER), assertion=assertions.of, **changes
    )
    async with running(options) as gateway:
        state.listeners += [gateway.snapshot.forget_tokens, assertions.forget]
        yield TokenWorld(gateway, state, keys, revocations, subjects)


def another_key(active_at: datetime | None = None, algorithm: str = "EdDSA") -> SigningKey:
    """A fresh signing key."""
    now = datetime.now(UTC)
    return new_key(algorithm, SEALING_KEY, created_at=now, active_at=active_at or now)
