"""AVI.

====== ==============================================================================
walker the chunks of each stream of sound
head   what a file says in front of them
unread files whose head is none that a recorder writes
====== ==============================================================================
"""
