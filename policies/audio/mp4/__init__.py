"""MP4, M4A, MOV, 3GP, fragmented or not.

============ ==============================================================================
walker       boxes, and the tables in them as they pass
headings     what stands in front of a table's entries
overreads    a table that is longer than its box
fragments    where their runs stand
tracks       a track: what it plays, by all of the following
descriptions sample descriptions: what a sample plays
tables       sample tables and runs: their sums
edits        what an edit list leaves out
mdat         the media as it passes
media        frames found in the media itself
packed       frames packed together: some samples are read (``looks``) where the tables say that they stand (``places``)
opus         packets of Opus
============ ==============================================================================
"""
