"""What tenants used, for Prometheus: only where the operator asks for it, and never more of them than was asked for.

Counted in the parent from the records that were shipped, so it costs a request nothing, and is as late as the ledger.
"""

from collections.abc import Callable, Iterable

from policies.account.usage import INTERIM
from storage.usage_rows import decode

OTHERS = "(others)"
"""The label of all tenants beyond the bound."""


class TenantFigures:
    """Requests and audio by tenant id. The first ``most()`` that are seen have their own, and keep them."""

    def __init__(self, most: Callable[[], int]) -> None:
        self._most = most
        self.requests: dict[str, int] = {}
        self.audio_ms: dict[str, int] = {}

    def count(self, rows: Iterable[bytes]) -> None:
        """Count records that the ledger has taken. Raises StorageError for what is none."""
        most = self._most()
        if not most:
            return
        for row in rows:
            record = decode(row)
            known = record.tenant_id in self.requests or len(self.requests) - (OTHERS in self.requests) < most
            tenant = record.tenant_id if known else OTHERS
            self.requests[tenant] = self.requests.get(tenant, 0) + (record.status != INTERIM)
            self.audio_ms[tenant] = self.audio_ms.get(tenant, 0) + record.measured.audio_ms
