"""How much audio did these bytes carry? Answered while they pass, without decoding and without keeping them.

========= ============================================================================
walker    the promise of every container's walker, and the arithmetic they share
sniff     which container is this, judged by its bytes alone
track     one file: skips its ID3v2 tag, sniffs it, feeds the right walker; the table of walkers
elements  boxes and elements that say how long they are: most of a file is passed unread
chunks    named chunks, whatever their sizes say: ``wav`` (formats in ``wav_formats``, frames that it calls plain
          samples in ``disguise``) and ``aiff``
plain     a header and samples: AU; ``nist`` and ``voc`` the like, ``wave64`` WAV by other names
caf       CAF
avi       AVI
asf       Windows Media: .wma, .asf, .wmv
sounds    streams of sound by WAVEFORMATEX, for those two; ``wma`` counts Windows Media Audio by its blocks
flv       FLV, with ``flv_extended``; ``wavpack`` and ``tta`` what their names say
mpegts    MPEG transport streams, M2TS; ``mpegps`` programme streams
frames    bare frames, found and followed: ``mpeg``, ``adts`` (with LATM), ``ac3`` and ``dts``; ``hunt`` looks for
          all in the unknown
aac       its set-up, its blocks, and several of them in what is called one sample
flac      native FLAC: counts the blocks of its frames
amr       AMR and AMR-WB
speech    files of one other speech codec: Codec 2, iLBC, bare GSM, DSS; ``act`` one that looks like WAV
nut       weighs NUT, wherever it begins
steps     reading a file by a generator that says what it wants next, for CAF and ASF
packets   what one packet plays, by codec (``opus``, ``vorbis``, ``aac``, ``speex`` hold the theory), for the next two
ogg       pages of any number of streams, chained or multiplexed
matroska  Matroska and WebM, live or not
mp4       MP4, M4A, MOV, 3GP, fragmented or not
pcm       plain samples in a format that was declared beside them
transfer  base64 undone in stream, for file parts that arrive as text
reported  the upstream's own figure, read from its answer as it passes; ``sources`` ranks the figures
========= ============================================================================

Three laws hold for every walker. What it says depends on the bytes alone, never on how they were cut into chunks (and
on a secret of the process, where AAC is not what a file says: else its sender would know where nobody looks). A
header is a claim, never a measurement: where decoders disagree on a forged file, the longest playing is counted. And no
bytes make it raise, keep more than 64 KiB of them (three times that where Matroska is read two ways, or an MP4 has
Opus or AAC), or cost more than so much a byte.
"""
