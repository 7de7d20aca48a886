"""The one secret that everything is derived from: given by the operator, or made once in the state directory."""

import hmac
import os
import secrets
from pathlib import Path

from storage.ports import StorageError

_NAME = "secret_key"


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
        secret = path.read_text().strip()
    except OSError as error:
        raise StorageError(f"The secret {path} cannot be read or made: {error.strerror}.") from error
    if len(secret) < 32:
        raise StorageError(f"The secret {path} is damaged: restore it from a backup, or every key must be made anew.")
    return secret


def _make(path: Path) -> None:
    making = path.with_suffix(f".{os.getpid()}")
    descriptor = os.open(making, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, secrets.token_hex(32).encode() + b"\n")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    try:
        os.link(making, path)
    except FileExistsError:
        pass
    finally:
        making.unlink()
