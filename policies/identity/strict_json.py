"""JSON with one reading: no name twice (parsers keep the first or the last), no NaN, no depth that ends a stack.

And no figure beyond a double: it would be infinite here, and written as what is no JSON.
"""

import json
import math
from typing import Any


def read(text: str) -> Any:
    """The value. Raises ValueError."""
    try:
        return json.loads(text, object_pairs_hook=_object, parse_constant=_no_constant, parse_float=_finite)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name comes twice")
    return found


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"{text[:20]} is too large a number")
    return value


def _no_constant(text: str) -> float:
    raise ValueError(f"{text} is no JSON")
