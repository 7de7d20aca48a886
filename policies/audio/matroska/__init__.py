"""Matroska and WebM, live or not.

======== ==============================================================================
walker   elements, clusters and blocks
levels   which element may stand where
contents what elements say
tracks   a track: what its blocks play
======== ==============================================================================
"""
