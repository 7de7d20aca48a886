"""AAC as it is packed: what a decoder is set up with, and where its blocks begin and end.

======== ==============================================================================
setup    the set-up (AudioSpecificConfig)
blocks   where a block begins and ends; ``spectrum`` has the code words
packed   finds out several blocks in what is called one sample
======== ==============================================================================
"""
