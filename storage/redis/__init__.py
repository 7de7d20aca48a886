"""Redis: what is exact across processes and soon over, and the news of changes.

========= =========================================================================
counters  request rates; takes travel together
holds     leases and reservations
wire      the limiter's connection; ``line`` opens it again, ``nodes`` finds the right one of a cluster
client    a client for what is asked now and then
sessions  the sessions that live
attempts  tries at log-ins, counted before a password is looked at
tickets   tickets, sealed, each good for so many uses
bus       the news of changes
========= =========================================================================
"""
