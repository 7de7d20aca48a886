"""The last word: a permit and what the limits said become an admission, or a refusal."""

from dataclasses import dataclass

from policies.authorise import Permit
from policies.limits import Taken
from policies.verdict import Deny, Refusal


@dataclass(slots=True)
class Admit:
    """The answer yes. The relay accepts nothing else. Immutable by use; frozen costs a request half a microsecond."""

    permit: Permit
    taken: Taken


def conclude(permit: Permit, taken: Taken) -> Admit | Deny:
    """Admit when every charge was taken; otherwise say which limit refused, and until when."""
    if taken.refused_by is None:
        return Admit(permit, taken)
    charge = taken.refused_by
    return Deny(
        refusal=Refusal.RATE_LIMIT_EXCEEDED,
        detail=f"The limit '{charge.name}' is {charge.rate}.",
        principal=permit.principal,
        taken=taken,
    )
