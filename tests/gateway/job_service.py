"""A service in AssemblyAI's shape behind two workers that share the book of jobs and nothing else."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace

from policies.jobs import Job
from policies.limits.allowances import Allowance, Scope, What
from tests.gateway.harness import Gateway, Options, Seen, running
from tests.storage.memory_jobs import MemoryJobs

JSON = [("Content-Type", "application/json")]
BY_URL = b'{"audio_url": "https://cdn.example/a.mp3", "speech_model": "best"}'


def answer(body: bytes, status: bytes = b"200 OK", *, kind: bytes = b"application/json", line: bytes = b"") -> bytes:
    """One answer, with its length and perhaps a header line more."""
    head = b"HTTP/1.1 %b\r\n%bContent-Type: %b\r\nContent-Length: %d\r\n\r\n" % (status, line, kind, len(body))
    return head + body


@dataclass
class Service:
    """Makes jobs ``job-1``, ``job-2``, …; each is done at once, and 281 s long."""

    made: int = 0
    state: str = "completed"
    seconds: object = 281
    text: str = "secret"
    sent: dict[str, bytes] = field(default_factory=dict)
    """Whole answers for certain targets."""

    async def __call__(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: Seen) -> None:
        target = seen.target.partition("?")[0]
        if target in self.sent:
            writer.write(self.sent[target])
        elif seen.method == "POST":
            self.made += 1
            writer.write(answer(json.dumps({"id": f"job-{self.made}", "status": "queued"}).encode()))
        else:
            said = {"id": target.split("/")[3], "status": self.state, "text": self.text, "audio_duration": self.seconds}
            writer.write(answer(json.dumps(said).encode()))


@dataclass
class Workers:
    """Two of them, the book, and the service."""

    first: Gateway
    second: Gateway
    book: MemoryJobs
    service: Service

    @property
    def asked(self) -> list[tuple[str, str]]:
        """What the service was asked, by whichever worker."""
        return [(seen.method, seen.target) for one in (self.first, self.second) for seen in one.upstream.seen]

    async def make(self, by: str = "") -> str:
        """A new job's id."""
        made = await self.first.ask("POST", "/v2/transcript", JSON, BY_URL, key=by)
        assert made.status == 200
        return str(json.loads(made.body)["id"])

    def of_other_tenant(self) -> str:
        """A key of ``ten_b`` that both workers know."""
        key = self.first.add_key(tenant_id="ten_b", user_id="usr_b")
        self.second.keys.by_digest |= self.first.keys.by_digest
        return key

    def owner(self, job_id: str) -> str:
        """The tenant."""
        return self.book.rows[Job("assemblyai", job_id)].tenant_id


def limited(what: What, text: str) -> Allowance:
    """A limit of the tenant."""
    return replace(Allowance.parse(what, text), scope=Scope.TENANT)


async def upload(w: Workers, audio: bytes, key: str = "") -> None:
    """Make ``job-1`` of the speechmatics route."""
    head = b'--x\r\nContent-Disposition: form-data; name="data_file"; filename="a.wav"\r\n\r\n'
    body = head + audio + b"\r\n--x--\r\n"
    made = await w.first.ask("POST", "/v2/jobs", [("Content-Type", "multipart/form-data; boundary=x")], body, key=key)
    assert made.status == 200


@contextlib.asynccontextmanager
async def workers(options: Options | None = None) -> AsyncIterator[Workers]:
    """Both running."""
    made, service = options or Options(), Service()
    book = made.jobs
    assert isinstance(book, MemoryJobs)
    async with running(made) as first, running(made) as second:
        for one in (first, second):
            one.upstream.respond = service
        second.keys.by_digest |= first.keys.by_digest
        yield Workers(first, second, book, service)
