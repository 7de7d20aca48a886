"""The same gateway that the door tests use: fresh for every test, in front of an upstream that records every byte."""

from tests.gateway.conftest import gateway

__all__ = ["gateway"]
