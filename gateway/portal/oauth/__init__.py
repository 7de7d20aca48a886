"""The OAuth endpoints: tokens for people and programs, and what others must know to verify them.

============== ==============================================================================
endpoints      ``/auth/token``, ``/auth/revoke``, ``/auth/introspect``
grants         what each ``grant_type`` leads to
tokens         makes access and refresh tokens, renews, revokes
parts          what all of them stand on
clients        which service account asks
requests       parameters of a request; errors as RFC 6749 has them
discovery      ``/.well-known/jwks.json``, ``/.well-known/oauth-authorization-server``
============== ==============================================================================

Nothing here acts by a cookie, so that no other site can make a browser do anything here.
"""
