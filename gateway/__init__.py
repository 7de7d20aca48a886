"""The outside world: sockets, clocks, processes, pages.

============== ==============================================================================
__main__       the ``gateway`` command; ``cli`` holds its sub-commands
settings       every setting, its default and its sentence
services       the composition root: which parts a worker is made of
supervisor     the parent process: sockets, workers, embedded servers, shipping, signals
worker         one process that serves
server         the public listener: aiohttp's low-level server with our connection class
inquiries      an aiohttp request becomes an Inquiry, or a refusal
gatekeeper     the decision: the pure stages of ``policies`` with the I/O between them
snapshot       credentials already identified, for as long as that may be believed
proxy          the first door: relay to the upstream
forward_auth   the second door: answer a proxy's question
upstream       pooled connections to the upstream
exchange       what one request did, settled exactly once
responses      the gateway's own answers
telemetry      metrics, the access log, the application log
ops            the second listener: metrics and health
============== ==============================================================================
"""

from importlib import metadata

__version__ = metadata.version("tahoe-gateway")
