"""What is made of the account: read, sent on, compared.

==========  ==============================================================
statements  a tenant's month, rated: for the command, the API and the page
export      single records as lines
sinks       sends usage records on: to a Redis stream, to an HTTP endpoint
limit_use   how much of each limit is in use
recount     what was used before a limit was set
nightly     what the parent does for the account once a day
==========  ==============================================================
"""
