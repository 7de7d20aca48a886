"""CAF, Apple's Core Audio Format (Apple, Core Audio Format Specification 1.0).

====== ==============================================================================
walker the chunks of a file
table  its packets: their sizes, and what was kept of their bytes
kinds  what the packets of a codec play
====== ==============================================================================
"""
