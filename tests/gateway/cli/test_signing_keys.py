"""``gateway signing-keys``: a new key is published before it signs, and one that leaked is gone at once."""

from typing import Any

import pytest

from tests.gateway.cli.conftest import Operator


def stages(operator: Operator, *words: str) -> dict[str, str]:
    found: Any = operator.json("signing-keys", "list", *words)
    return {key["id"]: key["stage"] for key in found}


def test_a_rotation_publishes_a_key_that_signs_later(operator: Operator) -> None:
    """The first one signs at once: there is nobody who could hold an older key set."""
    first: Any = operator.json("signing-keys", "rotate")
    assert (first["stage"], first["algorithm"]) == ("active", "EdDSA")
    second: Any = operator.json("signing-keys", "rotate", "--algorithm", "ES256")
    assert stages(operator) == {first["id"]: "active", second["id"]: "pending"}
    third: Any = operator.json("signing-keys", "rotate", "--after", "0s")
    assert stages(operator)[third["id"]] == "active"
    assert stages(operator)[first["id"]] == "retiring"


def test_a_key_that_leaked_is_gone_and_another_signs(operator: Operator) -> None:
    """X-05."""
    first: Any = operator.json("signing-keys", "rotate")
    ended: Any = operator.json("signing-keys", "revoke", first["id"])
    assert stages(operator) == {ended["successor"]: "active"}
    assert stages(operator, "--all") == {first["id"]: "gone", ended["successor"]: "active"}
    assert "no signing key 'x'" in operator.run("signing-keys", "revoke", "x", status=1).stderr


@pytest.mark.parametrize(
    "key_id", ["-HJwyOS6OhUJHFSUI1-IjhSNqxoPtW0KcOdUjEbGuyU", "--yeshjwyOS6OhUJHFSUI1-IjhSNqxoPtW0KcOdUjEb"]
)
def test_an_id_that_begins_with_a_hyphen_is_no_option(operator: Operator, key_id: str) -> None:
    """An id is a thumbprint in base64url (RFC 7638): one of 64 begins with a hyphen."""
    for words in ([key_id, "--yes"], ["--yes", key_id], ["--yes", "--", key_id]):
        assert f"no signing key '{key_id}'" in operator.run("signing-keys", "revoke", *words, status=1).stderr


def test_no_private_key_is_ever_printed(operator: Operator) -> None:
    operator.run("signing-keys", "rotate")
    text = operator.run("signing-keys", "list").stdout + operator.run("signing-keys", "list", "--json").stdout
    assert "sealed" not in text
    assert '"d"' not in text


def test_keys_are_sealed_with_the_gateways_secret(operator: Operator) -> None:
    """Without it no command makes one: the gateway could not open it."""
    del operator.environment["GATEWAY_SECRET_KEY"]
    assert "GATEWAY_SECRET_KEY is not set" in operator.run("signing-keys", "rotate", status=1).stderr


def test_after_a_change_of_the_secret_the_new_key_signs_at_once(operator: Operator) -> None:
    """X-03: the old one does not open any more, so that nothing could sign in the meantime."""
    operator.json("signing-keys", "rotate")
    operator.environment["GATEWAY_SECRET_KEY"] = "another secret key of many more characters"
    made: Any = operator.json("signing-keys", "rotate", "--new-secret")
    assert made["stage"] == "active"
    operator.run("tenant", "create", "acme")


def test_with_another_secret_than_the_gateways_nothing_is_made(operator: Operator) -> None:
    """A key would open nothing, and what is written of it in the trail would be called forged for ever."""
    operator.run("tenant", "create", "acme")
    operator.json("signing-keys", "rotate")
    own = operator.environment["GATEWAY_SECRET_KEY"]
    operator.environment["GATEWAY_SECRET_KEY"] = "another secret key of many more characters"
    for words in (
        ("key", "create", "--tenant", "acme", "--name", "x"), ("tenant", "suspend", "acme"),
        ("signing-keys", "rotate"),
    ):  # fmt: skip
        assert "not the one that the gateway runs with" in operator.run(*words, status=1).stderr
    assert [each["status"] for each in operator.json("tenant", "list")] == ["active"]
    operator.environment["GATEWAY_SECRET_KEY"] = own
    operator.run("audit", "verify")
