"""The services behind the gateway, and the connections to them.

==========  ===========================================================================
addresses   an upstream by its name: which of its addresses, looked up, checked, judged
pool        the connections to one address that are kept
connection  one connection to an address; ``answer`` is what comes on it
failures    what can go wrong, and what is certain then
status      how an upstream is, for readiness
tls_line    TLS to an address, heard to its end
==========  ===========================================================================
"""
