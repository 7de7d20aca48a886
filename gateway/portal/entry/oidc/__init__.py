"""Signing in with other providers (OpenID Connect).

``provider`` talks to one of them, ``flow`` is the way of a browser there and back, ``linking`` connects and disconnects
accounts of somebody who is signed in, ``consent`` asks who comes with the address of an account whether that is theirs;
``pending`` is what waits for the answer; ``leaving`` leads from a form to a provider.
"""
