"""``docker-compose.yml``: what it promises about isolation, secrets and order, and that its parts fit together."""

import ipaddress
import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from gateway.configuration.settings import Settings
from gateway.configuration.sources import load
from tests.deploy import files

COMPOSE = files.compose()
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
BUILT = {name: service["build"]["target"] for name, service in SERVICES.items() if "build" in service}
every_service = pytest.mark.parametrize("name", SERVICES)


@pytest.fixture(scope="module")
def made_secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``make-secrets.sh`` makes."""
    folder = tmp_path_factory.mktemp("made") / "secrets"
    subprocess.run(["sh", files.ROOT / "config/docker/make-secrets.sh", folder], check=True)
    return folder


@every_service
def test_no_service_has_more_of_the_machine_than_it_needs(name: str) -> None:
    """No capability, none to be gained, nothing written outside volumes and tmpfs, and an end to all that grows."""
    service = SERVICES[name]
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert "privileged" not in service
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["read_only"] is True
    assert {"mem_limit", "cpus", "pids_limit", "restart"} <= set(service)
    assert service["logging"]["options"]["max-size"]
    # prom/prometheus and grafana/grafana run as users of their own; the rest says so here or in our Dockerfile.
    assert name in BUILT or name in ("prometheus", "grafana") or not service["user"].startswith("0")


@every_service
def test_every_image_has_a_version(name: str) -> None:
    """No tag that means another image tomorrow and no major change by surprise."""
    _, colon, tag = SERVICES[name]["image"].rpartition(":")
    assert colon
    assert re.match(r"v?\d+", tag)


@every_service
def test_every_service_says_whether_it_is_well(name: str) -> None:
    """In the file, or in the image that is built here; a command that runs once has an exit status instead."""
    if name == "migrate":
        assert SERVICES[name]["healthcheck"] == {"disable": True}
    elif name in BUILT:
        assert any(word == "HEALTHCHECK" for word, _ in files.image(BUILT[name]))
    else:
        assert SERVICES[name]["healthcheck"]["test"]


def test_nothing_starts_before_what_it_stands_on_is_well() -> None:
    """The gateway after the migrations, the migrations after PostgreSQL; nobody merely after a start."""
    needs = {
        name: {on: how["condition"] for on, how in s.get("depends_on", {}).items()} for name, s in SERVICES.items()
    }
    assert needs["gateway"] == {
        "migrate": "service_completed_successfully",
        "postgres": "service_healthy",
        "valkey": "service_healthy",
        "transcriber": "service_healthy",
    }
    assert needs["migrate"] == {"postgres": "service_healthy"}
    for name, conditions in needs.items():
        assert set(conditions) <= set(SERVICES)
        assert "service_started" not in conditions.values()
        # A service that always starts must not need one that a profile leaves out.
        assert "profiles" in SERVICES[name] or not any("profiles" in SERVICES[on] for on in conditions)


@every_service
def test_a_secret_is_a_file_that_its_reader_alone_has(name: str) -> None:
    """None in the environment, where `docker inspect` and every child process can read it."""
    service = SERVICES[name]
    for variable, value in service.get("environment", {}).items():
        assert not re.search(r"://[^/]*:[^/]*@", str(value))
        if re.search(r"PASSWORD|SECRET|DATABASE_URL|REDIS_URL|TOKEN", variable):
            assert variable.endswith("_FILE")
            assert value.startswith("/run/secrets/")
    mounted = {secret if isinstance(secret, str) else secret["source"] for secret in service.get("secrets", ())}
    assert mounted <= set(COMPOSE["secrets"])
    assert set(re.findall(r"/run/secrets/(\w+)", _all_that_it_reads(service))) == {
        secret for secret in service.get("secrets", ()) if isinstance(secret, str)
    }


def _all_that_it_reads(service: dict[str, Any]) -> str:
    """The service's own text and the text of each file that is mounted into it."""
    parts = [json.dumps(service)]
    parts += [source.read_text() for source in map(Path, _mounted(service)) if source.is_file()]
    return "\n".join(parts)


