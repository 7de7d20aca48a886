"""What a page says of the end of its session: in time, so that who is still at it goes on (WCAG 2.2, 2.2.1)."""

from dataclasses import dataclass

from aiohttp import web

from gateway.portal.entry.identity import SIGNED_IN
from gateway.portal.parts import PARTS
from gateway.portal.web.figures import span

_NOTICE_S = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """When a session ends, in seconds: how long it lives idle, how long at most, and how long before it is told."""

    idle_s: int
    left_s: int
    notice_s: int

    @property
    def idle(self) -> str:
        """In words."""
        return span(self.idle_s)

    @property
    def notice(self) -> str:
        """In words."""
        return span(self.notice_s)


def ending(request: web.Request) -> Ending | None:
    """The ending of the session that this request belongs to; None without one."""
    session, parts = request.get(SIGNED_IN), request.app[PARTS]
    if session is None:
        return None
    idle_s = int(parts.settings.session_idle)
    left_s = max(0, int((session.expires_at - parts.now()).total_seconds()))
    return Ending(idle_s=idle_s, left_s=left_s, notice_s=min(_NOTICE_S, idle_s // 2))
