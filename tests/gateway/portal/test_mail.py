"""Mail leaves by SMTP, to files, to the log; what does not leave is known; no header is made of what people wrote."""

import asyncio
import contextlib
import email
import email.policy
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP
from structlog.testing import capture_logs

from gateway.portal.entry.recovery import link, mint
from gateway.portal.mail.posting import Postman
from gateway.portal.mail.sending import Mailer, MailFailed
from gateway.portal.parts import Parts
from storage.ports import Unavailable
from storage.postgres.events.letters import PostgresLetters
from tests.gateway.portal.api import Houses
from tests.gateway.portal.conftest import EMAIL, Client, Town, fill, log_in
from tests.storage.waiting import until

SENDER = "Tahoe <no-reply@gw.test>"
LINK = link("https://gw.test", mint("reset"))


class Postbox:
    """A real SMTP server's handler: keeps what it is given."""

    def __init__(self) -> None:
        self.letters: list[Any] = []
        self.refusals: list[str] = []
        """Said to the next ones, in turn."""

    async def handle_DATA(self, _: Any, __: Any, envelope: Any) -> str:  # noqa: N802  the library's name
        self.letters.append(envelope)
        if self.refusals:
            return self.refusals.pop(0)
        return "550 not today" if b"refuse" in envelope.content else "250 OK"


@contextlib.asynccontextmanager
async def serving(box: Postbox) -> AsyncIterator[tuple[Postbox, int]]:
    """The box behind a port."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: SMTP(box, loop=loop), "127.0.0.1", 0)
    yield box, server.sockets[0].getsockname()[1]
    server.close()


async def test_a_letter_by_smtp() -> None:
    async with serving(Postbox()) as (box, port):
        mailer = Mailer(url=f"smtp://127.0.0.1:{port}", sender=SENDER)
        await mailer.send("ada@example.com", "Grüße", "Text with ümlauts\n")
        (letter,) = box.letters
        assert (letter.mail_from, letter.rcpt_tos) == ("no-reply@gw.test", ["ada@example.com"])
        message = email.message_from_bytes(letter.content, policy=email.policy.default)
        assert (message["Subject"], message["To"], message["From"]) == ("Grüße", "ada@example.com", SENDER)
        assert message["Auto-Submitted"] == "auto-generated"
        assert message.get_content().strip() == "Text with ümlauts"
        with pytest.raises(MailFailed, match="did not take"):
            await mailer.send("ada@example.com", "x", "refuse this")


async def test_a_password_is_never_sent_in_the_clear() -> None:
    """A server that offers no TLS gets neither password nor letter."""
    async with serving(Postbox()) as (box, port):
        with pytest.raises(MailFailed):
            await Mailer(url=f"smtp://user:pass@127.0.0.1:{port}", sender=SENDER).send("a@b.example", "s", "t")
        assert not box.letters


async def test_a_server_that_is_away_is_known() -> None:
    with pytest.raises(MailFailed, match="mail server"):
        await Mailer(url="smtp://127.0.0.1:1", sender=SENDER).send("a@b.example", "s", "t")


@pytest.mark.parametrize(("step", "is_final"), [("handle_MAIL", False), ("handle_RCPT", True)])
async def test_what_a_server_has_against_us_is_no_end_of_a_letter(step: str, *, is_final: bool) -> None:
    """An operator may set it right while the letter waits; an address that it never takes stays one."""

    async def refuse(*_: object) -> str:
        return "550 no"

    box = Postbox()
    setattr(box, step, refuse)
    async with serving(box) as (_, port):
        with pytest.raises(MailFailed) as failed:
            await Mailer(url=f"smtp://127.0.0.1:{port}", sender=SENDER).send("a@b.example", "s", "t")
    assert failed.value.for_good is is_final


@contextlib.asynccontextmanager
async def postman(parts: Parts, port: int) -> AsyncIterator[Postman]:
    """One at work, as in each portal."""
    made = Postman(parts, Mailer(url=f"smtp://127.0.0.1:{port}", sender=SENDER))
    async with made.at_work():
        yield made


def counted(parts: Parts) -> list[int]:
    """Letters that left, were put off, were given up."""
    return [parts.metrics.mail[(result,)] for result in ("sent", "put_off", "failed")]


async def test_a_letter_that_nobody_waits_for_survives_the_end_of_its_portal(
    parts: Parts, town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waits cannot be read in the database; of two portals one sends it, and nothing of it is left."""
    monkeypatch.setattr("gateway.portal.mail.posting._AGAIN_S", (600.0,))
    async with serving(Postbox()) as (box, port):
        box.refusals = ["451 later"]
        async with postman(parts, port) as first:
            await first.post(EMAIL, "Subject", "a link", 1_800)
            await until(lambda: counted(parts) == [0, 1, 0])
        (row,) = await parts.pool.read("SELECT * FROM platform.letters")
        assert not any(secret in bytes(row["sealed"]) for secret in (b"a link", EMAIL.encode(), b"Subject"))
        async with postman(parts, port), postman(parts, port):
            async with parts.pool.operator() as connection:
                await connection.execute("UPDATE platform.letters SET next_at = now()")
            await until(lambda: counted(parts) == [1, 1, 0])
        assert len(box.letters) == 2
        assert b"a link" in box.letters[1].content
        assert await parts.pool.read("SELECT * FROM platform.letters") == []


