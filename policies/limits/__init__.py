"""How much of what, in which time, and how that is taken.

================ ==============================================================================
rates            charges, levels and the GCRA arithmetic
ratelimit_fields says them on the wire
allowances       what operators grant: so much of what, in which time, to whom
plans            limits and routes under one name, for the tenants that are on the plan
calendars        days and months in a tenant's time zone, from its anchor day
forecast         where one of them is heading
holding          leases and reservations: the rule by which they are taken, extended and settled
================ ==============================================================================
"""
