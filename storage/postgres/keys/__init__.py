"""API keys: the KeyRegistry port, their rows, whose they are, and their last uses.

======== ==============================================================================
registry the port
rows     the statements that read and write keys, and what a row means
owners   whose a key is to be, and what that one holds
uses     when and from where each was used last
======== ==============================================================================
"""
