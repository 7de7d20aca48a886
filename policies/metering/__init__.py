"""From bytes to milliseconds of audio, in whatever they travel; :mod:`policies.audio` walks the audio itself.

============== ==============================================================================
meters         the meter of one request body, by its route's profile and its type
form_meter     of a form; ``multipart`` finds the audio in it as it passes
body_meter     of any other body
readings       where a body may be read in several ways
inline_audio   audio in the strings of a body, which ``json_stream`` reads of JSON and ``pair_stream`` of a
               link-like form; ``json_body`` finds that in any encoding
json_depth     leaves out what is deep in a document
elsewhere      whether a request names its audio by URL, and a place for its result
stream_meters  finds the audio in a stream, by its protocol; ``protocol_meter`` is what they share
streams        how a stream ends, by name; what may watch one pass
============== ==============================================================================
"""
