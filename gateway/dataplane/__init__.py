"""The way of a request: listened for, judged, carried there and back, settled exactly once.

============  ======================================================================================================
listener      the public listener: makes connections, watches what is slow, lets all finish at the end
server        a client's connection: our loop around aiohttp's parser; ``intake`` is its receiving half, ``delivery``
              its writing one, with its ends
clients       how many connections clients may hold
inquiries     a request's header, worked out; forwarding headers of trusted proxies
gatekeeper    the decision: the pure stages of ``policies`` with the I/O between them
holder        limits beyond plain request rates: held, extended, told from the ledger
limit_events  what limits tell beside their answers
key_uses      which keys were used, noted now and then
proxy         the first door
forward_auth  the second door: answers a proxy's question
inflow        the rest of a long body, around the parser
repeats       a request that comes again as it was, served without the connection's task
recall        a proxy's question that comes again, on whichever of its connections; answered alike
remembered    what is worked out once for the whole worker, of things that come again
relay         carries an admitted request there and its answer back; ``passage`` one on its way, ``upload`` its body
jobs          whose each job of an upstream is: learnt from answers, asked of the book, accounted when done
job_results   results that nobody asks for: asked for, or written down as unmeasured
streams       all open WebSockets: their clock, and what ends many at once
tunnel        one open WebSocket; ``stream_end`` one of its two sockets
exchange      what one request did
settlement    settles it, exactly once: record, access line, figures
responses     the gateway's own answers; ``error_page`` is what a person sees of them
============  ======================================================================================================
"""
