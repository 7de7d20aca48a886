"""How long clients may take."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """What a client may take its time for. Times in seconds, the rate in bytes a second; a rate of 0 is none."""

    header_s: float = 20.0
    """From the first byte of a request, or from a connection's start, to the end of the header."""
    idle_s: float = 65.0
    """Between an answer and the next request."""
    body_rate: int = 100
    body_window_s: float = 30.0
    """``body_rate`` is an average over so many seconds of waiting for the client."""