def _mounted(service: dict[str, Any]) -> list[Path]:
    sources = [volume.partition(":")[0] for volume in service.get("volumes", ())]
    return [files.ROOT / source for source in sources if source.startswith("./")]


@every_service
def test_what_is_mounted_exists_and_is_read_only(name: str) -> None:
    """Docker makes an empty folder, silently, of a path that is not there."""
    assert all(path.exists() for path in _mounted(SERVICES[name]))
    for volume in SERVICES[name].get("volumes", ()):
        source, target, *mode = volume.split(":")
        assert target.startswith("/")
        assert mode == ["ro"] if source.startswith("./") else source in COMPOSE["volumes"]


def test_no_port_is_open_to_the_network_by_default() -> None:
    """Loopback, until TAHOE_BIND says otherwise; the stores and the ops listener have no port on the host at all."""
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert set(published) == {"gateway", "nginx", "prometheus", "grafana"}
    assert all(port.startswith("127.0.0.1:") for ports in published.values() for port in ports)
    assert published["gateway"] == ["127.0.0.1:9200:9200"]


def test_the_shared_network_has_the_name_that_other_services_join() -> None:
    """And it carries the gateway and both stores; whoever watches, or stands in front, is elsewhere."""
    assert COMPOSE["networks"]["tahoe-network"]["name"] == "tahoe-network"
    on = {name: set(service["networks"]) for name, service in SERVICES.items()}
    assert {name for name, networks in on.items() if "tahoe-network" in networks} == {
        "gateway", "migrate", "postgres", "valkey", "transcriber",
    }  # fmt: skip
    assert {name for name, networks in on.items() if "edge" in networks} == {"gateway", "nginx"}


def test_the_gateway_trusts_nginx_and_nobody_else() -> None:
    """The one trusted address is that of nginx, in a network that nobody else is in."""
    address = SERVICES["nginx"]["networks"]["edge"]["ipv4_address"]
    (subnet,) = COMPOSE["networks"]["edge"]["ipam"]["config"]
    assert ipaddress.ip_address(address) in ipaddress.ip_network(subnet["subnet"])
    assert SERVICES["gateway"]["environment"]["GATEWAY_TRUSTED_PROXIES"] == address


def settings_of(name: str, secrets: Path) -> Settings:
    """The settings that a service starts with, from its environment and the secrets that were made."""
    environment = {
        variable: str(value).replace("/run/secrets", str(secrets))
        for variable, value in SERVICES[name]["environment"].items()
    }
    return load(environ=environment)


def test_the_gateway_takes_the_environment_it_is_given(made_secrets: Path) -> None:
    """Every name is a setting, every value is valid, and the addresses are those of the services beside it."""
    settings = settings_of("gateway", made_secrets)
    assert settings.secret_key is not None
    assert settings.database_url is not None
    assert settings.redis_url is not None
    database, redis = (urlsplit(url.get_secret_value()) for url in (settings.database_url, settings.redis_url))
    postgres = SERVICES["postgres"]["environment"]
    assert (database.hostname, database.port, database.path) == ("postgres", 5432, f"/{postgres['POSTGRES_DB']}")
    assert database.username != postgres["POSTGRES_USER"]
    assert (redis.hostname, redis.port) == ("valkey", 6379)
    assert settings.upstream == "http://transcriber:9300"
    assert settings_of("migrate", made_secrets).database_url == settings.database_url
    grace = int(SERVICES["gateway"]["stop_grace_period"].removesuffix("s"))
    assert grace >= settings.drain_timeout + 10


def test_the_secrets_agree_with_each_other(made_secrets: Path) -> None:
    """One password, in the two shapes in which its two readers want it; and no two secrets alike."""
    kept = {path.name: path.read_text() for path in made_secrets.iterdir()}
    assert set(kept) == {Path(secret["file"]).name for secret in COMPOSE["secrets"].values()}
    assert urlsplit(kept["database_url"]).password == kept["gateway_database_password"]
    assert kept["valkey_auth"] == f"requirepass {urlsplit(kept['redis_url']).password}\n"
    assert len(set(kept.values())) == len(kept)
    assert all(len(kept[name]) == 64 for name in ("secret_key", "postgres_password", "grafana_password"))


