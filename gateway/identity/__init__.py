"""Who asks: keys, tokens, sessions, and what signs and believes them.

================  ================================================================================================
snapshot          credentials already identified, for as long as that may be believed
digests           what is stored instead of a secret
bearers           access tokens, ours and others': whether one is believed, and whose it is now
strangers         the other issuers that are believed now; ``issuer_book`` all that there are, to show and to change
jwks              another issuer's keys
token_state       signing keys and revocations, kept up to date in every process
keeping_up        how they and other issuers are kept so
signing           new signing keys, and the ring of those that are believed; ``sealed`` keeps their private halves
assertions        who is asking, signed for the upstream
browser_sessions  whose a browser's session is
passwords         bcrypt over a peppered pre-hash
================  ================================================================================================
"""
