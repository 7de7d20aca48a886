"""AVI.

====== ==============================================================================
walker the chunks of each stream of sound
head   what a file says in front of them
sounds streams of sound by their format
unread files whose head is none that a recorder writes
====== ==============================================================================
"""
