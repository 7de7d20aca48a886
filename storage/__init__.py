"""What must be remembered: PostgreSQL, Redis, and the usage journal on the local disk.

``ports`` holds the promises; the folders beside it keep them. Nothing here knows HTTP. A store that cannot be reached
raises :class:`storage.ports.Unavailable`; "not there" is a value, never that exception.
"""
