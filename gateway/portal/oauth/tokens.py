"""Makes, renews and revokes tokens. What is revoked is told over the bus after it is in the database."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from hmac import compare_digest
from typing import NamedTuple

import structlog

from gateway.identity.bearers import Bearers
from gateway.identity.signing import CannotSign
from gateway.identity.token_state import TokenState
from gateway.portal.parts import Parts
from policies.identity.principals import Principal, Standing
from policies.identity.refresh import LIFE, SEED_BYTES, Family, Step, judge, mint, read
from policies.identity.tokens import ACCESS_S, ACCESS_TYPE, SERVICE_S, AccessToken, access_claims
from storage.ports import Invalidation, Unavailable
from storage.postgres.ids import Kind, new_id
from storage.postgres.subjects import PostgresSubjects
from storage.postgres.tokens.families import PostgresFamilies, PostgresRevocations

_log = structlog.get_logger("gateway.portal")

FIRST_PARTY = "first-party"
"""The client of people who log in here themselves."""
_REFRESH = "refresh-tokens"


class Issued(NamedTuple):
    """What the token endpoint answers with. ``refresh`` is empty for a service."""

    access: str
    expires_in: int
    scopes: frozenset[str]
    refresh: str = ""


@dataclass(frozen=True, slots=True)
class Renewal:
    """What became of a refresh token: its family, and the newest token if there is one to tell."""

    family: Family | None
    step: Step
    refresh: str = ""


class Tokens:
    """The token service of one portal."""

    def __init__(
        self,
        parts: Parts,
        state: TokenState,
        families: PostgresFamilies,
        revocations: PostgresRevocations,
        subjects: PostgresSubjects,
    ) -> None:
        self.issuer = parts.public_url
        self.state = state
        self.bearers = Bearers(state, subjects, self.issuer)
        self._parts = parts
        self._families = families
        self._revocations = revocations
        self._subjects = subjects
        self._secret = parts.secret_for(_REFRESH)

    def access(
        self,
        principal: Principal,
        scopes: frozenset[str],
        *,
        client_id: str,
        family: str = "",
        audience: str = "",
        life_s: int = ACCESS_S,
    ) -> str:
        """An access token of a principal; ``audience`` is this gateway if nothing else is said.

        Raises Unavailable while nothing can be signed.
        """
        now = self._parts.now()
        issued_s = max(int(now.timestamp()), self.state.not_before(principal.user_id) + 1)
        token = AccessToken(
            id=new_id(Kind.TOKEN),
            subject=principal.user_id,
            tenant_id=principal.tenant_id,
            client_id=client_id,
            scopes=scopes,
            roles=principal.roles,
            issued_s=issued_s,
            expires_s=issued_s + life_s,
            family=family,
        )
        try:
            return self.state.ring.sign(access_claims(token, self.issuer, audience or self.issuer), ACCESS_TYPE, now)
        except CannotSign as error:
            raise Unavailable(f"Tokens cannot be signed: {error}.") from error

    async def subject(self, tenant_id: str, subject: str) -> Principal | None:
        """Who that is now, if in good standing."""
        await self.state.ready()
        found = await self._subjects.identify_subject(tenant_id, subject)
        return found if found is not None and found.standing is Standing.GOOD else None

    def service(self, principal: Principal, scopes: frozenset[str], audience: str) -> Issued:
        """What a service account gets: a short token for one audience, and none to refresh (RFC 6749 section 4.4.3)."""
        access = self.access(principal, scopes, client_id=principal.user_id, audience=audience, life_s=SERVICE_S)
        return Issued(access, SERVICE_S, scopes)

    async def begin(
        self,
        principal: Principal,
        scopes: frozenset[str],
        client_id: str = FIRST_PARTY,
        *,
        address: str = "",
        agent: str = "",
    ) -> Issued:
        """What a person gets who has just proved who it is: the first tokens of a new family."""
        family = await self._families.begin(
            principal.tenant_id,
            principal.user_id,
            client_id=client_id,
            scopes=scopes,
            seed=secrets.token_bytes(SEED_BYTES),
            life=LIFE,
            address=address,
            agent=agent,
        )
        access = self.access(principal, scopes, client_id=client_id, family=family.id)
        return Issued(access, ACCESS_S, scopes, self._minted(family, family.generation))

    async def renew(self, token: str) -> Renewal:
        """Use a refresh token. A family whose token was used twice is ended, and the workers are told."""
        claim = read(token)
        if claim is None:
            return Renewal(None, Step.REFUSED)
        async with self._families.held(claim[0]) as (family, hold):
            step = Step.REFUSED if family is None else judge(family, token, self._secret, self._parts.now())
            newest = 0
            if step is Step.ROTATE:
                newest = await hold.rotate()
            elif step is Step.REUSED:
                await hold.end("reused")
        if family is None or step is Step.REFUSED:
            return Renewal(family, step)
        if step is Step.REUSED:
            _log.warning(
                "a refresh token was used twice: its log-in is ended", family=family.id, user_id=family.user_id
            )
            await self._tell([f"family:{family.id}"])
            return Renewal(family, step)
        return Renewal(family, step, self._minted(family, newest or family.generation))

    async def revoke(self, token: str) -> None:
        """End whatever it is; what is nothing of ours is nothing to end (RFC 7009 section 2.2)."""
        claim = read(token)
        if claim is not None:
            async with self._families.held(claim[0]) as (family, hold):
                genuine = family is not None and compare_digest(
                    mint(family.id, family.seed, claim[1], self._secret), token
                )
                if genuine:
                    await hold.end("revoked")
            if genuine:
                await self._tell([f"family:{claim[0]}"])
            return
        found = await self.bearers.examine(token.encode())
        if isinstance(found, AccessToken):
            made = await self._revocations.revoke(f"token:{found.id}", found.tenant_id)
            await self._tell([made.told])

    async def family_of(self, token: str) -> Family | None:
        """The family of a refresh token that would be taken."""
        claim = read(token)
        if claim is None:
            return None
        async with self._families.held(claim[0]) as (family, _):
            step = Step.REFUSED if family is None else judge(family, token, self._secret, self._parts.now())
        return family if step in (Step.ROTATE, Step.REPEAT) else None

    async def log_out(self, family: str) -> None:
        """Tell that a log-in is over, such as a browser's session, and what descends from it."""
        await self._tell([f"family:{family}"])

    async def log_out_everywhere(self, user_id: str) -> None:
        """End all of a person's log-ins and void every token that is out."""
        ended = await self._families.end_all(user_id)
        made = await self._revocations.revoke(f"subject:{user_id}")
        await self._tell([made.told, *(f"family:{each}" for each in ended)])

    def _minted(self, family: Family, generation: int) -> str:
        return mint(family.id, family.seed, generation, self._secret)

    async def _tell(self, revoked: Sequence[str]) -> None:
        for what in revoked:
            change = Invalidation(revoked=what)
            self.state.hear(change)
            try:
                await self._parts.bus.publish(change)
            except Unavailable as error:
                _log.warning("workers learn of a revocation from the database alone", reason=str(error))
