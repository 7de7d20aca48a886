"""PostgreSQL: the registry and the account, all of it in the schema ``platform``.

=========== ====================================================================================
tenants     tenants and who is in them; ``tenant_rows`` the row itself, ``room`` how many of a thing one may have
people      people, what they sign in with, and where they are signed in
keys        API keys
tokens      access tokens: keys that sign, log-ins that renew, programs that ask, other issuers
subjects    whose a token is, as things are now
onboarding  a tenant from nothing to its first request
limits      what operators grant
usage       the account
audit       the audit trail, written in the transaction of each change; the events of the same changes
events      what others are told: the stream, webhooks, letters
idempotency creations that may be repeated
----------- ------------------------------------------------------------------------------------
pool        connections, each lent inside one transaction and one scope (tenant or operator)
address     the URL, and opening one connection
faults      what foreign errors mean here; ``absences`` what is said of what is not there
migrate     brings the schema up to date; ``migrations`` holds the SQL, ``history`` what the database remembers of it
ids         ``ten_…``, ``usr_…``, ``key_…``
values      what a name, a slug, an e-mail address must look like
order       a page of a list: by what, which way, and where it goes on; ``labels`` what people call keys and members
=========== ====================================================================================
"""
