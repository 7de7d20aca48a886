"""Temporary."""


def hash_password(password: str, pepper: bytes) -> str:
    return "x"
