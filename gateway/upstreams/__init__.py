"""The services behind the gateway, and the connections to them.

==========  ===========================================================================
addresses   an upstream by its name: which of its addresses, looked up, checked, judged
connection  one connection to an address; ``pool`` those that are kept
status      how an upstream is, for readiness
tls_line    TLS to an address, heard to its end
==========  ===========================================================================
"""
