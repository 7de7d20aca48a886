"""The platform API under ``/platform/v1``: every operation is declared once, and served and documented from that.

============= =======================================================================================
operations    what an operation declares, and the one way each is carried out
subject       who asks, with which permissions, in which tenant
paging        cursors: opaque, sealed, good for the list that gave them
idempotency   a creation repeated with its Idempotency-Key is done once, and answered the same
etags         versions of what is shown, and changes that are made only to the version that was seen
openapi       the document that describes all of it; ``service`` mounts both
------------- ---------------------------------------------------------------------------------------
me, tenants, second_factor, onboarding, plans, users, members, invitations, sessions, keys, service_accounts, limits,
limit_use, limit_check, usage, quotas, statements, webhooks, audit, signing_keys, issuers
              the resources; ``shapes`` holds what several of them say, ``counting`` what limits have in
              use, ``streaming`` sends what is longer than memory
============= =======================================================================================

A resource's module has ``operations = Operations(tag)`` and its handlers, and is one line in ``RESOURCES``.
"""
