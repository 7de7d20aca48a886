"""One provider: what it says of itself, where a browser is sent, and a code turned into claims that are believed.

Authorization Code with PKCE (OpenID Connect Core section 3.1, RFC 7636, RFC 9700). Everything that the provider says
of itself is read from the one address that the operator gave, and kept for an hour.
"""

import base64
import hashlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote, urlencode

import aiohttp
import structlog
from aiohttp import web

from gateway.configuration.oidc import OidcSettings, is_safe_url
from gateway.identity.jwks import JwksCache
from gateway.tasks import Tasks
from policies.federation import ID_TOKEN_TYPES, Rules, check_id_token
from policies.identity import strict_json
from policies.identity.jws import Jws, parse
from policies.identity.tokens import Fault, Trust, verify
from policies.identity.verification_keys import ALGORITHMS, KeySet
from storage.ports import Unavailable

_log = structlog.get_logger("gateway.portal")

_TIMEOUT_S = 10.0
_LONGEST = 262_144
_KEPT_S = 3_600.0
_PAUSE_S = 5.0
_NEW_KEY = (Fault.UNKNOWN_KEY, Fault.BAD_SIGNATURE, Fault.WRONG_ALGORITHM)
"""How a new key of the provider looks to whoever knows the old ones. Its tokens come from itself: it may be asked."""

PROVIDERS: web.AppKey[Mapping[str, "Provider"]] = web.AppKey("providers")
"""By the names of their tables."""


