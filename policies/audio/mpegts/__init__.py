"""MPEG transport streams.

======= ==============================================================================
walker  the streams of one file; the longest counts
packets packets, many at once, by columns
tables  what the tables say of the streams
streams one stream: the frames of sound in it
opus    Opus in its elements
======= ==============================================================================
"""
