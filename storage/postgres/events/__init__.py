"""What others are told: events on their way to the stream and to webhooks, letters on theirs to people.

============ ==============================================================================
outbox       events that were written with what they tell of
webhooks     where a tenant's events go, and the log of what was delivered
deliveries   what is due to any of them, and what became of it
limit_events what limits tell
letters      letters that wait to leave, sealed
============ ==============================================================================
"""
