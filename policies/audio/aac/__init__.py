"""AAC as it is packed: what a decoder is set up with, and where its blocks begin and end.

======== ==============================================================================
setup    the set-up (AudioSpecificConfig)
blocks   where a block begins and ends
elements those of its elements that hold no sound
channel  one channel: its windows, sections and tools; ``bands`` has their widths, ``spectrum`` the code words
bits     one behind the other
packed   finds out several blocks in what is called one sample
======== ==============================================================================
"""
