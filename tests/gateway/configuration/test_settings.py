"""Settings: where each may come from, that every fault is told at once, and that no secret is ever shown."""

import ipaddress
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st

from gateway.configuration.origin import Origin
from gateway.configuration.settings import Settings
from gateway.configuration.sources import SettingsInvalid, load
from policies.limits.rates import Rate

SECRET = "correct-horse-battery-staple-0123456789"
PASSWORD = "hunter2hunter2"


def loaded(environ: Mapping[str, str] = {}, toml: str = "", tmp_path: Path | None = None, **overrides: Any) -> Settings:
    config = None
    if tmp_path is not None:
        config = tmp_path / "gateway.toml"
        config.write_text(toml)
    return load(overrides, config, environ)


def faults(
    environ: Mapping[str, str] = {}, toml: str = "", tmp_path: Path | None = None, **overrides: Any
) -> list[str]:
    with pytest.raises(SettingsInvalid) as caught:
        loaded(environ, toml, tmp_path, **overrides)
    assert str(caught.value) == "\n".join(caught.value.faults)
    return caught.value.faults


def test_the_defaults_are_the_contracts() -> None:
    settings = loaded()
    assert (settings.listen, settings.ops_listen) == ("0.0.0.0:9200", "127.0.0.1:9201")
    assert settings.every_upstream()["default"].origins == (Origin("127.0.0.1", 9300, "", tls=False),)
    assert (settings.database_url, settings.redis_url, settings.secret_key, settings.routes_file) == (None,) * 4
    assert (settings.trusted_proxies, settings.default_requests, settings.log_level) == ((), None, "info")
    assert settings.workers >= 1


def test_the_command_line_comes_before_the_environment_before_the_file(tmp_path: Path) -> None:
    toml = 'listen = "1.1.1.1:1"\nops_listen = "1.1.1.1:2"\nupstream = "http://file:3"\nlog_level = "error"\n'
    environ = {"GATEWAY_LISTEN": "2.2.2.2:1", "GATEWAY_OPS_LISTEN": "2.2.2.2:2"}
    settings = loaded(environ, toml, tmp_path, listen="3.3.3.3:1")
    assert (settings.listen, settings.ops_listen, settings.upstream) == ("3.3.3.3:1", "2.2.2.2:2", "http://file:3")
    assert settings.log_level == "error"


