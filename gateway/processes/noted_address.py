"""Where users reach the gateway of a state directory: noted by that gateway, for commands that print links."""

from pathlib import Path

from storage.ports import StorageError

_NAME = "public_url"


def note(state_dir: Path, url: str) -> None:
    """Write it down, whole or not at all. Raises StorageError."""
    path = state_dir / _NAME
    try:
        making = path.with_name(f"{_NAME}.new")
        making.write_text(url + "\n")
        making.replace(path)
    except OSError as error:
        raise StorageError(f"{path} cannot be written: {error.strerror}.") from error


def noted(state_dir: Path) -> str:
    """What was noted last; empty where nothing was. Raises StorageError."""
    path = state_dir / _NAME
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror}.") from error
