"""Coming in, and who came: passwords, second factors, passkeys, other providers, invitations, sessions.

============== ==============================================================================
identity       what log-ins stand on, and who acts (audit)
browser        a browser's session: cookie, whose it is, what a page asks of it; ``ending`` what pages say of its end
proving        address and password, second factor, tries that are counted: one way for all doors
hashing        bcrypt on threads; ``strength`` judges passwords, ``choosing`` takes new ones
login          signing in and out; ``halfway`` is between the first proof and the session; ``slips`` tell what a browser
               is in the midst of
enrolling      a second factor for whoever must have one; ``trusted`` browsers where it is not asked for again
passkeys       passkeys, alone and as the second factor
oidc           signing in with other providers (OpenID Connect)
recovery       forgotten passwords; ``joining`` invitations
sealing        secrets that must be read again; ``agents`` browsers by name
============== ==============================================================================
"""
