"""PostgreSQL: the registry and the account, all of it in the schema ``platform``.

========== ====================================================================================
pool       connections, each lent inside one transaction and one scope (tenant or operator)
address    the URL, and opening one connection
faults     what foreign errors mean here; ``absences`` what is said of what is not there
migrate    brings the schema up to date; ``migrations`` holds the SQL
history    migration files against what the database remembers
ids        ``ten_…``, ``usr_…``, ``key_…``
values     what a name, a slug, an e-mail address must look like
directory  tenants, people, memberships, exceptions to the route table
tenant_rows, plans, onboarding, departures
           tenants as rows; plans they are on; how one comes, and how one leaves
newcomers  how a person comes to be, whoever makes one
users      people across tenants, as operators see them
people     people as they sign in and look after themselves; ``identities`` their accounts at other providers
passkeys, second_factor, trusted, links, log_ins, sessions
           what they sign in with, browsers they trust, links they were mailed, who is logged in and how that ends
invitations
           who is asked to join
registry   API keys; ``key_rows`` are their rows, ``key_owners`` what whose they are holds, ``key_uses`` their last uses
subjects   whose a token is, as things are now
signing_keys, tokens, service_accounts
           keys that sign; log-ins and revocations; programs that ask for tokens; ``issuers`` are others
members    who is in which role; ``roles``: a tenant's own
audit      the audit trail, written in the transaction of each change; the events of the same changes
limits     the rates that operators set; ``limit_events`` what they tell; ``room`` how many of a thing a tenant may have
outbox     events on their way to the stream and to ``webhooks``; ``letters`` on theirs to people
jobs       whose each job of an upstream is
order      a page of a list: by what, which way, and where it goes on
labels     what people call keys and members
idempotency
           creations that may be repeated
usage      the account: raw records and their roll-ups
usage_columns, usage_ranges, usage_series, usage_events
           its columns; which book answers for which time; sums by minute, hour and day; single records
usage_compare, usage_reconcile, usage_care, usage_unsent
           the books compared, once a day, and what sinks have not taken
========== ====================================================================================
"""
