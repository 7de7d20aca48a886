"""What a slug, a name, an e-mail address, a scope must look like before it is stored. A bad one is a ValueError."""

import re
from datetime import datetime

from policies.identity.tenants import SLUG
from policies.people import folded_email, is_unwritable

_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")
"""A scope-token of RFC 6749 section 3.3: scopes travel in headers and tokens with a space between them."""

_LONGEST_NAME = 200


def check_slug(text: str) -> None:
    """For a tenant's short name."""
    if SLUG.fullmatch(text) is None:
        raise ValueError(
            f"{text!r} cannot be the short name of a tenant: use up to 63 small letters, digits and hyphens, with a "
            "letter or digit at both ends"
        )


def clean_name(text: str, of: str) -> str:
    """``text`` without blanks around it. ``of`` says whose name, for the message: ``a tenant``."""
    text = text.strip()
    if not text:
        raise ValueError(f"the name of {of} must not be empty")
    return clean_line(text, f"the name of {of}")


def clean_line(text: str, what: str) -> str:
    """``text`` without blanks around it; it may be empty."""
    text = text.strip()
    if len(text) > _LONGEST_NAME:
        raise ValueError(f"{what} is {len(text)} characters long; at most {_LONGEST_NAME} are kept")
    if any(is_unwritable(character) for character in text):
        raise ValueError(
            f"{what} contains a line break, a control character or one that turns the direction of text: {text!r}"
        )
    return text


def clean_email(text: str) -> str:
    """``text`` in the one spelling under which it is stored and found (:func:`policies.people.folded_email`)."""
    folded = folded_email(text)
    if folded is None:
        raise ValueError(f"{text!r} is not an e-mail address")
    return folded


def sorted_scopes(scopes: frozenset[str]) -> list[str]:
    """The scopes in a stable order."""
    for scope in scopes:
        if _SCOPE.fullmatch(scope) is None:
            raise ValueError(f"{scope!r} is not a scope: use printable ASCII without blanks, quotes and backslashes")
    return sorted(scopes)


def check_instant(moment: datetime, what: str) -> None:
    """For a moment that must mean the same everywhere."""
    if moment.tzinfo is None:
        raise ValueError(f"{what} needs a time zone: {moment.isoformat()} could be any of two dozen moments")
