"""Proof of who somebody is: address and password, and the second factor where there is one. One way for all doors.

Nothing tells an account from none: not the answer, not its time, not the wait after too many tries (L-01 to L-04 in the
catalogue of known attacks). Tries are counted before a password is looked at, so that a storm costs no hashing.
"""

import time

import pyotp
from aiohttp import web

from gateway.portal.caller import client_address
from gateway.portal.entry.identity import IDENTITY, acting, people
from gateway.portal.entry.sealing import unsealed
from gateway.portal.mail import letters
from gateway.portal.mail.posting import post
from gateway.portal.parts import PARTS
from gateway.portal.web.problem import Problem
from policies.audit import Facts
from policies.http.verdict import Refusal
from policies.identity.tenants import UserStatus
from policies.people import Person, Place, Proven, Step
from storage.postgres.people.accounts import Account
from storage.redis.attempts import Bucket, address_names, again_name, code_name

_FREE_BY_ACCOUNT = 5
FREE_BY_ADDRESS = 30
"""An office may be behind one address."""
_FREE_CODES = 5
_STEP_S = 30
RECOVERY_PURPOSE = "recovery-codes"


async def prove(
    request: web.Request, email: str, password: str, *, tenant: str | None = None, code: str | None = None
) -> Proven:
    """Check address and password, and the code if the person has a second factor.

    Raises Unavailable, and Problem: INVALID_LOGIN, TOO_MANY_TRIES, SECOND_FACTOR_REQUIRED, SECOND_FACTOR_MISSING,
    PASSKEY_REQUIRED, INVALID_CODE.
    """
    proven = await prove_password(request, email, password, tenant=tenant)
    match proven.next_step:
        case Step.DONE:
            return proven
        case Step.SET_UP:
            raise Problem(Refusal.SECOND_FACTOR_MISSING)
        case Step.PROVE:
            pass
    if not proven.person.has_second_factor:
        raise Problem(Refusal.PASSKEY_REQUIRED)
    if not code:
        raise Problem(Refusal.SECOND_FACTOR_REQUIRED)
    return proven.and_by(await prove_code(request, proven.person, code))


async def prove_password(request: web.Request, email: str, password: str, *, tenant: str | None = None) -> Proven:
    """The first factor alone. Raises Problem."""
    identity = request.app[IDENTITY]
    identity.hashing.require_room()
    name = await identity.attempts.account_name(email, client_address(request))
    buckets = [Bucket(name, _FREE_BY_ACCOUNT), *_by_address(request, "login", FREE_BY_ADDRESS)]
    lock = await _begin_try(request, buckets)
    known = people(request)
    account = await known.account(email)
    right = await identity.hashing.check(password, account.password_hash if account is not None else None)
    place = _place(account, tenant) if account is not None else None
    if account is None or not right or place is None or account.person.status is not UserStatus.ACTIVE:
        await known.note("login.failed", account.person.id if account is not None else "", email[:254], lock)
        raise Problem(Refusal.INVALID_LOGIN)
    await identity.attempts.forgive(name)
    await identity.attempts.signed_in_from(email, client_address(request))
    for bucket in buckets[1:]:
        await identity.attempts.refund(bucket.name)
    stored = account.password_hash
    if stored is not None and identity.hashing.is_old(stored):
        await known.rehash(account.person.id, stored, await identity.hashing.hash(password, shortest=0))
    return Proven(person=account.person, place=place, methods=("pwd",))


async def prove_code(request: web.Request, person: Person, code: str) -> str:
    """The second factor; ``otp`` or ``mfa`` by how. A step that was used once is used (RFC 6238 section 5.2)."""
    identity = request.app[IDENTITY]
    bucket = Bucket(code_name(person.id), _FREE_CODES)
    lock = await _begin_try(request, [bucket])
    known = people(request, acting(request, person))
    digits = "".join(code.split())
    if digits.isascii() and digits.isdigit() and len(digits) == 6:
        good, method = await _is_current(request, person, digits), "otp"
    else:
        digest = identity.digest(RECOVERY_PURPOSE, f"{person.id}:{plain_code(code)}")
        good, method = await known.use_recovery_code(person.id, digest), "mfa"
    if not good:
        await known.note("second_factor.failed", person.id, person.email, lock)
        raise Problem(Refusal.INVALID_CODE)
    await identity.attempts.forgive(bucket.name)
    if method == "mfa":
        left = await known.recovery_codes_left(person.id)
        await post(request, person.email, *letters.recovery_code_used(request.app[PARTS].public_url, left))
    return method


async def prove_again(request: web.Request, account: Account, password: str) -> None:
    """The password of whoever is signed in already, for what needs it once more. Tries to log in do not count here.

    Raises Problem.
    """
    identity = request.app[IDENTITY]
    identity.hashing.require_room()
    bucket = Bucket(again_name(account.person.id), _FREE_BY_ACCOUNT)
    lock = await _begin_try(request, [bucket])
    if not await identity.hashing.check(password, account.password_hash):
        await people(request).note("login.failed", account.person.id, account.person.email, lock)
        raise Problem(Refusal.WRONG_PASSWORD)
    await identity.attempts.forgive(bucket.name)


def plain_code(code: str) -> str:
    """A recovery code as it is hashed: without blanks and hyphens, in small letters."""
    return "".join(character for character in code.casefold() if character.isalnum())


async def limit(request: web.Request, what: str, *names: str, free: int) -> None:
    """Bound what costs something or tells something: mails, invitations. Raises Problem."""
    await _begin_try(
        request, [*(Bucket(f"{what}:{name}", free) for name in names), *_by_address(request, what, free * 4)]
    )


async def _begin_try(request: web.Request, buckets: list[Bucket]) -> Facts | None:
    """Begin a try. Gives what the audit trail says of it should it fail: whether the next ones are locked out.

    Raises Problem.
    """
    tried = await request.app[IDENTITY].attempts.begin(buckets)
    if tried.wait_s > 0:
        raise Problem(Refusal.TOO_MANY_TRIES, headers={"Retry-After": str(int(tried.wait_s) + 1)})
    return {"locked_s": int(tried.shut_s)} if tried.shut_s else None


async def _is_current(request: web.Request, person: Person, digits: str) -> bool:
    """Whether it is the code of this step or a neighbour, and of no step that was used: the step is taken with it."""
    known = people(request)
    factor = await known.second_factor(person.id)
    if factor is None:
        return False
    generator = pyotp.TOTP(unsealed(request, factor.sealed, person.id))
    now = int(time.time()) // _STEP_S
    for step in (now, now - 1, now + 1):
        if pyotp.utils.strings_equal(generator.generate_otp(step), digits):
            return await known.use_step(person.id, step)
    return False


def _place(account: Account, tenant: str | None) -> Place | None:
    """Where the log-in goes: the tenant that was named, or the first that serves."""
    return next((p for p in account.places if p.active and tenant in (None, "", p.slug, p.tenant_id)), None)


def _by_address(request: web.Request, what: str, free: int) -> list[Bucket]:
    """One bucket for the client's address; none where it is not known."""
    return [
        Bucket(name if what == "login" else f"{what}:{name}", free) for name in address_names(client_address(request))
    ]
