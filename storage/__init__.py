"""What must be remembered: PostgreSQL, Redis, and the usage journal on the local disk.

=============== ===========================================================================
ports           the promises, and how they fail; ``token_ports``: those of the stores of tokens
postgres        registry, limits and ledger; ``migrations`` holds the schema
redis           exact counters, leases and reservations, tickets, and the bus that tells of changes
local_counters  the counters of one process, while Redis is away; ``local_holds`` its leases
held            what one request holds of its limits, whichever store counts it
sessions        browser sessions, which both stores must call alive
journal         what a worker appends to before it answers
usage_rows      a usage record as the row that journal and ledger share
usage_sums      rows summed for the roll-ups
shipper         from the journals to the ledger, exactly once; ``archive_comparison``: whether all of it is there
sealed          what a store keeps and cannot read
state           the state directory and its lock
embedded        a PostgreSQL and a Valkey of our own
=============== ===========================================================================

Nothing here knows HTTP. A store that cannot be reached raises :class:`storage.ports.Unavailable`; "not there" is a
value, never that exception.
"""
