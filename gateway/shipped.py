"""The data files that come with the product: in a checkout ``config/``, in an installed wheel inside the package."""

from pathlib import Path

_PLACES = (Path(__file__).parent / "_shipped", Path(__file__).parent.parent / "config")


def shipped(name: str) -> Path:
    """The path of a shipped file. Raises FileNotFoundError when the installation is incomplete."""
    for place in _PLACES:
        path = place / name
        if path.exists():
            return path
    raise FileNotFoundError(f"{name} is not in this installation of the gateway; install it again")
