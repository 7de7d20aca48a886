"""The usage journal: what a worker appends to before it answers, so that a record survives until the ledger has it.

=========== =======================================================================
format      segments, records and positions as bytes; how damage is told from the end
writer      ``Journal``: one process's own journal, appended to through memory
directory   which journals lie there, whose writers are alive, what does not belong
reader      the next rows of a journal after a position, past whatever is damaged
archive     what was shipped, for some days, to compare the account with
=========== =======================================================================

``<state>/journal/<journal id>.<number>.journal``: each process writes a journal of its own, under an id that never
comes back, in segments of one size. The writer holds a lock (flock) on its segments, so a journal without one is an
orphan and complete. Shipping and archiving is :mod:`storage.shipper`'s work; writers never read, readers never write.

Appending is a copy into a shared mapping, not a system call. The pages belong to the kernel from that instant, so
``kill -9`` loses nothing; a power cut loses what was appended since the last flush, some 50 ms.
"""
