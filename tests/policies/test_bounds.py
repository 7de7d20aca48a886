"""Which limits a request touches, under which keys, and how much it is likely to need."""

from dataclasses import replace

from policies.authorise import charges
from policies.bounds import UNSAID_MS, bounds, counter_key, demands, least, usual, with_margin
from policies.identity.principals import Method, Principal, Standing
from policies.limits.allowances import Allowance, Kind, Scope, What
from policies.limits.calendars import UTC_MONTHS
from policies.limits.holding import Spent
from policies.limits.rates import Rate
from policies.routing.routes import Route

PRINCIPAL = Principal(
    method=Method.API_KEY, standing=Standing.GOOD, tenant_id="ten_a", tenant_slug="a", user_id="usr_u", key_id="key_k"
)
LISTEN = Route(name="listen", path="/v1/listen", methods=("POST",), meter="raw")
MODELS = Route(name="models", path="/v1/models", methods=("GET",))
NOW = 1_790_000_000_000


def limit(what: What, text: str, scope: Scope = Scope.TENANT, route: str = "") -> Allowance:
    return replace(Allowance.parse(what, text), scope=scope, route=route)


def keys(principal: Principal, route: Route) -> list[str]:
    found = bounds(principal, route, charges(principal, None))
    return [] if found is None else [bound.key for bound in found.request]


def test_plain_rates_alone_need_nothing_more() -> None:
    """The usual caller: no bounds, no cost."""
    principal = replace(PRINCIPAL, tenant_rate=Rate(1, 1_000), key_rate=Rate(1, 1_000))
    assert bounds(principal, LISTEN, charges(principal, None)) is None


def test_all_limits_that_fit_hold_and_all_keys_share_one_slot() -> None:
    principal = replace(
        PRINCIPAL,
        key_rate=Rate(5, 1_000),
        allowances=(
            limit(What.AUDIO, "1h/d"),
            limit(What.CONCURRENCY, "1", Scope.USER),
            limit(What.STREAMS, "1", Scope.KEY),
            limit(What.REQUESTS, "1/s", route="elsewhere"),
            limit(What.REQUESTS, "1/s", Scope.USER, route="listen"),
        ),
    )
    assert keys(principal, LISTEN) == [
        "rate:{ten_a}:key_k",
        "limit:{ten_a}::audio:",
        "limit:{ten_a}:usr_u:concurrency:",
        "limit:{ten_a}:usr_u:requests:listen",
    ]
    assert keys(principal, replace(LISTEN, websocket=True)) == [
        "rate:{ten_a}:key_k",
        "limit:{ten_a}::audio:",
        "limit:{ten_a}:key_k:streams:",
        "limit:{ten_a}:usr_u:requests:listen",
    ]
    assert keys(principal, MODELS) == ["rate:{ten_a}:key_k", "limit:{ten_a}:usr_u:concurrency:"]


def test_a_plain_rate_has_one_counter_whoever_asks_for_it() -> None:
    for scope, holder, rates in (
        (Scope.TENANT, "", {"tenant_rate": Rate(1, 1_000)}),
        (Scope.KEY, "key_k", {"key_rate": Rate(1, 1_000)}),
    ):
        (charge,) = charges(replace(PRINCIPAL, **rates), None)
        assert counter_key(limit(What.REQUESTS, "1/s", scope), "ten_a", holder) == charge.key


def test_what_a_request_wants_of_each() -> None:
    several = (limit(What.AUDIO, "9h/month"), limit(What.BYTES, "1GB/d"), limit(What.CONCURRENCY, "3"))
    found = bounds(replace(PRINCIPAL, allowances=several), LISTEN, ())
    assert found is not None
    audio, size, place = demands(found.request, UTC_MONTHS, NOW, Spent(7_000, 800), "")
    assert (audio.want, size.want, place.want) == (7_000, 800, 1)
    assert audio.key == "limit:{ten_a}::audio::month:2026-09-01"
    assert (audio.ends_ms, audio.allowance.kind) == (1_790_812_800_000, Kind.QUOTA)
    assert size.ends_ms == place.ends_ms == 0


def test_a_request_without_a_body_touches_no_limit_of_bytes() -> None:
    """Of none it would be refused either: it wants nothing of them. The audio of a job comes with a result."""
    size, audio = limit(What.BYTES, "1GB/d"), limit(What.AUDIO, "9h/d")
    job = replace(MODELS, job_audio="duration")
    for route, left in ((MODELS, []), (job, ["limit:{ten_a}::audio:"])):
        found = bounds(replace(PRINCIPAL, allowances=(audio, size)), route, ())
        assert found is not None
        assert [one.key for one in found.bodyless] == left
        assert [one.key for one in found.request] == [*left, "limit:{ten_a}::bytes:"]


def test_addresses_are_counted_on_public_routes_and_beside_a_tenant() -> None:
    route = replace(MODELS, address_requests=Rate(1, 1_000), address_concurrency=2)
    anonymous = replace(PRINCIPAL, tenant_id="", user_id="", key_id="")
    for principal, tag in ((anonymous, "{192.0.2.7}"), (PRINCIPAL, "{ten_a}:192.0.2.7")):
        found = bounds(principal, route, ())
        assert found is not None
        wanted = demands(found.request, UTC_MONTHS, NOW, Spent(), "192.0.2.7")
        assert [one.key for one in wanted] == [f"limit:{tag}:models:{what}" for what in ("requests", "concurrency")]


def test_a_guess_goes_by_length_and_type() -> None:
    """By length and type; less than anything plausible for the floor; nothing where no body is audio."""
    assert usual(32_000, "audio/wav", has_audio=True) == Spent(1_000, 32_000)
    assert usual(6_000, "audio/ogg; codecs=opus", has_audio=True) == Spent(1_000, 6_000)
    assert usual(32_000, "multipart/form-data; boundary=x", has_audio=True) == Spent(1_000, 32_000)
    assert usual(None, "audio/wav", has_audio=True) == Spent(UNSAID_MS, 0)
    assert usual(32_000, "audio/wav", has_audio=False) == Spent(0, 32_000)
    assert least(384_000, has_audio=True) == Spent(1_000, 384_000)
    grown = with_margin(Spent(80_000, 80_000_000))
    assert (grown.audio_ms, grown.bytes_in) == (90_000, 90_000_000)
