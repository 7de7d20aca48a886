"""What a worker is made from: settings and addresses, complete, and the form in which the parent sends them."""

from dataclasses import dataclass
from typing import Any, Self

from gateway.configuration.settings import Settings
from gateway.configuration.upstreams import UpstreamSettings


@dataclass(frozen=True, slots=True)
class Blueprint:
    """All that a worker must know, with nothing left to look up: the parent has resolved every source of settings."""

    settings: Settings
    database_url: str
    redis_url: str
    secret_key: str
    portal_socket: str = ""
    """The path of the socket on which the portal listens; empty without a portal."""

    def to_message(self) -> dict[str, Any]:
        """The form for the control channel, which is the only place where this may be written."""
        settings = {
            name: value.get_secret_value() if hasattr(value, "get_secret_value") else value
            for name, value in self.settings
            if value is not None
        }
        settings["issuers"] = {name: one.to_message() for name, one in self.settings.issuers.items()}
        settings["oidc"] = {name: one.to_message() for name, one in self.settings.oidc.items()}
        settings["upstreams"] = {name: one.to_message() for name, one in self.settings.upstreams.items()}
        if self.settings.upstreams.get("default", UpstreamSettings()).addresses:
            del settings["upstream"]
        for name in ("trusted_proxies",):
            settings[name] = [str(item) for item in settings[name]]
        for name in ("listen_socket", "state_dir", "routes_file", "plans_file", "default_requests"):
            if name in settings:
                settings[name] = str(settings[name])
        return {
            "settings": settings,
            "database_url": self.database_url,
            "redis_url": self.redis_url,
            "secret_key": self.secret_key,
            "portal_socket": self.portal_socket,
        }

    @classmethod
    def from_message(cls, message: dict[str, Any]) -> Self:
        """The other end of :meth:`to_message`."""
        others = ("database_url", "redis_url", "secret_key", "portal_socket")
        return cls(Settings(**message["settings"]), *(message[name] for name in others))
