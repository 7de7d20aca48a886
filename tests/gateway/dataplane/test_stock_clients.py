"""Credentials in the shapes in which clients and SDKs send them: they work, or are refused with the right code.

What each client sends was read from its source, or seen on the wire; official SDKs are driven in ``test_sdks``
and in ``tests/gateway/demo/test_sdks_through_the_gateway.py``.
"""

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import orjson
import pytest

from tests.gateway.harness import Gateway, Seen, running
from tests.gateway.token_world import token_world

Headers = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Client:
    """What a client sends for a secret, to which path."""

    target: str
    headers: Callable[[str], Headers]
    body: bytes = b"RIFF"


def form(secret: str) -> Headers:
    return [("Authorization", f"Bearer {secret}"), ("Content-Type", "multipart/form-data; boundary=b")]


def basic(pair: str) -> Headers:
    return [("Authorization", f"Basic {base64.b64encode(pair.encode()).decode()}")]


T = "/v1/audio/transcriptions"
CLIENTS: dict[str, Client] = {
    "openai": Client(T, lambda s: [*form(s), ("openai-organization", "org_1"), ("x-stainless-retry-count", "0")]),
    "azure openai": Client(
        f"/openai/deployments/w{T.removeprefix('/v1')}?api-version=2025", lambda s: [("api-key", s)]
    ),
    "groq": Client(f"/openai{T}", form),
    "mistral's documentation": Client(T, lambda s: [("x-api-key", s)]),
    "deepgram": Client("/v1/listen?model=nova-3", lambda s: [("Authorization", f"Token {s}")]),
    "deepgram, access token": Client("/v1/listen?model=nova-3", lambda s: [("Authorization", f"bearer {s}")]),
    "assemblyai": Client("/v2/upload", lambda s: [("authorization", s)]),
    "speechmatics": Client(T, lambda s: [("Authorization", f"Bearer {s}"), ("X-Request-ID", "r-1")]),
    "gladia": Client(T, lambda s: [("x-gladia-key", s)]),
    "elevenlabs": Client("/v1/speech-to-text", lambda s: [("xi-api-key", s)]),
    "rev.ai, mistral": Client(T, form),
    "fal": Client(T, lambda s: [("Authorization", f"Key {s}")]),
    "kong or apisix before": Client(T, lambda s: [("apikey", s)]),
    "x-api-key": Client(T, lambda s: [("X-API-Key", s)]),
    "apikey scheme": Client(T, lambda s: [("Authorization", f"ApiKey {s}")]),
    "curl -u key:": Client(T, lambda s: basic(f"{s}:")),
    "curl -u user:key": Client(T, lambda s: basic(f"me:{s}")),
    "whisper.cpp": Client("/inference", lambda s: [("Authorization", f"Bearer {s}")]),
    "whisper-asr-webservice": Client("/asr?task=transcribe&output=json", lambda s: [("X-API-Key", s)]),
    "speaches, as an OpenAI client": Client("/v1/audio/speech/timestamps", form),
}


def leaks(seen: Seen, secret: str) -> bool:
    """Whether the secret went on, as it is or as Basic carries it."""
    encoded = [base64.b64encode(pair.encode()) for pair in (f"{secret}:", f"me:{secret}")]
    return any(part in seen.head for part in (secret.encode(), *encoded))


@pytest.mark.parametrize("name", CLIENTS)
async def test_a_key_works_in_the_shape_in_which_the_client_sends_it(name: str) -> None:
    """The upstream learns who is asking, and gets the credential in no shape."""
    client = CLIENTS[name]
    async with running() as gateway:
        answer = await gateway.ask("POST", client.target, client.headers(gateway.key), client.body, key=None)
        assert answer.status == 200
        (seen,) = gateway.upstream.seen
        assert (seen.all("X-Tenant-ID"), seen.all("X-API-Key-ID")) == (["ten_a"], ["key_1"])
        assert not leaks(seen, gateway.key)
        assert (seen.target, seen.body) == (client.target, client.body)


FOREIGN = ("api-key", "apikey", "xi-api-key", "x-gladia-key")


@pytest.mark.parametrize("name", CLIENTS)
@pytest.mark.parametrize("secret", ["thk_live_nonsense", "sk-proj-abc", "0123456789abcdef0123456789abcdef01234567"])
async def test_a_bad_key_is_401_in_every_shape_and_goes_nowhere(name: str, secret: str) -> None:
    """In the dialect of the route. In another service's header somebody else's key is no credential at all."""
    client = CLIENTS[name]
    async with running() as gateway:
        headers = client.headers(secret)
        answer = await gateway.ask("POST", client.target, headers, client.body, key=None)
        foreign = headers[0][0] in FOREIGN and not secret.startswith("thk_")
        expected = "missing_credential" if foreign else "invalid_api_key"
        assert (answer.status, code_of(gateway)) == (401, expected)
        assert answer["www-authenticate"].startswith('Bearer realm="tahoe-gateway"')
        said = orjson.loads(answer.body)
        if client.target.startswith("/v1/listen"):
            assert said["err_code"] == expected.upper()
        assert secret.encode() not in answer.body
        assert not gateway.upstream.seen


def code_of(gateway: Gateway) -> object:
    return gateway.lines[-1]["code"]


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "Token", "token", "Key"])
async def test_an_access_token_works_with_every_scheme_of_a_key(scheme: str) -> None:
    """Deepgram's SDK says 'bearer' in lower case, and 'Token' for keys."""
    async with token_world() as world:
        token = world.token()
        answer = await world.gateway.ask(headers=[("Authorization", f"{scheme} {token}")], key=None)
        assert answer.status == 200
        assert token.encode() not in world.gateway.upstream.seen[0].head


PLACES = ["Authorization", "X-API-Key", *FOREIGN]


@pytest.mark.parametrize("one", PLACES)
@pytest.mark.parametrize("two", PLACES)
async def test_two_places_agree_or_the_request_is_refused(one: str, two: str) -> None:
    """H-10: the same key twice is one key; there is no precedence between two."""
    async with running() as gateway:
        other = gateway.add_key(tenant_id="ten_b")
        same = await gateway.ask(headers=[(one, gateway.key), (two, gateway.key)], key=None)
        assert same.status == 200
        differ = await gateway.ask(headers=[(one, gateway.key), (two, other)], key=None)
        assert (differ.status, differ.code) == (400, "conflicting_credentials")
        assert len(gateway.upstream.seen) == 1