def test_the_environment_is_the_one_that_is_handed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is read behind the caller's back: not the process's environment, not a .env file."""
    monkeypatch.setenv("GATEWAY_LOG_LEVEL", "error")
    assert loaded({}).log_level == "info"
    assert Settings().log_level == "info"


def test_an_empty_variable_is_one_that_is_not_set(tmp_path: Path) -> None:
    """Compose files set what they pass on, also to nothing."""
    settings = loaded({"GATEWAY_LOG_LEVEL": "", "GATEWAY_REDIS_URL": ""}, 'log_level = "debug"', tmp_path)
    assert (settings.log_level, settings.redis_url) == ("debug", None)


def test_the_file_is_named_by_the_environment_or_the_caller(tmp_path: Path) -> None:
    one, two = tmp_path / "one.toml", tmp_path / "two.toml"
    one.write_text('log_level = "debug"')
    two.write_text('log_level = "error"')
    assert load({}, None, {"GATEWAY_CONFIG": str(one)}).log_level == "debug"
    assert load({}, two, {"GATEWAY_CONFIG": str(one)}).log_level == "error"
    assert load({}, None, {"GATEWAY_CONFIG": ""}).log_level == "info"


@pytest.mark.parametrize(
    ("content", "value"),
    [(SECRET, SECRET), (f"{SECRET}\n", SECRET), (f"{SECRET}\r\n", SECRET), (f" {SECRET}\n\n", f" {SECRET}\n")],
)
def test_a_value_may_stand_in_a_file(tmp_path: Path, content: str, value: str) -> None:
    """One line end is not part of it, as editors and ``openssl rand`` leave one."""
    path = tmp_path / "secret"
    path.write_bytes(content.encode())
    settings = loaded({"GATEWAY_SECRET_KEY_FILE": str(path)})
    assert settings.secret_key is not None
    assert settings.secret_key.get_secret_value() == value


def test_the_setting_whose_name_ends_in_file_is_itself(tmp_path: Path) -> None:
    assert loaded({"GATEWAY_ROUTES_FILE": "/etc/routes.toml"}).routes_file == Path("/etc/routes.toml")
    path = tmp_path / "where"
    path.write_text("/etc/other.toml\n")
    assert loaded({"GATEWAY_ROUTES_FILE_FILE": str(path)}).routes_file == Path("/etc/other.toml")


def test_faults_of_a_file_that_holds_a_value_name_the_variable(tmp_path: Path) -> None:
    empty, bad, binary = tmp_path / "empty", tmp_path / "bad", tmp_path / "binary"
    empty.write_text("\n")
    bad.write_text("short")
    binary.write_bytes(b"\xff\xfe")
    assert faults({"GATEWAY_SECRET_KEY_FILE": str(tmp_path / "absent")}) == [
        f"GATEWAY_SECRET_KEY_FILE: {tmp_path}/absent cannot be read: No such file or directory"
    ]
    assert faults({"GATEWAY_SECRET_KEY_FILE": str(tmp_path)}) == [
        f"GATEWAY_SECRET_KEY_FILE: {tmp_path} cannot be read: Is a directory"
    ]
    assert faults({"GATEWAY_SECRET_KEY_FILE": str(empty)}) == ["GATEWAY_SECRET_KEY_FILE: the file is empty"]
    (fault,) = faults({"GATEWAY_SECRET_KEY_FILE": str(bad)})
    assert fault.startswith("GATEWAY_SECRET_KEY_FILE: a secret key has at least 32 random characters")
    (fault,) = faults({"GATEWAY_SECRET_KEY_FILE": str(binary)})
    assert fault.startswith(f"GATEWAY_SECRET_KEY_FILE: {binary} cannot be read: ")
    assert faults({"GATEWAY_SECRET_KEY_FILE": str(bad), "GATEWAY_SECRET_KEY": SECRET}) == [
        "GATEWAY_SECRET_KEY_FILE: GATEWAY_SECRET_KEY is set as well; set one of them"
    ]
    bad.write_text(SECRET)
    assert loaded({"GATEWAY_SECRET_KEY_FILE": str(bad), "GATEWAY_SECRET_KEY": ""}).secret_key


def test_all_faults_are_told_at_once_each_by_the_name_that_was_written(tmp_path: Path) -> None:
    """G-02: from every source, unknown names with the one that was meant."""
    toml = 'listn = "x:1"\nworkers = -1\n[upstream]\na = 1\n'
    environ = {
        "GATEWAY_OPS_LISTEN": "nowhere",
        "GATEWAY_TRUSTED_PROXY": "10.0.0.1",
        "GATEWAY_LISTEN__HOST": "x",
        "GATEWAY_DEFAULT_REQUESTS": "lots",
        "GATEWAY_REDIS_URL": "http://redis",
        "OTHER": "x",
        "gateway_listen": "x",
    }
    found = faults(environ, toml, tmp_path, log_level="loud", drain_timeout=-1, colour="red")
    config = tmp_path / "gateway.toml"
    for expected in (
        f"{config}:1: listn: no such setting; did you mean 'listen'?",
        f"{config}:2: workers: ",
        f"{config}:3: upstream: ",
        "GATEWAY_OPS_LISTEN: write an address and a port",
        "GATEWAY_TRUSTED_PROXY: no such setting; did you mean 'GATEWAY_TRUSTED_PROXIES'?",
        "GATEWAY_LISTEN__HOST: no such setting",
        "GATEWAY_DEFAULT_REQUESTS: 'lots' is not a rate",
        "GATEWAY_REDIS_URL: the address begins with redis:// or rediss:// or unix://",
        "--log-level: it is one of debug, info, warning, error",
        "--drain-timeout: ",
        "--colour: no such setting",
    ):
        assert [fault for fault in found if fault.startswith(expected)], expected
    assert len(found) == 11


def test_a_file_that_is_none_is_one_fault_among_the_others(tmp_path: Path) -> None:
    found = faults({"GATEWAY_LOG_LEVEL": "loud"}, "listen = \n", tmp_path)
    assert found[0].startswith(f"{tmp_path}/gateway.toml:1: ")
    assert [fault.split(": ")[1] for fault in found] == ["it is not TOML", "it is one of debug, info, warning, error"]
    with pytest.raises(SettingsInvalid) as caught:
        load({}, tmp_path / "absent.toml", {})
    assert caught.value.faults == [f"{tmp_path}/absent.toml: it cannot be read: No such file or directory"]


def test_what_kubernetes_adds_is_no_fault() -> None:
    """Beside a Service that is called ``gateway`` every pod finds these."""
    loaded({
        "GATEWAY_SERVICE_HOST": "10.0.0.1", "GATEWAY_SERVICE_PORT": "9200", "GATEWAY_SERVICE_PORT_HTTP": "9200",
        "GATEWAY_PORT": "tcp://10.0.0.1:9200", "GATEWAY_PORT_9200_TCP": "tcp://10.0.0.1:9200",
        "GATEWAY_PORT_9200_TCP_ADDR": "10.0.0.1",
    })  # fmt: skip
    assert faults({"GATEWAY_PORTS": "1"}) == ["GATEWAY_PORTS: no such setting"]


@pytest.mark.parametrize("address", ["0.0.0.0:9200", "[::]:9200", "localhost:0", "gw.internal:65535", "[::1]:1"])
def test_an_address_is_a_host_and_a_port(address: str) -> None:
    assert loaded(listen=address).listen == address


@pytest.mark.parametrize(
    "address", ["", "9200", ":9200", "host:", "host:x", "host:65536", "host:-1", "host:9200x", "²:²"]
)
def test_what_is_no_address_is_refused(address: str) -> None:
    (fault,) = faults(listen=address)
    assert fault.startswith("--listen: ")


@pytest.mark.parametrize(
    ("text", "networks"),
    [
        ("10.0.0.1", ["10.0.0.1/32"]),
        ("10.0.0.0/8, 192.168.1.7/24 ,fd00::/8", ["10.0.0.0/8", "192.168.1.0/24", "fd00::/8"]),
        (" , ", []),
        (["127.0.0.1", "::1"], ["127.0.0.1/32", "::1/128"]),
    ],
)
def test_trusted_proxies_are_addresses_or_networks(text: object, networks: list[str]) -> None:
    assert loaded(trusted_proxies=text).trusted_proxies == tuple(map(ipaddress.ip_network, networks))


@pytest.mark.parametrize("text", ["0.0.0.0/0", "::/0", "10.0.0.1, 0.0.0.0/0", "1.2.3.4/0", ["::/0"]])
def test_trusting_everybody_is_refused(text: object) -> None:
    """H-09, oauth2-proxy CVE-2026-76835."""
    (fault,) = faults(trusted_proxies=text)
    assert "would trust everybody; name your proxies' own addresses" in fault


WIDE = ["0.0.0.0/1", "128.0.0.0/1", "8.0.0.0/7", "2000::/3", "2a00::/12", "::/8", "::ffff:0.0.0.0/97"]


@pytest.mark.parametrize("text", WIDE)
def test_trusting_much_of_the_internet_is_refused(text: str) -> None:
    """As good as everybody: whoever rents a machine is inside."""
    (fault,) = faults(trusted_proxies=text)
    assert "would trust much of the internet; name your proxies' own addresses" in fault


def test_trusting_everybody_in_pieces_is_refused() -> None:
    """Each piece for itself could be somebody's network."""
    for pieces in ([f"{n}.0.0.0/8" for n in range(128)], [f"{n:x}::/16" for n in range(0x2000, 0x3000)]):
        (fault,) = faults(trusted_proxies=pieces)
        assert "together these networks would trust everybody" in fault


