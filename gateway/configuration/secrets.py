"""The one secret that everything is derived from: given by the operator, or made once in the state directory."""

import contextlib
import hmac
import os
import secrets
import tempfile
from pathlib import Path

from storage.ports import StorageError

_NAME = "secret_key"
SERVICE_SECRETS = "service-secrets"
"""The purpose of the key under which the digests of service accounts' secrets are made."""


def derived(secret_key: str, purpose: str) -> bytes:
    """A key of its own for every purpose, so that none is ever used for two (LiteLLM CVE-2026-114612)."""
    return hmac.digest(secret_key.encode(), b"tahoe-gateway/" + purpose.encode(), "sha256")


def generated_secret(state_dir: Path) -> str:
    """The state directory's own secret, made at the first call, mode 0600. Raises StorageError.

    The file is complete or not there: it is written under another name, synced, and linked into place, so that of two
    makers one wins and both read the same.
    """
    path = state_dir / _NAME
    try:
        if not path.exists():
            _make(path)
        secret = path.read_bytes().strip()
    except OSError as error:
        raise StorageError(f"The secret {path} cannot be read or made: {error.strerror}.") from error
    if len(secret) < 32 or not secret.isascii():
        raise StorageError(f"The secret {path} is damaged: restore it from a backup, or every key must be made anew.")
    return secret.decode("ascii")


def _make(path: Path) -> None:
    # A name never used before: a process number comes again in every container, and what a crash left is in the way.
    descriptor, making = tempfile.mkstemp(prefix=f"{_NAME}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_hex(32).encode() + b"\n")
            file.flush()
            os.fsync(descriptor)
        with contextlib.suppress(FileExistsError):
            os.link(making, path)
    finally:
        Path(making).unlink()
