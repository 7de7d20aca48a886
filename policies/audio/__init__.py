"""How much audio did these bytes carry? Answered while they pass, without decoding and without keeping them.

========= ============================================================================
walker    the promise of every container's walker, and the arithmetic they share
sniff     which container is this, judged by its bytes alone
track     one file: skips its ID3v2 tag, sniffs it, feeds the right walker; the table of walkers
wav       RIFF, RIFX, RF64 and BW64: counts the bytes of the data chunks
flac      native FLAC: counts the blocks of its frames
transfer  base64 undone in stream, for file parts that arrive as text
reported  the upstream's own figure, read from its answer as it passes
========= ============================================================================

Two laws hold for every walker. What it says depends on the bytes alone, never on how they were cut into chunks. And a
header is a claim, never a measurement: where decoders disagree on a forged file, the longest playing is counted.
"""
