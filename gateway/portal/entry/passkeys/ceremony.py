"""What an authenticator is asked, and whether its answer is one to that: every challenge is good once, for minutes."""

import ipaddress
import secrets
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import orjson
import webauthn
from aiohttp import web
from webauthn.helpers import base64url_to_bytes
from webauthn.helpers.exceptions import WebAuthnException
from webauthn.helpers.structs import (
    AuthenticatorSelectionCriteria,
    AuthenticatorTransport,
    CredentialDeviceType,
    PublicKeyCredentialDescriptor,
    ResidentKeyRequirement,
    UserVerificationRequirement,
)

from gateway.portal.caller import user_agent
from gateway.portal.entry.agents import browser_name
from gateway.portal.entry.identity import IDENTITY, trail
from gateway.portal.parts import PARTS
from gateway.portal.web.crosssite import token
from gateway.portal.web.problem import Problem
from policies.http.verdict import Refusal
from policies.identity import strict_json
from storage.postgres.people.passkeys import NewPasskey, Passkey, PostgresPasskeys
from storage.redis.client import asking

_LIFE_S = 300
_PURPOSE = "passkeys"
_BYTES = 32
_MOST_TRANSPORTS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a passkey belongs: the relying party's id (a host name) and the origin of its pages."""

    host: str
    origin: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """Whose a new passkey is to be, as its authenticator keeps and shows it."""

    id: str
    email: str
    name: str


def place(request: web.Request) -> Place | None:
    """This gateway's; None where browsers offer none: at an address, and without TLS but on this machine."""
    parts = urlsplit(request.app[PARTS].public_url)
    host = parts.hostname or ""
    if _is_address(host) or (parts.scheme != "https" and host != "localhost"):
        return None
    return Place(host=host, origin=f"{parts.scheme}://{parts.netloc}")


def takes_passkeys(request: web.Request) -> bool:
    """Whether pages offer passkeys at all."""
    return place(request) is not None


def stored(request: web.Request) -> PostgresPasskeys:
    """The passkeys, as this request may change them."""
    return PostgresPasskeys(request.app[PARTS].pool, trail(request))


async def registration(request: web.Request, owner: Owner, known: list[Passkey], bound_to: str) -> str:
    """What to ask for a new one, as JSON. It must know its person and ask it for a PIN or a finger."""
    challenge = await _challenge(request, f"register:{owner.id}:{bound_to}")
    options = webauthn.generate_registration_options(
        rp_id=_here(request).host,
        rp_name="Tahoe",
        user_id=owner.id.encode(),
        user_name=owner.email,
        user_display_name=owner.name or owner.email,
        challenge=challenge,
        authenticator_selection=AuthenticatorSelectionCriteria(
            resident_key=ResidentKeyRequirement.REQUIRED, user_verification=UserVerificationRequirement.REQUIRED
        ),
        exclude_credentials=[_descriptor(one) for one in known],
    )
    return webauthn.options_to_json(options)


async def registered(
    request: web.Request, user_id: str, credential: dict[str, Any], bound_to: str, name: str = ""
) -> NewPasskey:
    """The new passkey; without a ``name`` it is called as the browser. Raises Problem."""
    challenge = await _take(request, credential, f"register:{user_id}:{bound_to}")
    here = _here(request)
    try:
        made = webauthn.verify_registration_response(
            credential=credential, expected_challenge=challenge, expected_rp_id=here.host, expected_origin=here.origin,
            require_user_verification=True,
        )  # fmt: skip
    except (WebAuthnException, ValueError, KeyError, TypeError) as error:
        raise Problem(Refusal.PASSKEY_FAILED) from error
    transports = credential["response"].get("transports")
    return NewPasskey(
        credential=made.credential_id,
        public_key=made.credential_public_key,
        sign_count=made.sign_count,
        transports=[str(each)[:20] for each in transports][:_MOST_TRANSPORTS] if isinstance(transports, list) else [],
        synced=made.credential_device_type is CredentialDeviceType.MULTI_DEVICE,
        name=name.strip() or browser_name(user_agent(request)),
    )


