"""Every way the gateway says no, by name: status, stable code, explanation. Documented in ``docs/errors.md``.

A refusal is a value. ``code`` is public interface: clients match on it, dashboards count by it. ``message`` is one or
two sentences for the person at the other end: what happened, and what to do next. Statuses follow RFC 9110 and, for
credentials, RFC 6750 section 3.1; a store that cannot be asked is 503 and never 401, because clients throw keys away
on 401.
"""

import enum
from dataclasses import dataclass

from policies.identity.principals import Principal
from policies.limits.rates import Taken

_ENDS_CONNECTION = frozenset(
    {"MALFORMED_REQUEST", "UNSUPPORTED_HTTP_VERSION", "AMBIGUOUS_TARGET", "INVALID_HOST", "BODY_TOO_LARGE", "DRAINING"}
)
"""After these the connection is closed: what follows on it may not be what either side thinks."""


class Refusal(enum.Enum):
    """The refusals: name, then (status, message). The code is the name in lower case."""

    # --- the question cannot be read ---------------------------------------------------------------------------------
    MALFORMED_REQUEST = 400, "This is not a well-formed HTTP/1.1 request, so it was not looked at further."
    UNSUPPORTED_HTTP_VERSION = (  # not 505: that would be counted as a failure of ours
        400,
        "This gateway speaks HTTP/1.1. Switch off HTTP/2 with prior knowledge, or put a proxy in front that speaks it.",
    )
    AMBIGUOUS_TARGET = (
        400,
        """The request target can be read in more than one way. Send a plain absolute path: no dot segments, no empty \
segments, no backslash, no ';', no '#', no needless or broken percent-escapes.""",
    )
    INVALID_HOST = 400, "Send exactly one Host header with a host name or address and, if need be, a port."
    CONFLICTING_CREDENTIALS = 400, "The request carries two different credentials. Send exactly one."
    MALFORMED_HANDSHAKE = 400, "This is not a well-formed WebSocket handshake (RFC 6455 section 4.1)."
    WEBSOCKET_VERSION = 426, "The only WebSocket version spoken here is 13 (RFC 6455)."
    UPGRADE_REQUIRED = (
        426,
        "Streams open here: ask with a WebSocket client. A proxy in between must pass on Connection and Upgrade.",
    )
    CREDENTIAL_IN_QUERY = (
        400,
        "A key has no place in a URL, where it ends up in logs. Send it in a header or as a subprotocol, or a ticket.",
    )
    EXPECTATION_FAILED = 417, "The only expectation supported is 100-continue."
    REQUEST_HEADERS_TOO_LARGE = (
        431,
        "The request's header is too large or has too many fields. Send fewer; a browser may have too many cookies.",
    )
    HEADER_TIMEOUT = 408, "The request's header did not arrive in time. Send it again."
    TOO_MANY_CONNECTIONS = 503, "Too many connections are open. Close some of yours, or try again in a moment."

    # --- who is asking -----------------------------------------------------------------------------------------------
    MISSING_CREDENTIAL = 401, "Send your API key as 'Authorization: Bearer thk_...' or as 'X-API-Key'."
    INVALID_API_KEY = 401, "This is not a key of this gateway. Check it for typing errors, or create a new one."
    API_KEY_EXPIRED = 401, "This API key has expired. Create a new one, or ask your administrator for it."
    API_KEY_REVOKED = 401, "This API key was revoked. Create a new one, or ask your administrator for it."
    API_KEY_DISABLED = 401, "This API key is disabled. Enable it, or ask your administrator to."
    INVALID_TICKET = 401, "This ticket was used, has expired, or is not one of this gateway. Ask for a new one."
    ORIGIN_NOT_ALLOWED = 403, "A browser session opens streams from this gateway's own pages only."
    INVALID_TOKEN = (
        401,
        "This token is not valid here: it may have expired, been revoked, or be for another service. Get a new one.",
    )
    SESSION_ENDED = 401, "Your session has ended. Sign in again."
    USER_DISABLED = 403, "The user who owns this credential is disabled. Ask your administrator."
    TENANT_SUSPENDED = 403, "Your organisation is suspended. Ask the operator of this service."

    # --- may they ----------------------------------------------------------------------------------------------------
    UNKNOWN_ROUTE = 404, "No such path at this gateway. Check the address: only listed routes are open."
    METHOD_NOT_ALLOWED = 405, "This path does not take that method; see the Allow header."
    INSUFFICIENT_SCOPE = 403, "This credential lacks the scope that the route needs."
    KEY_BOUND_ELSEWHERE = 403, "This API key is bound to other routes."
    ADDRESS_NOT_ALLOWED = 403, "This API key may not be used from your address."
    ROUTE_DENIED = 403, "Your organisation may not use this route."
    JOB_NOT_SETTLED = 409, "The audio of this job is not accounted yet. Ask for the job's state; then this opens."
    JOB_UNSEEN = (
        501,
        "The gateway learns a new job's id from its answer, so this has to go through it and not by forward-auth.",
    )
    UPGRADE_NOT_SUPPORTED = 501, "This route does not take WebSocket or other protocol upgrades."

    # --- how much may they -------------------------------------------------------------------------------------------
    BODY_TOO_LARGE = 413, "The body is larger than this route takes. Send less at a time."
    ENCODED_BODY = 415, "Send the audio as it is: a compressed body cannot be measured and is not taken here."
    CALLBACK_NOT_MEASURED = (
        403,
        """The audio is named by URL and its result would go elsewhere, so how long it is would never be known here. \
Upload the audio, or leave out the callback and take the result from the answer.""",
    )
    BODY_TIMEOUT = 408, "The body stopped arriving, or came too slowly. Send it again."
    RATE_LIMIT_EXCEEDED = 429, "Too many requests. Wait as long as Retry-After says, then go on."
    BYTES_LIMIT_EXCEEDED = 429, "Too many bytes in a short time. Wait as long as Retry-After says, then go on."
    AUDIO_LIMIT_EXCEEDED = 429, "Too much audio in a short time. Wait as long as Retry-After says, then go on."
    CONCURRENCY_LIMIT_EXCEEDED = 429, "Too many requests at one time. Try again when one of them has ended."
    STREAM_LIMIT_EXCEEDED = 429, "Too many open streams. Close one, then open another."
    QUOTA_EXCEEDED = (
        429,
        "Too little of this period's allowance is left. Ask your administrator, or wait for the next period.",
    )

    # --- forward-auth ------------------------------------------------------------------------------------------------
    UNTRUSTED_PROXY = (
        403,
        "Forward-auth answers trusted proxies only. Add this peer to GATEWAY_TRUSTED_PROXIES if it is one.",
    )
    UNREADABLE_QUESTION = 400, "The proxy must send exactly one original target and one original method."

    # --- pages and the JSON API --------------------------------------------------------------------------------------
    LOGIN_REQUIRED = 401, "Sign in first, or send a credential."
    INVALID_LOGIN = (
        401,
        "This e-mail address and password do not belong together. Check both, or ask for a new password.",
    )
    SECOND_FACTOR_REQUIRED = 401, "Send the current code of your authenticator app, or a recovery code, as well."
    INVALID_CODE = (
        401,
        "This code is not right, or was used already. Wait for the next one, or check the clock of your phone.",
    )
    WRONG_PASSWORD = 401, "This is not your password. Try again, or ask for a new one."
    SECOND_FACTOR_MISSING = (
        403,
        "Your organisation asks for a second factor, and you have none yet. Sign in with a browser to set one up.",
    )
    PASSKEY_REQUIRED = (
        403,
        "Your second factor is a passkey, which asks for a browser. Sign in there and make an API token for this \
program, or set up an authenticator app, whose codes programs can send.",
    )
    SECOND_FACTOR_NEEDED = (
        403,
        "Your organisation asks for a second factor. Sign in with it, and do not remove the last.",
    )
    PROVIDER_FAILED = 401, "Signing in with this provider did not work. Nothing was changed; start again."
    PROVIDER_UNAVAILABLE = 503, "The sign-in provider does not answer as it should. Try again, or sign in another way."
    PROVIDER_EMAIL_UNVERIFIED = (
        403,
        "The sign-in provider does not vouch for your e-mail address. Confirm the address there, then try again.",
    )
    PROVIDER_NOT_LINKED = (
        403,
        "An account with your address exists. Sign in with its password, then connect the provider under Password and \
security.",
    )
    PROVIDER_NOT_ADMITTED = 403, "Nobody has given you access here. Ask an administrator to invite you."
    PROVIDER_NOT_INVITED = (
        403,
        "The sign-in provider knows you by another address than the one that is invited. Join in another way, or ask \
for an invitation to that address.",
    )
    PROVIDER_TAKEN = 409, "That account of the provider is connected to another account here."
    PASSKEY_FAILED = 401, "This passkey was not accepted. Try again, or sign in another way."
    TOO_MANY_TRIES = (
        429,
        "Too many tries. Wait as long as Retry-After says; before that, what is right is refused as well.",
    )
    TOO_MANY_LOGINS = 503, "Too many people sign in at this moment. Wait as long as Retry-After says, then try again."
    FRESH_LOGIN_REQUIRED = 403, "This needs a proof once more that it is you, because you signed in a while ago."
    LINK_INVALID = 410, "This link does not work (any more): it was used, replaced, or is too old. Ask for a new one."
    MAIL_IS_OFF = 409, "This gateway sends no mail, so this cannot be done. Its operator sets GATEWAY_MAIL."
    MAIL_FAILED = 503, "The mail server does not take the letter at the moment. Check the address, and try again later."
    NOT_FOUND = 404, "There is no such thing here, or it is not yours to see."
    INVALID_INPUT = 422, "Some of what was sent cannot be taken. Correct it and send it again."
    NOT_JSON = 415, "Send JSON, with 'Content-Type: application/json'."
    INSUFFICIENT_PERMISSION = 403, "Your role or your key does not allow this."
    EXCEEDS_OWN_PERMISSIONS = 403, "Nobody can give what they do not hold themselves."
    ALREADY_EXISTS = 409, "This clashes with what is there."
    IN_USE = 409, "Something else still needs it."
    MAXIMUM_REACHED = 409, "Your organisation has as many of these as its plan allows. End some, or ask your operator."
    LAST_OWNER = 409, "A tenant keeps at least one owner. Make somebody else an owner first."
    STALE_VERSION = 412, "It has changed since you saw it. Look at it again, then repeat your change."
    IDEMPOTENCY_KEY_REUSED = 422, "This Idempotency-Key was used for another request. Take a new one."
    IDEMPOTENT_REQUEST_RUNNING = 409, "The request with this Idempotency-Key is still running. Ask again in a moment."
    CROSS_SITE_REQUEST = 403, "This request came from another site, so nothing was changed. Use the pages themselves."
    FORM_EXPIRED = 403, "This form is too old, or the browser keeps no cookies. Open the page again and repeat."
    STORE_UNAVAILABLE = 503, "This cannot be done at the moment: a store does not answer. Nothing was lost; try again."

    # --- the gateway or what it stands on failed ---------------------------------------------------------------------
    INTERNAL_ERROR = 500, "The gateway failed. The request id leads the operator to the cause."
    UPSTREAM_UNREACHABLE = 502, "The transcription service cannot be reached. Try again in a moment."
    UPSTREAM_UNAVAILABLE = (
        503,
        "The transcription service is down, and is tried by one request at a time until it is back. Try again shortly.",
    )
    UPSTREAM_BROKE = 502, "The transcription service broke off, or its answer is not HTTP. Try again in a moment."
    UPSTREAM_TIMEOUT = 504, "The transcription service did not answer in time. Try again in a moment."
    REGISTRY_UNAVAILABLE = (
        503,
        "Credentials cannot be checked at the moment. Your key may well be good: keep it, retry.",
    )
    JOB_NOT_KEPT = (
        503,
        "The service took the job, but whose it is could not be stored: nobody can ask for its result. Send it again.",
    )
    LIMITER_UNAVAILABLE = 503, "Limits cannot be checked at the moment. Try again shortly."
    ACCOUNT_UNAVAILABLE = 503, "Usage cannot be recorded at the moment, so nothing is served. Try again shortly."
    DRAINING = 503, "This instance is shutting down. Try again; another one will answer."

    def __init__(self, status: int, message: str) -> None:
        self.status = status
        self.message = message
        self.code = self.name.lower()
        self.keeps_connection = self.name not in _ENDS_CONNECTION


@dataclass(frozen=True, slots=True, kw_only=True)
class Deny:
    """The answer no. ``detail`` says what exactly, and never repeats a secret or an unchecked byte of the request."""

    refusal: Refusal
    detail: str = ""
    principal: Principal | None = None
    taken: Taken | None = None
    allow: tuple[str, ...] = ()
    """The methods of a path that exists, for the Allow header of a 405 (RFC 9110 section 15.5.6)."""
    limit_lines: tuple[bytes, ...] = ()
    """The header lines of a limit that refused, where ``taken`` does not say it."""
    scope: str = ""
    """The scope that was missing, for the challenge of a 403 (RFC 6750 section 3)."""

    @property
    def message(self) -> str:
        """The sentences for the client."""
        return f"{self.refusal.message} {self.detail}" if self.detail else self.refusal.message
