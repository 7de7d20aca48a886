"""What the OAuth endpoints stand on, opened with the application."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

from aiohttp import web

from gateway.identity.token_state import TokenState
from gateway.portal.oauth.tokens import Tokens
from gateway.portal.parts import PARTS
from storage.postgres.subjects import PostgresSubjects
from storage.postgres.tokens.families import PostgresFamilies, PostgresRevocations
from storage.postgres.tokens.service_accounts import PostgresServiceAccounts


@dataclass(frozen=True, slots=True)
class OAuth:
    """The token service, and the clients that it knows."""

    tokens: Tokens
    accounts: PostgresServiceAccounts


OAUTH = web.AppKey("oauth", OAuth)


async def lifetime(app: web.Application) -> AsyncIterator[None]:
    """Keys and revocations are kept up to date for as long as the portal runs."""
    parts = app[PARTS]
    state = TokenState.over(parts.pool, parts.secret_key)
    parts.listeners.append(state.hear)
    tokens = Tokens(
        parts,
        state,
        PostgresFamilies(parts.pool, parts.trail),
        PostgresRevocations(parts.pool, parts.trail),
        PostgresSubjects(parts.pool),
    )
    app[OAUTH] = OAuth(tokens, PostgresServiceAccounts(parts.pool, parts.trail))
    running = parts.tasks.start(state.run(), "tokens")
    yield
    running.cancel()
