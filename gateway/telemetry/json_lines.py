"""A log line: one JSON object in ASCII, with its line end, whatever strings it holds.

JSON itself leaves U+0085, U+2028 and the C1 controls as they are: some readers break lines at the former, some
terminals obey the latter (CVE-2021-25743 is of that class). And a lone surrogate, which is how Python carries bytes
that are no text, has no UTF-8 at all. Escaped, all of them are harmless. orjson writes the usual line, which is ASCII.
"""

import json
from collections.abc import Mapping

import orjson


def json_line(fields: Mapping[str, object]) -> bytes:
    """The line. What JSON does not know is written as ``str`` gives it."""
    try:
        line = orjson.dumps(fields, default=str, option=orjson.OPT_APPEND_NEWLINE)
    except orjson.JSONEncodeError:  # a surrogate, or an integer of more than 64 bits
        line = b""
    if line and line.isascii():
        return line
    return json.dumps(fields, default=str, separators=(",", ":")).encode("ascii") + b"\n"
