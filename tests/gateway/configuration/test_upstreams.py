"""Settings of upstreams: the short form, tables of the file, the environment, and what is told of faults in them."""

from pathlib import Path

import pytest

from gateway.configuration.blueprint import Blueprint
from gateway.configuration.settings import Settings
from gateway.configuration.sources import SettingsInvalid, load
from gateway.configuration.upstreams import UpstreamSettings

SECRET = "s3cr3t-of-the-service"


def loaded(toml: str, tmp_path: Path, **environ: str) -> Settings:
    config = tmp_path / "gateway.toml"
    config.write_text(toml)
    return load({}, config, environ)


def faults(toml: str, tmp_path: Path, **environ: str) -> list[str]:
    with pytest.raises(SettingsInvalid) as caught:
        loaded(toml, tmp_path, **environ)
    return caught.value.faults


def test_the_short_form_lists_addresses_of_the_default_upstream() -> None:
    settings = load({}, None, {"GATEWAY_UPSTREAM": "http://a:1, https://b ,unix:/run/c.sock"})
    (one,) = settings.every_upstream().items()
    assert (one[0], one[1].addresses) == ("default", ("http://a:1", "https://b", "unix:/run/c.sock"))


@pytest.mark.parametrize("name", [".a", "a..b", 64 * "a", "a b"])
def test_a_name_that_nobody_can_be_asked_by_is_a_fault(name: str) -> None:
    """Every request was 500 instead, and so was /readyz."""
    with pytest.raises(ValueError, match="a host name"):
        UpstreamSettings(addresses=("https://127.0.0.1",), server_name=name)


def test_tables_and_environment_meet_setting_by_setting(tmp_path: Path) -> None:
    """The environment comes first, as everywhere; what it does not name stays the file's."""
    secret = tmp_path / "secret"
    secret.write_text(f"{SECRET}\n")
    settings = loaded(
        """
        upstream = "http://a"
        [upstreams.default]
        health_path = "/health"
        aside = 2
        [upstreams.other]
        addresses = ["http://b", "http://c"]
        credential_header = "X-API-Key"
        """,
        tmp_path,
        GATEWAY_UPSTREAMS__DEFAULT__ASIDE="7",
        GATEWAY_UPSTREAMS__OTHER__CREDENTIAL_FILE=str(secret),
        GATEWAY_UPSTREAMS__THIRD__ADDRESSES="http://d,http://e",
    )
    found = settings.every_upstream()
    assert list(found) == ["default", "other", "third"]
    assert (found["default"].addresses, found["default"].health_path, found["default"].aside) == (
        ("http://a",), "/health", 7.0,
    )  # fmt: skip
    assert found["other"].credential_line == f"X-API-Key: {SECRET}\r\n".encode()
    assert found["third"].addresses == ("http://d", "http://e")