@pytest.mark.parametrize(
    ("text", "network"),
    [("::ffff:10.0.0.1", "10.0.0.1/32"), ("::ffff:10.0.0.0/104", "10.0.0.0/8"), ("fc00::/7", "fc00::/7"),
     ("fe80::/10", "fe80::/10"), ("10.0.0.0/8", "10.0.0.0/8"), ("104.16.0.0/13", "104.16.0.0/13"),
     ("2606:4700::/32", "2606:4700::/32"), ("::1", "::1/128")],
)  # fmt: skip
def test_what_proxies_are_in_is_taken_in_one_form(text: str, network: str) -> None:
    """Private networks whole, those of content networks, and IPv4 however it is written."""
    assert loaded(trusted_proxies=text).trusted_proxies == (ipaddress.ip_network(network),)


@pytest.mark.parametrize(
    "text", ["*", "https://a.example", "https://a.example, http://localhost:5173", ["http://[::1]:3000"]]
)
def test_sites_are_named_as_browsers_name_them(text: object) -> None:
    expected = text if isinstance(text, list) else [part.strip() for part in str(text).split(",")]
    assert list(loaded(cors_origins=text).cors_origins) == expected


SITES = ["a.example", "https://a.example/", "https://A.example", "https://*.a.example", "ftp://a.example",
         "https://u@a.example", "https://", "https://[", "null"]  # fmt: skip


