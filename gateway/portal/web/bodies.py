"""Bodies of requests: forms and JSON, validated into a pydantic model; every fault is told at once."""

from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime
from typing import Self, TypeVar

from aiohttp import web
from pydantic import BaseModel, ValidationError

from gateway.portal.parts import PARTS
from gateway.portal.web.crosssite import FIELD, FORM, posted
from gateway.portal.web.problem import Problem
from policies.http.verdict import Refusal
from policies.identity import strict_json

_Model = TypeVar("_Model", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Known:
    """What a body is judged by beside its own shape: the context of its validation."""

    routes: AbstractSet[str]
    scopes: AbstractSet[str]
    now: datetime

    @classmethod
    def of(cls, request: web.Request) -> Self:
        """What there is at this moment."""
        parts = request.app[PARTS]
        return cls(parts.routes.keys(), parts.scopes, parts.now())


async def read_json(request: web.Request, model: type[_Model]) -> _Model:
    """The JSON body. Raises Problem: not JSON by its type (415), not JSON at all or not this model (422).

    A model may ask what there is (:class:`Known`), so that what is wrong by it is told with all the rest.
    """
    if request.content_type != "application/json":  # text/plain would need no leave of the browser's (CORS)
        raise Problem(Refusal.NOT_JSON)
    body = await request.read()
    try:
        strict_json.read(body.decode("utf-8"))
    except ValueError as error:
        raise Problem(Refusal.INVALID_INPUT, "The body is not well-formed JSON, or says a name twice.") from error
    try:
        # Strict: true is no number, and "1" is none either.
        return model.model_validate_json(body, strict=True, context=Known.of(request))
    except ValidationError as error:
        raise Problem(Refusal.INVALID_INPUT, fields=faults(error)) from error


async def read_form(request: web.Request, model: type[_Model]) -> _Model:
    """The form body, every field once. Raises Problem."""
    return validated(model, await form_fields(request))


async def form_fields(request: web.Request) -> dict[str, str]:
    """The fields of a form but for its token. Raises Problem when one is there twice, and for a multipart body."""
    if request.content_type != FORM:
        raise Problem(Refusal.INVALID_INPUT, "Send the form as application/x-www-form-urlencoded.")
    fields: dict[str, str] = {}
    for name, value in (await posted(request)).items():
        if name in fields or not isinstance(value, str):
            raise Problem(Refusal.INVALID_INPUT, fields={name: "This is there more than once."})
        fields[name] = value
    fields.pop(FIELD, None)
    return fields


def validated(model: type[_Model], found: object, known: Known | None = None) -> _Model:
    """The model of plain data; ``known`` where it asks what there is. Raises Problem with a sentence for each field."""
    try:
        return model.model_validate(found, context=known)
    except ValidationError as error:
        raise Problem(Refusal.INVALID_INPUT, fields=faults(error)) from error


_IN_OTHER_WORDS = {"extra_forbidden": "There is no such field here.", "missing": "This field is missing."}
"""For pydantic's own, which speak of inputs."""


def faults(error: ValidationError) -> dict[str, str]:
    """What is wrong, by field (``a.b`` for one inside another); never with the value, which may be a secret."""
    found: dict[str, str] = {}
    for detail in error.errors(include_input=False, include_url=False):
        field = ".".join(str(part) for part in detail["loc"] if part != "[key]") or "body"
        found.setdefault(field, _IN_OTHER_WORDS.get(detail["type"]) or str(detail["msg"]).removeprefix("Value error, "))
    return found