def test_a_secret_in_a_file_may_be_named_by_the_table(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text(SECRET)
    settings = loaded(f'[upstreams.default]\ncredential_file = "{secret}"', tmp_path)
    assert settings.every_upstream()["default"].credential_line == f"Authorization: Bearer {SECRET}\r\n".encode()
    (absent,) = faults('[upstreams.default]\ncredential_file = "/nonexistent"', tmp_path)
    where = f"{tmp_path}/gateway.toml:2: upstreams.default.credential_file"
    assert absent == f"{where}: /nonexistent cannot be read: No such file or directory"


def test_a_file_setting_is_itself(tmp_path: Path) -> None:
    """``ca_file`` is a path, not the place of a setting ``ca``."""
    settings = loaded('[upstreams.default]\nca_file = "/etc/ca.pem"', tmp_path)
    assert settings.every_upstream()["default"].ca_file == Path("/etc/ca.pem")


FAULTS = [
    ('[upstreams.other]\nhealth_path = "/"', "upstreams.other.health_path: 'other' has no addresses"),
    ('[upstreams.default]\nadresses = ["http://a"]', "upstreams.default.adresses: no such setting; did you mean 'a"),
    ('[upstreams.default]\naddresses = ["ftp://a"]', "upstreams.default.addresses: an upstream is http://"),
    ('upstream = "http://a"\n[upstreams.default]\naddresses = ["http://b"]', "keep one of them"),
    ('[upstreams.portal]\naddresses = ["http://b"]', "'portal' is the name of the gateway's own pages"),
    ('[upstreams."A B"]\naddresses = ["http://b"]', "a name is lower-case letters"),
    ("[upstreams.default]\naside = 0", "upstreams.default.aside: "),
    ('[upstreams.default]\nhealth_path = "health"', "upstreams.default.health_path: a plain path"),
    ('[upstreams.default]\ncredential_header = "Host"', "upstreams.default.credential_header: the name of a header"),
    ('[upstreams.default]\nclient_key = "/k"', "client_key is of no use without client_certificate"),
    ("upstreams = 5", "upstreams: "),
    ("[upstreams]\ndefault = 5", "upstreams.default: "),
    ("[upstreams.default.deeper]\na = 5", "upstreams.default.deeper: no such setting"),
    ('upstream = ""', "upstream: an upstream has at least one address"),
    ('upstream = ","', "upstream: an upstream has at least one address"),
]


@pytest.mark.parametrize(("toml", "fault"), FAULTS)
def test_a_fault_says_where_and_what(tmp_path: Path, toml: str, fault: str) -> None:
    (found,) = faults(toml, tmp_path)
    assert fault in found


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    found = faults(
        "[upstreams.default]\naside = 0\nfalts = 1\n"
        "[upstreams.other]\naddresses = ['http://b/c']\n[upstreams.third]\nfaults = 2",
        tmp_path,
        GATEWAY_UPSTREAMS__DEFAULT__FAULTS="none",
        GATEWAY_UPSTREAMS__DEFAULT="x",
    )
    assert len(found) == 6
    assert any("'third' has no addresses" in fault for fault in found)
    assert any(fault.startswith("GATEWAY_UPSTREAMS__DEFAULT__FAULTS: ") for fault in found)
    assert any(fault.startswith("GATEWAY_UPSTREAMS__DEFAULT: no such setting") for fault in found)


@pytest.mark.parametrize("credential", ["two\nlines", "\x00", "naïve"])
def test_a_credential_that_would_break_a_header_is_refused_and_not_repeated(tmp_path: Path, credential: str) -> None:
    found = faults("", tmp_path, GATEWAY_UPSTREAMS__DEFAULT__CREDENTIAL=credential)
    assert found == ["GATEWAY_UPSTREAMS__DEFAULT__CREDENTIAL: visible ASCII on one line"]


def test_a_password_in_an_address_is_not_repeated(tmp_path: Path) -> None:
    found = faults(f'[upstreams.default]\naddresses = ["http://u:{SECRET}@a"]', tmp_path)
    assert SECRET not in str(found)


def test_a_worker_gets_all_of_it_and_nobody_sees_the_secret(tmp_path: Path) -> None:
    settings = loaded(
        '[upstreams.default]\naddresses = ["https://a"]\nca_file = "/ca"\n[upstreams.b]\naddresses = ["http://b"]',
        tmp_path,
        GATEWAY_UPSTREAMS__B__CREDENTIAL=SECRET,
    )
    for text in (repr(settings), settings.model_dump_json(), f"{dict(settings)}"):
        assert SECRET not in text
    arrived = Blueprint.from_message(Blueprint(settings, "", "", "").to_message()).settings
    assert arrived.every_upstream() == settings.every_upstream()


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_files_that_cannot_be_used_are_named(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_text(content)
    for settings in (
        UpstreamSettings(addresses=("https://a",), ca_file=file),
        UpstreamSettings(addresses=("https://a",), client_certificate=file),
    ):
        with pytest.raises(ValueError, match=str(file)):
            settings.tls()
    assert UpstreamSettings(addresses=("http://a",), ca_file=file).tls() is None
