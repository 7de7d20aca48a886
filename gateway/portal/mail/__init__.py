"""Letters: what they say, how they leave, and who sees to those that nobody waits for.

======== ==============================================================================
letters  what they say
sending  how one leaves
posting  those that nobody waits for, and those that must be tried again
======== ==============================================================================
"""
