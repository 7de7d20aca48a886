"""What can go wrong with an upstream, and what is certain then: whether anything was sent, and whose fault it was."""


class UpstreamError(Exception):
    """The upstream failed us; the message is for the operator, the client gets the refusal's own words."""


class Unreachable(UpstreamError):
    """No connection: nothing was sent."""


class OutOfFiles(UpstreamError):
    """No connection either, for want of an open file: that is no fault of the upstream."""


class NoneLeft(UpstreamError):
    """Every address is set aside, and another request is already finding out whether one is well again."""


class Broke(UpstreamError):
    """The connection ended, or what came is not HTTP."""


class Unsent(Broke):
    """The connection ended before a byte of the request was written: it may be sent on another one."""


class TooSlow(UpstreamError):
    """The first byte or the next one did not come in time."""


class Abandoned(UpstreamError):
    """We gave up ourselves, because the client has gone."""
