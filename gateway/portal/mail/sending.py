"""Mail: SMTP, or for trials a directory of files or the log. Text alone: a link, and what it is for.

Addresses and subjects come from people, so messages are built by the standard library's ``EmailMessage``, whose headers
take no line breaks.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from email.errors import MessageError
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import formatdate, make_msgid, parseaddr
from pathlib import Path
from urllib.parse import unquote, urlsplit

import aiosmtplib
import idna
import structlog
from aiohttp import web

from gateway.portal.caller import request_id
from gateway.portal.parts import PARTS
from gateway.portal.web.problem import Problem
from policies.http.credentials import redacted
from policies.http.verdict import Refusal

_log = structlog.get_logger("gateway.portal.mail.sending")

_TIMEOUT_S = 15.0
_RETRY_AFTER = "60"
routes = web.RouteTableDef()


class MailFailed(Exception):
    """A letter did not leave; why, for the operator. ``for_good``: it would not the next time either."""

    def __init__(self, reason: str, *, for_good: bool = False) -> None:
        super().__init__(reason)
        self.for_good = for_good


@dataclass(frozen=True, slots=True, kw_only=True)
class Mailer:
    """Sends by one of the ways. ``url`` is the setting ``mail``; empty: mail is off. Passwords need TLS."""

    url: str
    sender: str

    @property
    def is_on(self) -> bool:
        """Whether anything can be sent at all."""
        return bool(self.url)

    async def send(self, to: str, subject: str, text: str) -> None:
        """Send now. Raises MailFailed."""
        try:
            message = self._message(to, subject, text)
        except ValueError as error:
            raise MailFailed(f"the message cannot be written: {error}", for_good=True) from error
        kind = self.url.partition(":")[0]
        if kind in ("smtp", "smtps"):
            await self._by_smtp(message)
        elif kind == "file":
            directory = Path(unquote(urlsplit(self.url).path))
            await asyncio.get_running_loop().run_in_executor(None, _into, directory, message)
        elif kind == "console":
            _log.info("mail", to=to, subject=subject, text=text)
        else:
            raise MailFailed("no way for mail is configured (GATEWAY_MAIL)", for_good=True)

    def _message(self, to: str, subject: str, text: str) -> EmailMessage:
        name, address = parseaddr(self.sender)
        message = EmailMessage(policy=SMTP)
        message["From"] = Address(display_name=name, addr_spec=address)
        message["To"] = mailbox(to)
        message["Subject"] = subject
        message["Date"] = formatdate(localtime=False)
        message["Message-ID"] = make_msgid(domain=address.rpartition("@")[2] or "localhost")
        message["Auto-Submitted"] = "auto-generated"  # RFC 3834 section 5: no out-of-office answers
        # As it is where it can be: quoted-printable would break a link in two, for whoever reads the file.
        message.set_content(text, cte="7bit" if text.isascii() else "quoted-printable")
        return message

    async def _by_smtp(self, message: EmailMessage) -> None:
        parts = urlsplit(self.url)
        tls = parts.scheme == "smtps"
        try:
            await aiosmtplib.send(
                message,
                hostname=parts.hostname or "localhost",
                port=parts.port or (465 if tls else 587),
                username=unquote(parts.username) if parts.username else None,
                password=unquote(parts.password) if parts.password else None,
                use_tls=tls,
                start_tls=True if parts.username and not tls else None,  # None: where the server offers it
                timeout=_TIMEOUT_S,
            )
        except (aiosmtplib.SMTPException, OSError, ValueError) as error:
            # A filter may repeat what it objects to, and that may be a link that signs somebody in.
            reason = redacted(f"the mail server {parts.hostname} did not take a message: {error}")
            raise MailFailed(reason, for_good=_is_final(error)) from error


def _is_final(error: Exception) -> bool:
    """Whether the server says that it will never take this letter (a reply 5yz, RFC 5321 section 4.2.1).

    What it has against us, who connect, log in and send, may be set right while the letter waits.
    """
    if isinstance(error, aiosmtplib.SMTPRecipientsRefused):
        return all(_is_final(one) for one in error.recipients)
    return isinstance(error, aiosmtplib.SMTPRecipientRefused | aiosmtplib.SMTPDataError) and 500 <= error.code < 600


def mailbox(address: str) -> Address:
    """An address as a header holds it: a domain in any script as DNS has it (IDNA 2008, RFC 5891).

    Raises ValueError for one to which no letter goes. What stands before the @ must be ASCII: few servers take more
    (RFC 6531), and none would take what is made of it here.
    """
    local, _, domain = address.rpartition("@")
    try:
        if not domain.isascii():
            domain = idna.encode(domain).decode()
        return Address(addr_spec=f"{local}@{domain}")
    except (ValueError, IndexError, MessageError) as error:
        raise ValueError(f"no letter goes to {address!r}: {error}") from error


def require_mailbox(address: str) -> None:
    """Raises Problem for an address to which no letter goes, before anything is made that waits for one."""
    try:
        mailbox(address)
    except ValueError as error:
        fields = {"email": "No letter can be sent to this address. Use another one."}
        raise Problem(Refusal.INVALID_INPUT, fields=fields) from error


def _into(directory: Path, message: EmailMessage) -> None:
    """One file a message, complete or not there, readable by us alone."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        name = f"{message['Message-ID'].strip('<>').partition('@')[0]}-{secrets.token_hex(4)}"
        making = directory / f".{name}"
        making.touch(mode=0o600)
        making.write_bytes(bytes(message))
        making.rename(directory / f"{name}.eml")
    except OSError as error:
        raise MailFailed(f"mail cannot be written to {directory}: {error.strerror}") from error


MAILER = web.AppKey("mailer", Mailer)


async def lifetime(app: web.Application) -> AsyncIterator[None]:
    """The mailer of the settings."""
    settings = app[PARTS].settings
    url = settings.mail.get_secret_value() if settings.mail is not None else ""
    app[MAILER] = Mailer(url=url, sender=settings.mail_from)
    if url.startswith("console:"):
        _log.warning("mail goes to the log, with links that sign people in: for trials only")
    yield


async def deliver(request: web.Request, to: str, subject: str, text: str, *, kept: str = "") -> None:
    """Send, and wait. Raises Problem, which says what was ``kept`` although nobody was written to."""
    if not await is_delivered(request, to, subject, text):
        raise Problem(Refusal.MAIL_FAILED, kept, headers={"Retry-After": _RETRY_AFTER})


async def is_delivered(request: web.Request, to: str, subject: str, text: str) -> bool:
    """Send, and wait: whether it has left. Where mail is off nothing does."""
    mailer, counted = request.app[MAILER], request.app[PARTS].metrics.mail
    if not mailer.is_on:
        return False
    try:
        await mailer.send(to, subject, text)
    except MailFailed as error:
        counted[("failed",)] += 1
        _log.warning("a mail did not leave", reason=str(error), subject=subject, request_id=request_id(request))
        return False
    counted[("sent",)] += 1
    return True
