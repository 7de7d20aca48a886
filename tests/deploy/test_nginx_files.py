"""The shipped nginx files: nginx takes them, and they say all that the gateway's own header algebra says."""

import json
import re
from pathlib import Path

import pytest

from policies.http import headers
from policies.http.verdict import Refusal
from tests.deploy import nginx

FORWARD_AUTH = (nginx.SHIPPED / "forward-auth.conf").read_text()
SET = dict(re.findall(r"^ {4}proxy_set_header (\S+) (\S+);", FORWARD_AUTH, re.MULTILINE))
ANSWERED = dict(re.findall(r"auth_request_set \$(\S+)\s+\$upstream_http_(\S+);", FORWARD_AUTH))


@pytest.mark.parametrize("names", [("forward-auth.conf",), ("proxy.conf",)], ids="+".join)
def test_nginx_takes_the_shipped_file_without_a_warning(tmp_path: Path, names: tuple[str, ...]) -> None:
    """``nginx -t`` with the file as a distribution would include it."""
    places = nginx.Places(gateway=9200, transcriber=9300, listen="127.0.0.1:8080")
    said = nginx.check(nginx.configure(tmp_path, places, *names))
    assert "[warn]" not in said
    assert "[emerg]" not in said


@pytest.mark.parametrize("name", headers.IDENTITY)
def test_every_identity_header_comes_from_the_gateway_and_nowhere_else(name: str) -> None:
    """Taken from its answer and set for the transcriber, always: what is not set is the client's to forge."""
    assert ANSWERED[SET[name].removeprefix("$")] == name.lower().replace("-", "_")
    assert f"proxy_hide_header {name};" in FORWARD_AUTH


OAUTH2_PROXY = ("User", "Email", "Groups", "Preferred-Username")


@pytest.mark.parametrize("name", [f"X-Auth-Request-{last}" for last in OAUTH2_PROXY])
def test_what_oauth2_proxy_would_say_comes_from_the_gateway_or_not_at_all(name: str) -> None:
    """A transcriber that stood behind oauth2-proxy believes these; a client's own would make it somebody else."""
    assert ANSWERED[SET[name].removeprefix("$")] == name.lower().replace("-", "_")


BY_NGINX = {"te", "keep-alive"}
"""nginx's proxy module drops these itself, and the framing, which it writes anew."""


def test_what_the_proxy_door_never_passes_on_forward_auth_does_not_either() -> None:
    """Every name that the gateway drops from a request is set or emptied by the file: one algebra behind two doors."""
    kinds = headers._Kind
    dropped = {
        name.decode()
        for name, kind in headers._REQUEST._kinds.items()
        if kind in (kinds.DROP, kinds.AUTHORIZATION, kinds.API_KEY, kinds.CONNECTION, kinds.UPGRADE, kinds.REQUEST_ID)
    }
    assert dropped - BY_NGINX <= {name.lower() for name in SET}


def test_every_refusal_is_the_error_object_that_sdks_read() -> None:
    """Valid JSON with all four members of OpenAI's error, in the gateway's own words, whichever those are."""
    block = FORWARD_AUTH.partition('map "" $tahoe_refusal {')[2].partition("\n}")[0]
    ((body,),) = [re.findall(r"^\s*default\s+'(.*)';$", block, re.MULTILINE)]
    for refusal in Refusal:
        said = json.loads(body.replace("$tahoe_message", refusal.message).replace("$tahoe_code", refusal.code))["error"]
        assert said == {
            "message": f"{refusal.message} (request id $tahoe_request_id)",
            "type": "$tahoe_type",
            "param": None,
            "code": refusal.code,
        }
        assert refusal.message.isascii()
        assert refusal.message.isprintable()


def test_no_rewrite_and_no_path_stand_between_what_is_judged_and_what_is_served() -> None:
    """The transcriber and the gateway get the target raw; a URI in proxy_pass would be a second reading of it."""
    for name in ("forward-auth.conf", "proxy.conf"):
        code = re.sub(r"(?m)^\s*#.*$", "", (nginx.SHIPPED / name).read_text())
        assert not re.search(r"\b(rewrite|try_files|alias|merge_slashes)\b", code)
        assert set(re.findall(r"proxy_pass (\S+);", code)) <= {
            "http://tahoe_gateway", "http://tahoe_transcriber", "http://tahoe_gateway/auth/verify",
        }  # fmt: skip