@pytest.mark.parametrize("text", SITES)
def test_what_no_browser_says_is_no_site(text: str) -> None:
    """An origin that never matches would be a page that never works, and nobody told why."""
    (fault,) = faults(cors_origins=text)
    assert "https://app.example.com" in fault


@pytest.mark.parametrize("name", ["cors_origins", "own_scopes"])
def test_what_is_no_text_in_a_list_is_told_and_not_passed_over(name: str) -> None:
    (fault,) = faults(**{name: ["https://a.example", 5]})
    assert fault.endswith("it is a text, in quotation marks")


@pytest.mark.parametrize("text", ["proxy.internal", "10.0.0.0/33", "10.0.0", 5, [5], [["10.0.0.1"]], True, "10.0.0.1/"])
def test_what_is_no_network_is_refused(text: object) -> None:
    (fault,) = faults(trusted_proxies=text)
    assert fault.startswith("--trusted-proxies: ")


@pytest.mark.parametrize(
    ("name", "value"),
    [("upstream_timeout", "inf"), ("upstream_timeout", "nan"), ("upstream_timeout", 0), ("upstream_timeout", 86_401),
     ("upstream_connect_timeout", float("inf")), ("drain_timeout", "inf"), ("journal_max_bytes", 1), ("workers", 257),
     ("journal_max_bytes", 2**63), ("usage_retention_days", 61), ("usage_retention_days", -1),
     ("workers", "many"), ("default_requests", "0/s"), ("default_requests", 5)],
)  # fmt: skip
def test_a_number_has_its_bounds(name: str, value: object) -> None:
    """Also where a worker could not be told of it: JSON has neither infinity nor integers without end."""
    (fault,) = faults(**{name: value})
    assert fault.startswith("--" + name.replace("_", "-"))


def test_a_rate_is_read() -> None:
    assert loaded({"GATEWAY_DEFAULT_REQUESTS": "600/m"}).default_requests == Rate(600, 60_000)


@pytest.mark.parametrize("secret", ["short", "x" * 64, "change-me", "abababababababababababababababababab"])
def test_a_weak_secret_is_refused_with_the_command_that_makes_one(secret: str) -> None:
    """G-01."""
    (fault,) = faults(secret_key=secret)
    assert "openssl rand -hex 32" in fault
    assert secret not in fault


SECRETS = {
    "GATEWAY_SECRET_KEY": PASSWORD,
    "GATEWAY_DATABASE_URL": f"mysql://gateway:{PASSWORD}@db/tahoe",
    "GATEWAY_REDIS_URL": f"http://:{PASSWORD}@redis:6379/0",
    "GATEWAY_UPSTREAM": f"http://user:{PASSWORD}@asr:9300",
}


def test_no_fault_repeats_a_secret(tmp_path: Path) -> None:
    """A-02: also when it is of the wrong type, or stands where another one belongs."""
    for text in ("\n".join(faults(SECRETS)), str(SettingsInvalid(faults(SECRETS)))):
        assert PASSWORD not in text
    toml = "\n".join(f'{name.removeprefix("GATEWAY_").lower()} = ["{value}"]' for name, value in SECRETS.items())
    assert PASSWORD not in "\n".join(faults({}, toml, tmp_path))


def test_no_secret_is_shown_when_settings_are_printed() -> None:
    settings = loaded({
        "GATEWAY_SECRET_KEY": SECRET,
        "GATEWAY_DATABASE_URL": f"postgresql://gateway:{PASSWORD}@db/tahoe",
        "GATEWAY_REDIS_URL": f"redis://:{PASSWORD}@redis:6379/0",
    })  # fmt: skip
    for text in (
        repr(settings),
        str(settings),
        settings.model_dump_json(),
        str(settings.model_dump()),
        f"{dict(settings)}",
    ):
        assert SECRET not in text
        assert PASSWORD not in text


