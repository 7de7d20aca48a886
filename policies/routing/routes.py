"""What a route is: a method and a path, who may use it, its limits and times, and where it leads."""

import enum
import math
import re
from dataclasses import dataclass

from policies.limits.allowances import Allowance, Scope, What
from policies.limits.rates import Rate

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
"""The methods that a route may list. CONNECT and TRACE can never be (RFC 9110 section 9.3.8 explains TRACE)."""
METERS = ("none", "multipart", "raw")
STREAM_METERS = (
    "openai_realtime", "deepgram", "assemblyai", "speechmatics", "elevenlabs", "mistral", "whisperlive", "vosk",
)  # fmt: skip
"""The meters of routes that open streams: in which protocol the audio comes (``policies.metering.stream_meters``)."""
DIALECTS = ("openai", "deepgram", "assemblyai", "speechmatics", "elevenlabs", "detail", "problem")
GRANTING = ("openai", "deepgram", "assemblyai", "speechmatics", "elevenlabs")
"""The dialects of services that give out temporary tokens."""
RESERVED = ("auth", "account", "admin", "platform", ".well-known")
"""First segments of the gateway's own paths: only its own routes begin with one, and no parameter stands for it."""
PORTAL = "portal"
"""The upstream that the gateway's own paths go to."""
NAME = re.compile(r"[a-z][a-z0-9_.-]{0,62}")
"""What a route may be called."""
PARAMETER = re.compile(r"\{[a-z_]+\}")
"""The segment of a path that stands for exactly one."""
REST = re.compile(r"\{[a-z_]+\.\.\.\}")
"""The last segment of a path that stands for one or more."""
LONGEST_S = 86_400
"""The longest time that a route may grant: a day."""


class Access(enum.StrEnum):
    """Who may use a route at all."""

    PUBLIC = "public"
    CREDENTIAL = "credential"
    OPTIONAL = "optional"
    """Who presents a credential is identified, and refused if it is bad; who presents none passes without identity."""


class WithoutLimiter(enum.StrEnum):
    """What a route does while the counter store cannot be asked."""

    LOCAL = "local"
    """Each worker counts for itself, with its share of the limit; every such request is counted as a fail-open."""
    CLOSED = "closed"
    """503 until it can be asked again."""
    OPEN = "open"
    """Nothing is counted; every such request is counted as a fail-open."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One line of the table. Sizes in bytes, times in seconds.

    ``path`` is matched whole: literal segments, ``{name}`` for exactly one segment, and at the end ``{name...}`` for
    one or more. ``websocket``: this is where a stream opens (RFC 6455: always by GET), and nothing
    else is to be had. ``dialect`` is the shape of the
    gateway's own errors on this route.
    ``first_byte_s`` bounds the wait for the answer's head after the request has been sent; ``idle_s`` any pause inside
    an answer, or inside an upload; ``total_s`` all of it, from asking the upstream to the answer's last byte.
    ``address_requests`` and ``address_concurrency`` bound each client address.

    A stream without a message for ``stream_idle_s`` is ended, and so is one that is ``stream_longest_s`` old; a client
    that is silent for ``ping_s`` is asked for a sign of life, and given up after as long again. ``max_message`` bounds
    one message in either direction.

    ``job`` names the value in the answer that is the id of a job made here, and ``owned`` the parameter of the path
    that is such an id; ``job_kind`` is the namespace of both, empty on every other route (``policies.jobs``). An owner
    is known for ``job_days``. ``job_done`` is ``name=value`` of a job that has its result, ``job_audio`` the name of
    its seconds then, and ``job_failed`` the state of one that will never have any; a route with ``job_settled`` opens
    when those are accounted. Names are dotted: ``job.id``.

    ``grants`` names the routes that a call here gets a ticket for, which the gateway answers itself, as the
    service of the ``dialect`` would give out a temporary token.

    With ``unmeasured_callbacks`` a request may name its audio by URL and have the result sent elsewhere as well: then
    nobody here learns how long it is (``policies.metering.elsewhere``). Otherwise that is refused.
    """

    name: str
    path: str
    methods: tuple[str, ...]
    access: Access = Access.CREDENTIAL
    scope: str = ""
    upstream: str = "default"
    websocket: bool = False
    meter: str = "none"
    dialect: str = "openai"
    without_limiter: WithoutLimiter = WithoutLimiter.LOCAL
    address_requests: Rate | None = None
    address_concurrency: int | None = None
    max_body: int = 2_147_483_648
    first_byte_s: float = 600.0
    idle_s: float = 60.0
    total_s: float = math.inf
    max_message: int = 16_777_216
    ping_s: float = 30.0
    stream_idle_s: float = 600.0
    stream_longest_s: float = 14_400.0
    job: str = ""
    owned: str = ""
    job_kind: str = ""
    job_days: int = 14
    job_done: str = ""
    job_failed: str = ""
    job_audio: str = ""
    job_settled: bool = False
    unmeasured_callbacks: bool = False
    grants: tuple[str, ...] = ()

    @property
    def is_own(self) -> bool:
        """Whether it is one of the gateway's own, which no table names."""
        return self.upstream == PORTAL and not self.grants

    @property
    def of_address(self) -> tuple[Allowance, ...]:
        """What each client address is allowed on this route."""
        if self.address_requests is None and self.address_concurrency is None:
            return ()
        found = []
        if self.address_requests is not None:
            rate = self.address_requests
            found.append(Allowance(what=What.REQUESTS, count=rate.count, period_ms=rate.period_ms, scope=Scope.ADDRESS))
        if self.address_concurrency is not None:
            found.append(Allowance(what=What.CONCURRENCY, count=self.address_concurrency, scope=Scope.ADDRESS))
        return tuple(found)