@pytest.mark.parametrize(
    ("refusals", "life_s", "tries"),
    [
        pytest.param(["451 later", "421 too busy"] * 3, 600, 2, id="its life is over before the next try"),
        pytest.param(["550 nobody here"], 600, 1, id="the server never takes it"),
        pytest.param([f"554 not with {LINK}"], 600, 1, id="the server repeats what it says"),
        pytest.param([], 0, 0, id="no portal was there in its life"),
    ],
)
async def test_a_letter_that_is_given_up_is_told_of(
    parts: Parts, town: Town, monkeypatch: pytest.MonkeyPatch, refusals: list[str], life_s: int, tries: int
) -> None:
    """In the log, the figures and the trail, and so by an event; what the letter says is in none of them."""
    monkeypatch.setattr("gateway.portal.mail.posting._AGAIN_S", (0.0, 3_600.0))
    async with serving(Postbox()) as (box, port):
        box.refusals = refusals
        with capture_logs() as log:
            async with postman(parts, port) as one:
                await one.post(EMAIL, "Subject", LINK, life_s)
                await until(lambda: counted(parts)[2] == 1)
        assert len(box.letters) == tries
        (entry,) = await parts.pool.read(
            "SELECT target_name, after FROM platform.audit_entries WHERE action = 'mail.failed'"
        )
        (event,) = await parts.pool.read("SELECT data FROM platform.outbox WHERE type = 'mail.failed'")
        assert (entry["target_name"], '"subject":"Subject"' in entry["after"]) == (EMAIL, True)
        assert LINK not in f"{log}{entry['after']}{event['data']}"
        assert [line["event"] for line in log if line["log_level"] == "error"] == ["a mail did not leave"]
        assert await parts.pool.read("SELECT * FROM platform.letters") == []


