"""New secrets of keys and service accounts."""

import secrets
from typing import TYPE_CHECKING

from gateway.configuration.secrets import SERVICE_SECRETS
from policies.http.credentials import RANDOM_BYTES, mint_client_secret, mint_key

if TYPE_CHECKING:
    from gateway.cli.stores import Stores


def mint(stores: "Stores", *, test: bool) -> tuple[str, bytes]:
    """A new key, and what is stored instead of it."""
    from gateway.identity.digests import digest  # noqa: PLC0415  slow: see the package's docstring

    secret = mint_key(secrets.token_bytes(RANDOM_BYTES), live=not test)
    return secret, digest(stores.secret_for("api-keys"), secret.encode("ascii"))


def mint_secret(stores: "Stores") -> tuple[str, bytes]:
    """A service account's new secret, and what is stored instead of it."""
    from gateway.identity.digests import digest  # noqa: PLC0415  slow: see the package's docstring

    secret = mint_client_secret(secrets.token_bytes(RANDOM_BYTES))
    return secret, digest(stores.secret_for(SERVICE_SECRETS), secret.encode("ascii"))
