"""What is set: settings, routes, secrets, and every fault of them. Nothing here serves.

==========  ===========================================================================
settings    every setting, its default and its sentence; ``values`` the forms they have
sources     where settings come from, and every fault of them
route_file  the route table's file, every fault of it with its line
reserved    the gateway's own paths: routes to the portal
toml_lines  the line of every key of a TOML file
upstreams   what is set of an upstream; ``origin`` where it listens
issuers     what other issuers' claims mean
oidc        the providers that people may sign in with
patience    how long clients may take
secrets     the one secret and what is derived from it
blueprint   what a worker is made from, and the form in which the parent sends it
==========  ===========================================================================
"""
