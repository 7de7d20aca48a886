"""The gateway's secret in the hands of a command: what is made with another one is refused by every gateway.

A key would open nothing, and an entry of the audit trail would be said to be forged for ever. Signing keys are sealed
with the secret, so they tell whether it is the gateway's own.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from gateway.configuration.secrets import derived, generated_secret
from gateway.configuration.settings import Settings
from policies.identity.signing_keys import SigningKey
from storage.ports import StorageError, Unavailable


class Unknown(StorageError):
    """Nothing says which stores are meant, or which secret goes with them."""


@dataclass(slots=True, kw_only=True)
class OwnSecret:
    """The secret of the settings, or of the state directory whose servers are used (``embedded``)."""

    settings: Settings
    embedded: bool
    sealed: Iterable[SigningKey] = ()
    """What it must open, one of them at least; none where it may be a new one."""
    unread: Unavailable | None = None
    """Why nobody knows: there is no schema yet. Said when something is to be made, for `migrate` makes nothing."""

    def fitting(self, purpose: str) -> bytes:
        """The secret for one purpose. Raises Unknown for one that opens none of the signing keys, StorageError."""
        from gateway.identity.signing import SEALING, is_sealed_with_another  # noqa: PLC0415  slow: see the package

        if self.unread is not None:
            raise self.unread
        if self.sealed and is_sealed_with_another(self.sealed, self._derived(SEALING)):
            raise Unknown(
                "GATEWAY_SECRET_KEY is not the one that the gateway runs with, which would refuse what is made with "
                "it. Nothing was done. If the secret was changed on purpose: gateway signing-keys rotate --new-secret"
            )
        return self._derived(purpose)

    def _derived(self, purpose: str) -> bytes:
        if self.settings.secret_key is not None:
            return derived(self.settings.secret_key.get_secret_value(), purpose)
        if self.embedded:
            return derived(generated_secret(self.settings.state_dir), purpose)
        # Made up here, it would be a secret that no gateway has: each would refuse the key made with it.
        raise Unknown("GATEWAY_SECRET_KEY is not set. Give this command the one that the gateway runs with.")
