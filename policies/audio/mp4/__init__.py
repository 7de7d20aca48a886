"""MP4, M4A, MOV, 3GP, fragmented or not.

========= ==============================================================================
walker    boxes, tables and fragments
tracks    a track: what its samples play
overreads a table that is longer than its box
media     frames found in the media itself
packed    frames packed together: some samples are read (``looks``) where the tables say that they stand (``places``)
opus      packets of Opus
========= ==============================================================================
"""
