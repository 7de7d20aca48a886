"""People: how they come to be, what they sign in with, and where they are signed in.

============= ==============================================================================
accounts      people as they sign in and look after themselves
users         people across tenants, as operators see them
newcomers     how a person comes to be, whoever makes one
identities    accounts at other providers
passkeys      public keys of authenticators
second_factor who must have one; ``trusted`` browsers where it is not asked for again
links         links they were mailed
sessions      browsers that are signed in; ``log_ins`` those and programs, and the end of all of them
============= ==============================================================================
"""
