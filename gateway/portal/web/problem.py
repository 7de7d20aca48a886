"""A refusal on its way to whoever asked; ``problem_answers`` makes the answer of it."""

from collections.abc import Awaitable, Callable, Mapping

from aiohttp import web

from gateway.dataplane import error_page
from policies.http.verdict import Refusal

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Problem(Exception):
    """A refusal, raised where it is found. ``fields`` holds a sentence for each field that is wrong."""

    def __init__(
        self,
        refusal: Refusal,
        detail: str = "",
        *,
        fields: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(refusal.code)
        self.refusal = refusal
        self.detail = detail
        self.fields = dict(fields or {})
        self.headers = dict(headers or {})

    def in_form(self) -> "Problem":
        """The same for a form, where a list is one field: what is wrong in ``networks.0`` stands at ``networks``."""
        fields: dict[str, str] = {}
        for name, sentence in self.fields.items():
            fields.setdefault(name.partition(".")[0], sentence)
        return Problem(self.refusal, self.detail, fields=fields, headers=self.headers)

    @property
    def sentences(self) -> str:
        """What happened and what to do."""
        return f"{self.refusal.message} {self.detail}" if self.detail else self.refusal.message

    @property
    def for_people(self) -> str:
        """The same on a page."""
        wait = self.headers.get("Retry-After")
        return error_page.for_people(self.sentences, int(wait) if wait else None)