async def question(request: web.Request, why: str, allowed: list[Passkey] | None = None) -> str:
    """What to ask to sign in, as JSON; ``allowed`` None: whatever passkey the person has here."""
    challenge = await _challenge(request, f"{why}:{token(request)}")
    options = webauthn.generate_authentication_options(
        rp_id=_here(request).host,
        challenge=challenge,
        allow_credentials=None if allowed is None else [_descriptor(one) for one in allowed],
        user_verification=UserVerificationRequirement.REQUIRED,
    )
    return webauthn.options_to_json(options)


async def answered(request: web.Request, why: str, credential: dict[str, Any]) -> Passkey:
    """The passkey that was used; its person was there and proved it to the authenticator. Raises Problem."""
    challenge = await _take(request, credential, f"{why}:{token(request)}")
    here = _here(request)
    try:
        found = await stored(request).find(base64url_to_bytes(str(credential["rawId"])))
        if found is None or credential["response"].get("userHandle") not in (None, _handle(found.user_id)):
            raise Problem(Refusal.PASSKEY_FAILED)
        verified = webauthn.verify_authentication_response(
            credential=credential, expected_challenge=challenge, expected_rp_id=here.host, expected_origin=here.origin,
            credential_public_key=found.public_key, credential_current_sign_count=found.sign_count,
            require_user_verification=True,
        )  # fmt: skip
    except (WebAuthnException, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Problem(Refusal.PASSKEY_FAILED) from error
    synced = verified.credential_device_type is CredentialDeviceType.MULTI_DEVICE
    if not await stored(request).use(found, verified.new_sign_count, synced=synced):
        raise Problem(Refusal.PASSKEY_FAILED)
    return found


def _here(request: web.Request) -> Place:
    here = place(request)
    if here is None:
        raise Problem(Refusal.NOT_FOUND)
    return here


def _descriptor(one: Passkey) -> PublicKeyCredentialDescriptor:
    known = {transport.value for transport in AuthenticatorTransport}
    transports = [AuthenticatorTransport(name) for name in one.transports if name in known]
    return PublicKeyCredentialDescriptor(id=one.credential, transports=transports or None)


def _handle(user_id: str) -> str:
    return webauthn.helpers.bytes_to_base64url(user_id.encode())


async def _challenge(request: web.Request, what_for: str) -> bytes:
    challenge = secrets.token_bytes(_BYTES)
    with asking():
        await request.app[PARTS].redis.set(_key(request, challenge), what_for.encode(), ex=_LIFE_S)
    return challenge


async def _take(request: web.Request, credential: dict[str, Any], what_for: str) -> bytes:
    """The challenge that the answer is to, which must have been given for this; it is gone with that."""
    try:
        said = strict_json.read(base64url_to_bytes(credential["response"]["clientDataJSON"]).decode())["challenge"]
        challenge = base64url_to_bytes(said)
    except (ValueError, KeyError, TypeError) as error:
        raise Problem(Refusal.PASSKEY_FAILED) from error
    with asking():
        kept = await request.app[PARTS].redis.getdel(_key(request, challenge))
    if kept is None or kept != what_for.encode():
        raise Problem(Refusal.PASSKEY_FAILED)
    return challenge


def _key(request: web.Request, challenge: bytes) -> str:
    return f"platform:passkey:{request.app[IDENTITY].digest(_PURPOSE, challenge.hex()).hex()}"


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def json_response(text: str, status: int = 200) -> web.Response:
    """Options, as they are."""
    return web.Response(text=text, status=status, content_type="application/json")


def go_to(response: web.Response) -> web.Response:
    """A redirect with its cookies, for a script: it goes there itself."""
    said = web.Response(body=orjson.dumps({"location": response.headers["Location"]}), content_type="application/json")
    said.cookies.update(response.cookies)
    return said