def test_secrets_are_made_once_and_only_the_owner_comes_to_them(made_secrets: Path) -> None:
    """A second run changes none of them; the folder is closed, the files in it readable for the containers' users."""
    before = {path.name: path.read_text() for path in made_secrets.iterdir()}
    (made_secrets / "grafana_password").unlink()
    subprocess.run(["sh", files.ROOT / "config/docker/make-secrets.sh", made_secrets], check=True)
    after = {path.name: path.read_text() for path in made_secrets.iterdir()}
    assert {name for name in before if before[name] != after[name]} == {"grafana_password"}
    assert made_secrets.stat().st_mode & 0o777 == 0o700
    assert all(path.stat().st_mode & 0o004 for path in made_secrets.iterdir())


def test_the_example_environment_names_every_variable_with_its_default() -> None:
    """And none that nobody reads."""
    lines = [line for line in files.text(".env.example").splitlines() if line and not line.startswith("#")]
    example = dict(line.split("=", 1) for line in lines)
    assert {name: {default} for name, default in example.items()} == files.compose_variables()
    assert "$" not in re.sub(r"\$\{[A-Z_]+:-[^}]*\}|\$\$", "", files.text("docker-compose.yml"))


def test_nginx_finds_the_gateway_by_its_service_name() -> None:
    """The compose file's upstreams stand in for the shipped ones: the same name, another address."""
    upstreams = files.text("config/docker/upstreams.conf")
    assert "upstream tahoe_gateway {\n    server gateway:9200;" in upstreams
    mounted = SERVICES["nginx"]["volumes"]
    assert "./config/nginx/proxy.conf:/etc/nginx/conf.d/default.conf:ro" in mounted
    assert "./config/docker/upstreams.conf:/etc/nginx/conf.d/upstreams.conf:ro" in mounted
    wanted = set(re.findall(r"/etc/nginx/tls/[a-z.]+", files.text("config/nginx/proxy.conf")))
    assert wanted == {secret["target"] for secret in SERVICES["nginx"]["secrets"]}


def test_prometheus_and_grafana_find_what_they_show() -> None:
    """The ops listener's address, the data source, and the folder of the dashboard."""
    scraped = yaml.safe_load(files.text("config/prometheus/prometheus.yml"))
    (job,) = scraped["scrape_configs"]
    port = SERVICES["gateway"]["environment"]["GATEWAY_OPS_LISTEN"].rpartition(":")[2]
    assert job["static_configs"] == [{"targets": [f"gateway:{port}"]}]
    assert all((files.ROOT / "config/prometheus" / name).is_file() for name in scraped["rule_files"])
    (source,) = yaml.safe_load(files.text("config/grafana/provisioning/datasources/prometheus.yml"))["datasources"]
    assert source["url"] == "http://prometheus:9090"
    (provider,) = yaml.safe_load(files.text("config/grafana/provisioning/dashboards/gateway.yml"))["providers"]
    assert f"./config/grafana/dashboards:{provider['options']['path']}:ro" in SERVICES["grafana"]["volumes"]
    for one, other in (("prometheus", "gateway"), ("grafana", "prometheus")):
        assert set(SERVICES[one]["networks"]) & set(SERVICES[other]["networks"])


@pytest.mark.parametrize("path", sorted((files.ROOT / "config").glob("*/*.sh")), ids=lambda path: path.name)
def test_the_scripts_are_plain_shell_that_can_be_run(path: Path) -> None:
    """POSIX sh: the images they run in have no other."""
    assert path.read_text().startswith("#!/bin/sh\n")
    assert os.access(path, os.X_OK)
    subprocess.run(["sh", "-n", path], check=True)
