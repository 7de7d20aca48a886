"""`gateway check-config`: every fault of settings and routes at once, each where the operator can find it."""

from pathlib import Path

import pytest

from gateway.cli.config import route_faults
from gateway.shipped import shipped
from tests.gateway.cli.conftest import SECRET, Operator

CONFIGURED = {
    "GATEWAY_DATABASE_URL": "postgresql://127.0.0.1/x",
    "GATEWAY_REDIS_URL": "redis://127.0.0.1",
    "GATEWAY_SECRET_KEY": SECRET,
}

ROUTES = """\
# A table with a fault of every kind.
[limits]
rate = "1/s"

[[routes]]
name = "good"
path = "/good"
methods = ["GET"]

  [[ routes ]]
name = "Bad Name"
path = "/a/../b"
methods = ["FETCH"]
colour = "red"

[[routes]]
name = "twin"
path = "/{one}"
methods = ["GET"]

[[routes]]
name = "other"
path = "/{two}"
methods = ["GET"]
"""


@pytest.fixture
def routes(tmp_path: Path) -> Path:
    path = tmp_path / "routes.toml"
    path.write_text(ROUTES)
    return path


def test_a_bare_machine_is_fine_and_told_what_serving_needs(stranger: Operator) -> None:
    result = stranger.run("check-config")
    assert result.stdout.startswith("configuration is fine")
    assert "warning: GATEWAY_DATABASE_URL: it is required, unless --embedded" in result.stderr
    assert stranger.run("check-config", "--embedded").stderr == ""


def test_a_whole_configuration_is_fine_without_a_word(stranger: Operator) -> None:
    stranger.environment |= CONFIGURED
    assert stranger.json("check-config") == {"ok": True, "faults": [], "warnings": []}
    assert stranger.run("check-config").stderr == ""


@pytest.mark.parametrize("left_out", ["GATEWAY_DATABASE_URL", "GATEWAY_REDIS_URL", "GATEWAY_SECRET_KEY"])
def test_half_a_configuration_is_a_fault(stranger: Operator, left_out: str) -> None:
    stranger.environment |= {name: value for name, value in CONFIGURED.items() if name != left_out}
    assert left_out in stranger.run("check-config", status=1).stderr
    stranger.run("check-config", "--embedded")


def test_what_needs_whole_settings_is_checked_beside_faults_of_others(stranger: Operator, tmp_path: Path) -> None:
    """What is required, files that settings name, and upstreams that routes name; as `gateway serve` tells them."""
    config, routes = tmp_path / "gateway.toml", tmp_path / "routes.toml"
    routes.write_text(
        '[[routes]]\nname = "a"\npath = "/a"\nmethods = ["GET"]\nupstream = "gone"\n'
        '[[routes]]\nname = "b"\npath = "/b"\nmethods = ["GET"]\nupstream = "broken"\n'
    )
    config.write_text(
        f'workers = "many"\nroutes_file = "{routes}"\ndatabase_url = "mysql://db"\n'
        '[upstreams.two]\naddresses = ["https://b"]\nca_file = "/absent.pem"\nfaults = 0\n'
        '[upstreams.broken]\naddresses = ["ftp://c"]\nca_file = "/absent.pem"\n'
    )
    checked = stranger.run("check-config", "--config", str(config), status=1).stderr
    served = stranger.run("serve", "--config", str(config), status=1).stderr
    for expected in (
        "workers: it is a whole number",
        "database_url: ",
        "upstreams.two: ca_file: /absent.pem: No such file",
        "upstreams.two.faults: ",
        "GATEWAY_REDIS_URL: it is req",
    ):
        assert expected in checked
        assert expected in served
    assert "'gone'" in checked
    assert checked.splitlines()[:-1] == served.splitlines()[:-1]
    assert "GATEWAY_DATABASE_URL: it is required" not in checked
    assert "'broken'" not in checked
    assert "8 to correct" in checked


def test_all_faults_are_shown_at_once_settings_and_routes(stranger: Operator, routes: Path, tmp_path: Path) -> None:
    config = tmp_path / "gateway.toml"
    config.write_text(
        f'listen = "nowhere"\nworker = 3\nroutes_file = "{routes}"\ntrusted_proxies = ["0.0.0.0/0"]\nworkers = "many"\n'
    )
    stranger.environment |= {
        "GATEWAY_LISTNE": "x:1",
        "GATEWAY_UPSTREAM": "ftp://example.com",
        "GATEWAY_SECRET_KEY": "hunter2 hunter2",
        "GATEWAY_DATABASE_URL": "mysql://root:hunter2@db/x",
        "GATEWAY_REDIS_URL_FILE": str(tmp_path / "missing"),
    }
    answer = stranger.json("check-config", "--config", str(config), status=1)
    assert not answer["ok"]
    found = "\n".join(answer["faults"])
    for expected in (
        f"{config}:1: listen: write an address and a port",
        f"{config}:2: worker: no such setting; did you mean 'workers'?",
        f"{config}:4: trusted_proxies: 0.0.0.0/0 would trust everybody",
        f"{config}:5: workers: ",
        "GATEWAY_LISTNE: no such setting; did you mean 'GATEWAY_LISTEN'?",
        "GATEWAY_UPSTREAM: an upstream is",
        "GATEWAY_SECRET_KEY: a secret key has at least 32",
        "GATEWAY_DATABASE_URL: the address begins with postgresql://",
        "GATEWAY_REDIS_URL_FILE: ",
        f"{routes}:2: unknown table 'limits'",
        f"{routes}:14: route 2 (Bad Name): unknown setting 'colour'",
        f"{routes}:12: route 2 (Bad Name): '/a/../b' is not a plain path",
        f"{routes}:13: route 2 (Bad Name): methods is a list",
        f"{routes}:11: route 2 (Bad Name): a name is lower-case letters",
    ):
        assert expected in found
    assert "hunter2" not in found
    result = stranger.run("check-config", "--config", str(config), status=1)
    assert result.stdout == ""
    assert all(fault in result.stderr for fault in answer["faults"])
    assert f"{len(answer['faults'])} to correct" in result.stderr


