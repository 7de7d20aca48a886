"""The outside world: sockets, clocks, processes, pages.

============== ==============================================================================
__main__       the ``gateway`` command; ``cli`` holds its sub-commands
settings       every setting, its default and its sentence; ``setting_values`` the forms they have
configuration  where settings come from, and every fault of them
route_file     the route table's file, every fault of it with its line
toml_lines     the line of every key of a TOML file
blueprint      what a worker is made from, and the form in which the parent sends it
services       the composition root: which parts a worker is made of
supervisor     the parent process: sockets, workers, embedded servers, shipping, signals
systemd        what systemd is told
reload         SIGHUP: all is read and judged anew, and put in force by new workers
nightly        what the parent does for the account once a day
usage_sinks    sends usage records on: to a Redis stream, to an HTTP endpoint
crew           the workers and the portal as the parent sees them: started, watched, asked, drained
members        one of them
control        how parent and worker talk
worker         one process that serves
sockets        listening sockets, bound before anything else starts
noted_address  where the gateway of a state directory is reached, for commands that print links
secrets        the one secret and what is derived from it
passwords      bcrypt over a peppered pre-hash
locales        the languages and time zones that people choose from
shipped        the data files that come with the product
listener       the public listener: makes connections, watches what is slow, lets all finish at the end
server         a client's connection: our loop around aiohttp's parser
clients        how long clients may take, and how many connections they may hold
inquiries      a request's header, worked out; forwarding headers of trusted proxies
gatekeeper     the decision: the pure stages of ``policies`` with the I/O between them
holder         limits beyond plain request rates: held, extended, told from the ledger
limit_events   what limits tell beside their answers
limit_use      how much of each is in use
statements     a tenant's month, rated: for the command, the API and the page; ``usage_export`` single records as lines
key_uses       which keys were used, noted now and then
bearers        access tokens, ours and others': whether one is believed, and whose it is now
jwks           another issuer's keys; ``issuer_settings`` says what its claims mean
token_state    signing keys and revocations, kept up to date in every process
signing        new signing keys, and the ring of those that are believed; ``sealed`` keeps their private halves
assertions     who is asking, signed for the upstream
snapshot       credentials already identified, for as long as that may be believed
proxy          the first door
forward_auth   the second door: answers a proxy's question
relay          carries an admitted request there and its answer back; ``passage`` one on its way, ``upload`` its body
upstreams      an upstream by its name: which of its addresses, looked up, checked, judged
upstream       one connection to an address; ``upstream_pool`` those that are kept
origin         where an upstream listens; ``upstream_settings`` what is set of it
upstream_status how an upstream is, for readiness
jobs           whose each job of an upstream is: learnt from answers, asked of the book, accounted when done
streams        all open WebSockets: their clock, and what ends many at once
tunnel         one open WebSocket; ``stream_end`` one of its two sockets
outbox         small writes of one loop iteration, made together
exchange       what one request did, settled exactly once
responses      the gateway's own answers; ``error_page`` is what a person sees of them
tasks          background tasks that cannot vanish
telemetry      metrics, the access log, the application log
ops            the second listener: metrics and health
reserved       the gateway's own paths: routes to the portal
browser_sessions  whose a browser's session is; ``oidc_settings`` the providers that people may sign in with
portal         pages, accounts and the JSON API, in a process of its own
demo           the demo's transcriber and its sample audio
============== ==============================================================================
"""

from importlib import metadata

__version__ = metadata.version("tahoe-gateway")
