"""Who asks, and by which proof: principals, the registry's nouns, tokens and the keys that verify them.

================= ==============================================================================
principals        who is asking
tenants           the nouns of the registry: Tenant, User, Membership, ApiKey, RouteOverride
permissions       what a role allows in a tenant's administration
tokens            access tokens: what one must say to be believed; ``jws`` takes one apart
refresh           refresh tokens: what one looks like, and what it leads to
foreign           tokens of other issuers: what their claims mean here
verification_keys the keys that signatures are verified with, judged when they are loaded
signing_keys      a signing key's stage, from its instants and the clock
strict_json       JSON with one reading
================= ==============================================================================
"""
