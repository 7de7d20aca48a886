"""Passkeys (WebAuthn Level 3), which need a script; all else does without.

``ceremony`` asks an authenticator and judges its answer; ``keeping`` has the pages of whoever is signed in; ``using``
signs in with one, alone or as the second factor, or proves anew who is signed in; ``joining`` accepts an invitation
with a new one.
"""
