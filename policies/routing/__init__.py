"""Where a request leads: the table of routes, and the addresses of upstreams.

============ ==============================================================================
routes       what a route is: who may use it, its limits and times, and its upstream
route_table  which route a method and a path lead to
route_fields reads each from plain data
upstreams    which address gets a request, and what is learnt from how it went
============ ==============================================================================
"""