async def test_a_letter_under_another_secret_key_is_given_up_and_a_store_that_is_away_undoes_nothing(
    parts: Parts, town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(Postbox()) as (box, port):
        async with parts.pool.operator() as connection:
            await connection.execute(
                "INSERT INTO platform.letters (id, sealed, expires_at) VALUES ('ltr_1', '\\x01', now() + '1 hour')"
            )
        async with postman(parts, port) as one:
            await until(lambda: counted(parts) == [0, 0, 1])

            async def away(*_: object) -> None:
                raise Unavailable("PostgreSQL is away")

            monkeypatch.setattr(PostgresLetters, "put", away)
            await one.post(EMAIL, "Subject", "a link", 600)
        assert counted(parts) == [0, 0, 2]
        assert not box.letters


async def test_who_waits_for_a_letter_that_does_not_leave_is_told_so(
    houses: Houses, portal: Client, town: Town, tmp_path: Path
) -> None:
    """Not that a store were down; and what was made although nobody was written to."""
    (tmp_path / "mail").write_text("a file, where a directory should be")
    owner = await houses.person(town.tenant)
    problem = await owner.ask("POST", "/invitations", {"email": "grace@example.com"}, status=503)
    (invitation,) = (await owner.ask("GET", "/invitations"))["data"]
    assert (problem["code"], invitation["state"]) == ("mail_failed", "pending")
    assert f"{invitation['id']} is there, and can be sent again" in problem["detail"]
    again = await owner.ask("POST", f"/invitations/{invitation['id']}/send", status=503)
    assert again["code"] == "mail_failed"
    await log_in(portal)
    answer = await fill(portal, "/account/email", "/account/email", email="new@example.com")
    assert (answer.status, "mail server does not take the letter" in await answer.text()) == (503, True)
    (tmp_path / "mail").unlink()
    portal.session.cookie_jar.clear()
    await owner.ask("POST", f"/invitations/{invitation['id']}/send")


async def test_a_letter_as_a_file_is_ours_alone(tmp_path: Path) -> None:
    mailer = Mailer(url=f"file:{tmp_path}/mail", sender=SENDER)
    for _ in range(2):
        await mailer.send("ada@example.com", "Subject", "Text")
    first, second = (tmp_path / "mail").glob("*.eml")
    assert first != second
    assert stat.S_IMODE(first.stat().st_mode) == 0o600
    with pytest.raises(MailFailed):
        await Mailer(url="file:/proc/nowhere", sender=SENDER).send("a@b.example", "s", "t")


async def test_a_letter_in_the_log() -> None:
    with capture_logs() as log:
        await Mailer(url="console:", sender=SENDER).send("ada@example.com", "Subject", "the link")
    assert log[0]["text"] == "the link"


@pytest.mark.parametrize("to", ["a@b\r\nBcc: c@d", "a b@c.example", "", "a@b, c@d"])
async def test_an_address_makes_no_header(tmp_path: Path, to: str) -> None:
    """L-11: whatever stands there, nobody else gets the letter."""
    with pytest.raises(MailFailed):
        await Mailer(url=f"file:{tmp_path}", sender=SENDER).send(to, "s", "t")
    assert not list(tmp_path.glob("*.eml"))


@pytest.mark.parametrize(
    ("address", "mailed_to"),
    [
        ("kim@müller.example", "kim@xn--mller-kva.example"),
        ("kim@straße.example", "kim@xn--strae-oqa.example"),  # never strasse.example, which is somebody else's
        ("kim@пример.example", "kim@xn--e1afmkfd.example"),
        ("o'neil+x@xn--mller-kva.example", "o'neil+x@xn--mller-kva.example"),
    ],
)
async def test_a_domain_in_any_script_gets_its_letters(address: str, mailed_to: str) -> None:
    async with serving(Postbox()) as (box, port):
        await Mailer(url=f"smtp://127.0.0.1:{port}", sender=SENDER).send(address, "s", "t")
        assert box.letters[0].rcpt_tos == [mailed_to]
        assert f"To: {mailed_to}".encode() in box.letters[0].content


@pytest.mark.parametrize("address", ["ü@example.com", "a@x..y", "kim@-ü.example", "kim@ü_.example"])
async def test_to_whom_no_letter_goes_is_told_so_before_anything_is_made(
    houses: Houses, portal: Client, town: Town, address: str
) -> None:
    """Not 503, as if a store were down; and no invitation or change waits for a letter that never comes."""
    owner = await houses.person(town.tenant)
    problem = await owner.ask("POST", "/invitations", {"email": address, "role": "member"}, status=422)
    assert [error["field"] for error in problem["errors"]] == ["email"]
    assert (await owner.ask("GET", "/invitations"))["data"] == []
    await log_in(portal)
    answer = await fill(portal, "/account/email", "/account/email", email=address)
    assert (answer.status, "No letter can be sent" in await answer.text()) == (422, True)


async def test_without_a_way_nothing_is_sent() -> None:
    mailer = Mailer(url="", sender=SENDER)
    assert not mailer.is_on
    with pytest.raises(MailFailed, match="GATEWAY_MAIL"):
        await mailer.send("a@b.example", "s", "t")