def test_settings_are_not_changed_after_they_were_read() -> None:
    with pytest.raises(ValueError, match="frozen"):
        loaded().listen = "x:1"


def test_what_is_right_of_a_bad_configuration_is_still_known(tmp_path: Path) -> None:
    """So that a check can go on with the routes; not where the file as a whole says nothing."""
    with pytest.raises(SettingsInvalid) as caught:
        load({"routes_file": "/etc/r.toml", "workers": -1}, None, {})
    assert caught.value.rest is not None
    assert caught.value.rest.routes_file == Path("/etc/r.toml")
    assert caught.value.unusable == {("workers",)}
    with pytest.raises(SettingsInvalid) as caught:
        load({}, tmp_path / "absent.toml", {})
    assert caught.value.rest is None


def test_faults_of_several_settings_together_are_told_beside_those_of_single_ones(tmp_path: Path) -> None:
    """And nothing that only follows from another fault: what is there, but wrong, is not missing."""
    toml = (
        'workers = "many"\nupstream = "http://a"\nusage_http_url = "https://u:p@collector/x"\nusage_http_token = "t"\n'
        '[upstreams.default]\naddresses = ["http://b"]\nfaults = 0\n[upstreams.two]\naddresses = ["http://c"]\n'
        'client_key = "k.pem"\n[issuers.a]\nissuer = "https://a"\njwks_url = "ftp://a"\naudience = "gateway"\n'
        '[issuers.b]\nissuer = "https://b"\n'
    )
    found = faults({"GATEWAY_LISTEN": "x"}, toml, tmp_path)
    for told in (
        "workers: it is a whole number",
        ":2: upstream: [upstreams.default] has addresses as well",
        ":4: usage_http_token: usage_http_url holds a user as well",
        ":7: upstreams.default.faults: it is a number of at least 1",
        ":10: upstreams.two.client_key: client_key is of no use without client_certificate",
        ":13: issuers.a.jwks_url: an https address",
        "jwks_url is missing",
        "audience is missing",
        "GATEWAY_LISTEN: ",
    ):
        assert len([fault for fault in found if told in fault]) == 1, told
    assert len([fault for fault in found if "say tenant, or tenant_claim" in fault]) == 2
    assert len(found) == 11


@given(
    environ=st.dictionaries(
        st.sampled_from([f"GATEWAY_{name.upper()}" for name in Settings.model_fields]),
        st.one_of(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12), st.sampled_from(
            ["1", "0", "-1", "1e400", "true", "[]", "{}", "10.0.0.1", "a:1", "http://a", "unix:/a", "redis://a", "5/m", "http://["])),
        max_size=4,
    )
)  # fmt: skip
@example({"GATEWAY_USAGE_HTTP_URL": "http://["})
@example({"GATEWAY_PUBLIC_URL": "http://[", "GATEWAY_UPSTREAM": "http://["})
@hypothesis(suppress_health_check=[HealthCheck.too_slow])
def test_whatever_the_environment_holds_is_taken_or_answered_with_sentences(environ: dict[str, str]) -> None:
    """Nothing but SettingsInvalid is raised, and every sentence names a variable that is there."""
    try:
        loaded(environ)
    except SettingsInvalid as error:
        told = error.faults
    else:
        return
    assert told
    for fault in told:
        name, _, sentence = fault.partition(": ")
        assert name in environ
        assert sentence


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"usage_http_url": "https:///events"}, "no host"),
        ({"usage_http_url": "events.example"}, "begins with"),
        ({"usage_http_url": "https://user:hidden@h/", "usage_http_token": "t"}, "keep one of them"),
    ],
)
def test_the_endpoint_for_usage_is_judged_before_anything_is_sent(given: dict[str, str], said: str) -> None:
    (fault,) = faults(**given)
    assert said in fault
    assert "hidden" not in fault


BASES = [
    "ftp://a",
    "a.example",
    "https://",
    "https://u:p@a",
    "https://a/?x",
    "https://a/#x",
    "https://a b",
    "https://a:65536",
    "https://a:0",
    "javascript:x",
]


@pytest.mark.parametrize("url", BASES)
def test_links_begin_with_a_web_address_and_nothing_else(url: str) -> None:
    """A mistake here would stand in every mail and every token."""
    (fault,) = faults(public_url=url)
    assert fault.startswith("--public-url: write an address as users type it")
    assert loaded(public_url="https://a.example:8443/speech/").base_url == "https://a.example:8443/speech"


