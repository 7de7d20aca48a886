"""The ``gateway`` command: what an operator can ask for.

Data goes to standard output, everything said about it to standard error. Exit status: 0 done, 1 it failed, 2 the
command was written wrongly. What starts slowly (pydantic, asyncpg, aiohttp) is imported when a command needs it.

============ =====================================================================
root         the table of commands; each is imported when it is called
lazy         how that works
command      the options that every command has, and how it comes to the stores
stores       the stores that the settings name, or the embedded ones
own_secret   the gateway's secret, and whether the one that was given is it
values       what operators write (slugs, instants, durations), read and checked
known_routes whether the routes that they name are there
people       who is meant by an e-mail address, and how people are shown
output       tables, JSON, remarks
------------ ---------------------------------------------------------------------
serve, demo  processes
config       ``check-config``
migrate      ``migrate``
tenants      ``tenant …``; how one comes and leaves is ``tenant_life``
plans        ``plan …``
users        ``user …``; how people come is ``newcomers``
operators    ``operator …``
keys         ``key …``; ``key_changes`` changes one, ``key_rows`` says how one stands, ``minting`` makes secrets
service_accounts, signing_keys
             ``service-account …``, ``signing-keys …``
limits       ``limits …``; ``limit_rows`` are the lines of ``show``
issuers      ``issuer …``
healthcheck  ``healthcheck``
usage        ``usage …``; ``whole_account`` sees that it has what is still in the journals
             (``backlog``), ``statement`` rates a month
audit        ``audit …``
completion   ``completion bash|zsh|fish``
============ =====================================================================
"""