class Refused(Exception):
    """The provider, or who came from it, is not believed; the text is for the operator's log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metadata:
    """What a provider says of itself (OpenID Connect Discovery section 3), as far as it is needed."""

    authorization_endpoint: str
    token_endpoint: str
    userinfo_endpoint: str
    jwks_uri: str
    posts_secret: bool
    names_itself: bool
    """Whether its answers carry ``iss`` (RFC 9207): then one without is not its answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One log-in on its way. ``since_s`` where the person is to prove itself anew; else None."""

    state: str
    nonce: str
    verifier: str
    since_s: int | None = None


class Provider:
    """See the module. ``clock`` gives monotonic seconds, ``now_s`` the time in seconds."""

    def __init__(
        self,
        name: str,
        settings: OidcSettings,
        redirect_uri: str,
        tasks: Tasks,
        clock: Callable[[], float] = time.monotonic,
        now_s: Callable[[], int] = lambda: int(time.time()),
    ) -> None:
        self.name = name
        self.label = settings.label or name
        self.issuer = settings.issuer
        self.rules: Rules = settings.rules(name)
        self.asks_second_factor = settings.second_factor
        self._settings = settings
        self._redirect_uri = redirect_uri
        self._tasks = tasks
        self._clock = clock
        self._now_s = now_s
        self._metadata: Metadata | None = None
        self._until = self._rests_until = -1.0
        self._jwks: tuple[str, JwksCache] | None = None

    async def authorization_url(self, asked: Request) -> str:
        """Where the browser goes. Raises Unavailable."""
        metadata = await self.metadata()
        query = {
            "response_type": "code",
            "client_id": self._settings.client_id,
            "redirect_uri": self._redirect_uri,
            "scope": " ".join(self._settings.scopes),
            "state": asked.state,
            "nonce": asked.nonce,
            "code_challenge": _challenge(asked.verifier),
            "code_challenge_method": "S256",
        }
        if asked.since_s is not None:
            query |= {"max_age": "0", "prompt": "login"}
        join = "&" if "?" in metadata.authorization_endpoint else "?"
        return f"{metadata.authorization_endpoint}{join}{urlencode(query, quote_via=quote)}"

    async def check_sender(self, issuer: str | None) -> None:
        """That an answer is this provider's and no other's (mix-up, RFC 9207 section 2.4). Raises Refused."""
        if issuer is not None and issuer != self.issuer:
            raise Refused(f"an answer of {issuer[:200]!r} came to the address for {self.issuer!r}")
        if issuer is None and (await self.metadata()).names_itself:
            raise Refused("the answer does not say whose it is, and this provider's do")

    async def redeem(self, code: str, asked: Request) -> Mapping[str, Any]:
        """The claims that the provider vouches for. Raises Refused and Unavailable."""
        metadata = await self.metadata()
        answer = await self._ask_for_token(metadata, code, asked)
        text = answer.get("id_token")
        jws = parse(text.encode("utf-8", "replace")) if isinstance(text, str) else None
        if jws is None:
            raise Refused("the answer holds no identity token that can be read")
        claims = await self._verified(metadata, jws)
        fault = check_id_token(
            claims, client_id=self._settings.client_id, nonce=asked.nonce, signed_in_since_s=asked.since_s
        )
        if fault is not None:
            raise Refused(f"its identity token is not for this log-in: {fault}")
        access = answer.get("access_token")
        if "email" not in claims and metadata.userinfo_endpoint and isinstance(access, str):
            told = await self._userinfo(metadata, access, str(claims["sub"]))
            # Whether an address is verified is said by whoever says the address.
            return {**told, **claims, "email_verified": told.get("email_verified")}
        return claims

    async def metadata(self) -> Metadata:
        """What it says of itself. Raises Unavailable; old words are good while new ones cannot be had."""
        now = self._clock()
        if self._metadata is not None and now < max(self._until, self._rests_until):
            return self._metadata
        if now < self._rests_until:
            raise Unavailable(f"The provider {self.name} did not answer a moment ago.")
        try:
            url = f"{self.issuer.rstrip('/')}/.well-known/openid-configuration"
            self._metadata = _read_metadata(await _json("GET", url), self.issuer)
            self._until = self._clock() + _KEPT_S
        except (Refused, Unavailable) as error:
            self._rests_until = self._clock() + _PAUSE_S
            _log.warning("a sign-in provider cannot be used", provider=self.name, reason=str(error))
            if self._metadata is None:
                raise Unavailable(f"The provider {self.name} cannot be used: {error}") from error
        return self._metadata

    async def _verified(self, metadata: Metadata, jws: Jws) -> Mapping[str, Any]:
        if self._jwks is None or self._jwks[0] != metadata.jwks_uri:
            self._jwks = metadata.jwks_uri, JwksCache(metadata.jwks_uri, ALGORITHMS, self._tasks)
        cache = self._jwks[1]
        claims = self._judge(jws, await cache.keys())
        if claims in _NEW_KEY:
            claims = self._judge(jws, await cache.look_again())
        if isinstance(claims, Fault):
            raise Refused(f"its identity token is not believed: {claims}")
        return claims

    def _judge(self, jws: Jws, keys: KeySet) -> Mapping[str, Any] | Fault:
        trust = Trust(
            issuer=self.issuer,
            audience=self._settings.client_id,
            keys=keys,
            types=ID_TOKEN_TYPES,
            sole_audience=False,
        )
        return _first_good(verify(one, trust, self._now_s()) for one in _with_keys(jws, keys))

    async def _ask_for_token(self, metadata: Metadata, code: str, asked: Request) -> Mapping[str, Any]:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._redirect_uri,
            "code_verifier": asked.verifier,
        }
        headers = {}
        client_id, secret = self._settings.client_id, self._settings.client_secret
        if secret is None:
            form["client_id"] = client_id
        elif metadata.posts_secret:
            form |= {"client_id": client_id, "client_secret": secret.get_secret_value()}
        else:  # RFC 6749 section 2.3.1: each half is form-encoded before they are joined
            pair = f"{quote(client_id, safe='')}:{quote(secret.get_secret_value(), safe='')}"
            headers["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
        return await _json("POST", metadata.token_endpoint, data=form, headers=headers)

    async def _userinfo(self, metadata: Metadata, access: str, subject: str) -> Mapping[str, Any]:
        """OpenID Connect Core section 5.3.2: what is said of another subject is said of nobody."""
        if not access.isascii() or not access.isprintable():
            raise Refused("its access token cannot be sent")
        found = await _json("GET", metadata.userinfo_endpoint, headers={"Authorization": f"Bearer {access}"})
        if found.get("sub") != subject:
            raise Refused("its user information is about somebody else")
        return found


def _with_keys(jws: Jws, keys: KeySet) -> Sequence[Jws]:
    """A token that names no key may be under any one of its algorithm.

    OpenID Connect Core section 10.1 allows that where there is but one; while keys change there are two.
    """
    fitting = [key.id for key in keys.keys.values() if key.algorithm == jws.algorithm] if not jws.key_id else []
    return [replace(jws, key_id=key_id) for key_id in fitting] or [jws]


def _first_good(verdicts: Iterable[Mapping[str, Any] | Fault]) -> Mapping[str, Any] | Fault:
    """The claims under the first key that they are signed with; else the last reason against them."""
    found: Mapping[str, Any] | Fault = Fault.UNKNOWN_KEY
    for found in verdicts:
        if not isinstance(found, Fault):
            break
    return found


def _challenge(verifier: str) -> str:
    """RFC 7636 section 4.2, S256."""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")


def _read_metadata(found: Mapping[str, Any], issuer: str) -> Metadata:
    if found.get("issuer") != issuer:
        raise Refused(f"it calls itself {str(found.get('issuer'))[:200]!r}, not {issuer!r}")
    urls = {name: found.get(name) for name in ("authorization_endpoint", "token_endpoint", "jwks_uri")}
    userinfo = found.get("userinfo_endpoint", "")
    for name, url in (urls | ({"userinfo_endpoint": userinfo} if userinfo else {})).items():
        # The address that browsers go to may have a query; secrets go to the others.
        plain = str(url).partition("?")[0] if name == "authorization_endpoint" else url
        if not isinstance(url, str) or not is_safe_url(str(plain)) or not url.isprintable() or " " in url:
            raise Refused(f"its {name} is no https address")
    if "S256" not in _texts(found, "code_challenge_methods_supported", "S256"):
        raise Refused("it does not know PKCE with S256")
    methods = _texts(found, "token_endpoint_auth_methods_supported", "client_secret_basic")
    return Metadata(
        authorization_endpoint=str(urls["authorization_endpoint"]),
        token_endpoint=str(urls["token_endpoint"]),
        userinfo_endpoint=str(userinfo),
        jwks_uri=str(urls["jwks_uri"]),
        posts_secret="client_secret_basic" not in methods and "client_secret_post" in methods,
        names_itself=found.get("authorization_response_iss_parameter_supported") is True,
    )


def _texts(found: Mapping[str, Any], name: str, default: str) -> Sequence[str]:
    value = found.get(name, [default])
    return [each for each in value if isinstance(each, str)] if isinstance(value, list) else []


async def _json(method: str, url: str, **more: Any) -> Mapping[str, Any]:
    """A JSON object from the provider. Raises Refused: whatever else it says, and Unavailable: nothing at all."""
    headers = {"Accept": "application/json", **more.pop("headers", {})}
    timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False) as session,
            session.request(method, url, allow_redirects=False, headers=headers, **more) as answer,
        ):
            body = await answer.content.read(_LONGEST)
            while len(body) < _LONGEST and (piece := await answer.content.read(_LONGEST)):
                body += piece
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise Unavailable(f"The sign-in provider cannot be asked: {str(error) or type(error).__name__}") from error
    if answer.status >= 500:
        raise Unavailable(f"The sign-in provider answers {answer.status}.")
    try:
        found = strict_json.read(body.decode("utf-8"))
    except ValueError:
        found = None
    if answer.status != 200 or not isinstance(found, dict):
        said = found.get("error") if isinstance(found, dict) else "no JSON object"
        raise Refused(f"{url.partition('?')[0]} answers {answer.status}: {str(said)[:100]}")
    return found
