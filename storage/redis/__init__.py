"""Redis: exact counters over one fast connection, and the bus that tells every gateway of a change."""
