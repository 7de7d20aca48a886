"""Tenants and who is in them: how they come, what they may, how they leave.

=========== ==============================================================================
directory   tenants, people, memberships, exceptions to the route table
plans       limits and routes under one name, and the tenants that are on them
members     who is in which role; ``roles``: a tenant's own
invitations who is asked to join
departures  how one leaves
=========== ==============================================================================
"""