@pytest.mark.parametrize(
    ("listen", "ops_listen", "clash"),
    [
        ("127.0.0.1:9201", "127.0.0.1:9201", True),
        ("0.0.0.0:9201", "127.0.0.1:9201", True),
        ("127.0.0.1:9201", "0.0.0.0:9201", True),
        ("[::]:9201", "[::1]:9201", True),
        ("[::]:9201", "127.0.0.1:9201", False),
        ("127.0.0.1:9201", "127.0.0.2:9201", False),
        ("0.0.0.0:9200", "0.0.0.0:9201", False),
        ("127.0.0.1:0", "127.0.0.1:0", False),
    ],
)
def test_the_two_listeners_have_ports_of_their_own(listen: str, ops_listen: str, *, clash: bool) -> None:
    """Told by check-config, and not only by a start that fails."""
    if not clash:
        assert loaded(listen=listen, ops_listen=ops_listen).listen == listen
        return
    (fault,) = faults(listen=listen, ops_listen=ops_listen)
    assert fault.startswith("--ops-listen: listen (")
    assert "need ports of their own" in fault


@pytest.mark.parametrize(
    ("listen", "upstream", "loop"),
    [
        ("0.0.0.0:9400", "http://127.0.0.1:9400", True),
        ("[::]:9400", "http://10.0.0.7:9400, https://localhost:9400", True),
        ("10.0.0.7:9400", "http://10.0.0.7:9400", True),
        ("127.0.0.1:9400", "http://[::1]:9400", False),
        ("127.0.0.1:9400", "http://10.0.0.7:9400", False),
        ("0.0.0.0:80", "unix:/run/asr.sock", False),
    ],
)
def test_the_gateway_is_not_its_own_upstream(listen: str, upstream: str, *, loop: bool) -> None:
    """A public route would send each request around until no file is left."""
    if not loop:
        assert loaded(listen=listen, upstream=upstream).listen == listen
        return
    (fault,) = faults(listen=listen, upstream=upstream)
    assert fault.startswith(f"--upstream: listen ({listen}) is what upstream leads to, as ")


def test_the_default_upstream_counts_as_well() -> None:
    (fault,) = faults(listen="0.0.0.0:9300")
    assert fault == "--listen: listen (0.0.0.0:9300) is what upstream leads to, as 127.0.0.1:9300"


def test_the_default_of_the_other_listener_counts_as_well() -> None:
    (fault,) = faults(listen="0.0.0.0:9201")
    assert fault.startswith("--listen: listen (0.0.0.0:9201) and ops_listen (127.0.0.1:9201)")


def test_an_upstream_without_anything_is_told(tmp_path: Path) -> None:
    assert faults({}, "[upstreams.whisper]\n", tmp_path) != []


def test_faults_come_in_the_order_of_the_file_and_none_hides_another(tmp_path: Path) -> None:
    """Also those inside one list, in a table whose name is wrong, and of a table that lacks its addresses."""
    toml = (
        'workers = "many"\ndrain_timeout = nan\njournal_max_bytes = 1\ntrusted_proxies = ["0.0.0.0/0", "10.0.0.300"]\n'
        'upstrem = "x"\n[upstreams.Bad]\naddresses = ["ftp://a", "http://b/c"]\n[upstreams.two]\n'
        "faults = 0\nhealth_interval = -1\n"
    )
    found = faults({"GATEWAY_LISTEN": "x"}, toml, tmp_path)
    config = tmp_path / "gateway.toml"
    said = [fault.removeprefix(f"{config}:") for fault in found]
    assert [fault.partition(":")[0] for fault in said] == [*"123457799", "10", "GATEWAY_LISTEN"]
    assert said[0] == "1: workers: it is a whole number"
    assert said[1] == "2: drain_timeout: it is a number of at most 86,400"
    assert said[2] == "3: journal_max_bytes: it is a number of at least 33,554,432"
    assert "0.0.0.0/0 would trust everybody" in said[3]
    assert "10.0.0.300" in said[3]
    assert "'ftp://a'" in said[5] + said[6]
    assert "'http://b/c'" in said[5] + said[6]
    assert "'Bad': a name is" in said[5] + said[6]
    assert "'two' has no addresses" in said[7] + said[8]
