"""The account: raw records of usage, their roll-ups, and whether they agree.

========= ==============================================================================
ledger    the port: records, roll-ups and the journals' positions, changed in one transaction
jobs      whose each job of an upstream is, and its settlement
columns   the books' columns
ranges    which book answers for which time; ``series`` sums by minute, hour and day; ``events`` single records
reconcile whether the books agree; ``compare`` rows of a journal beside the raw records
care      what is done once a day
unsent    what sinks have not taken yet
========= ==============================================================================
"""