def test_clashing_routes_are_found_by_name(stranger: Operator, tmp_path: Path) -> None:
    path = tmp_path / "routes.toml"
    path.write_text(ROUTES.replace("[limits]\nrate", "#").replace("Bad Name", "fine").replace("/a/../b", "/b"))
    path.write_text(path.read_text().replace("FETCH", "GET").replace('colour = "red"', ""))
    assert route_faults(path) == [f"{path}:22: 'other' and 'twin' both claim GET /{{two}}"]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("routes = 3", "'routes' is a list of tables"),
        ('routes = ["x"]', "'routes' is a list of tables"),
        ("[routes]\na = 1", "'routes' is a list of tables"),
        ("[[routes]\n", "routes.toml:1: it is not TOML: "),
        ("[[routes]]\n\nname = \n", "at line 3"),
        ("\n[[routes]]", "routes.toml:2: route 1 (without a name): 'name' is missing"),
        ('routes = [{name = "a"}]', "routes.toml:1: route 1 (a): 'path' is missing"),
    ],
)
def test_any_file_is_answered_with_a_sentence(tmp_path: Path, text: str, fault: str) -> None:
    path = tmp_path / "routes.toml"
    path.write_text(text)
    faults = route_faults(path)
    assert all(each.startswith(str(path)) for each in faults)
    assert fault in "\n".join(faults)


def test_a_file_that_is_not_there_or_not_text_is_a_fault(stranger: Operator, tmp_path: Path) -> None:
    assert "cannot be read" in stranger.run("check-config", "--config", str(tmp_path / "none"), status=1).stderr
    (tmp_path / "binary").write_bytes(b"\xff\xfe\0")
    assert "is not TOML" in stranger.run("check-config", "--config", str(tmp_path / "binary"), status=1).stderr
    assert route_faults(tmp_path / "none") == [f"{tmp_path / 'none'}: it cannot be read: No such file or directory"]
    assert "is not TOML" in route_faults(tmp_path / "binary")[0]


def test_the_file_of_the_environment_is_checked_too(stranger: Operator, tmp_path: Path) -> None:
    (tmp_path / "gateway.toml").write_text("workers = -1\n")
    stranger.environment["GATEWAY_CONFIG"] = str(tmp_path / "gateway.toml")
    assert "workers: " in stranger.run("check-config", status=1).stderr


def test_the_slow_parser_is_worth_a_warning(stranger: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    from aiohttp import http_parser  # noqa: PLC0415  only this test looks at it

    monkeypatch.setattr(http_parser, "HttpRequestParser", http_parser.HttpRequestParserPy)
    assert "without its C parser" in stranger.run("check-config", "--embedded").stderr


def test_an_upstream_that_does_not_exist_is_a_fault_of_the_table(stranger: Operator, tmp_path: Path) -> None:
    """Found before anything starts, beside the other faults and in the file's order."""
    path = tmp_path / "routes.toml"
    path.write_text(
        "[[routes]]\nname = 'a'\npath = '/a'\nupstream = 'nowhere'\nmethods = ['GET']\n\n[[routes]]\nname = 'b'\n"
    )
    stranger.environment["GATEWAY_ROUTES_FILE"] = str(path)
    assert stranger.json("check-config", "--embedded", status=1)["faults"] == [
        f"{path}:4: route 1 (a): no upstream is called 'nowhere'",
        f"{path}:7: route 2 (b): 'path' is missing",
        f"{path}:7: route 2 (b): 'methods' is missing",
    ]


def test_the_shipped_routes_are_fine() -> None:
    assert route_faults(shipped("routes.toml")) == []


def test_a_user_without_a_home_must_name_a_state_directory(stranger: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container that runs under any user id."""
    del stranger.environment["GATEWAY_STATE_DIR"]
    monkeypatch.setattr("os.geteuid", lambda: 12_345)
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError))
    for words in (("check-config",), ("tenant", "list")):
        assert "choose a state directory with GATEWAY_STATE_DIR" in stranger.run(*words, status=1).stderr


def test_wrong_usage_ends_with_status_2(stranger: Operator) -> None:
    stranger.run("check-config", "extra", status=2)
