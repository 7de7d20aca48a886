"""The OpenAPI 3.1 document: made from the declarations that are served, so that the two cannot differ."""

import re
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, models_json_schema

from gateway import __version__
from gateway.portal.api.operations import Operation
from policies.http.verdict import Refusal

_REFERENCE = "#/components/schemas/{model}"
_ALWAYS = (
    Refusal.CONFLICTING_CREDENTIALS,
    Refusal.MISSING_CREDENTIAL,
    Refusal.INSUFFICIENT_PERMISSION,
    Refusal.INVALID_INPUT,
    Refusal.RATE_LIMIT_EXCEEDED,
    Refusal.REQUEST_HEADERS_TOO_LARGE,
)
_ID = "[0-9a-hjkmnp-tv-z]{20}$"
_PATH_PARTS = {
    "key_id": f"^key_{_ID}",
    "user_id": f"^usr_{_ID}",
    "webhook_id": f"^whk_{_ID}",
    "invitation_id": f"^inv_{_ID}",
    "session_id": f"^(ses|fam)_{_ID}",
    "account_id": f"^svc_{_ID}",
    "delivery_id": "^[0-9]{1,18}$",
    "kid": "^[0-9A-Za-z_-]{43}$",
    "slug": "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$",
    "name": "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$",
}
"""What each part of a path looks like; anything else is not there."""
_PROBLEM = {
    "type": "object",
    "description": "RFC 9457; `code` is stable.",
    "required": ["type", "title", "status", "detail", "code", "request_id"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "code": {"type": "string"},
        "request_id": {"type": "string"},
        "errors": {
            "type": "array",
            "description": "A sentence for each field that is wrong.",
            "items": {
                "type": "object",
                "required": ["field", "message"],
                "properties": {"field": {"type": "string"}, "message": {"type": "string"}},
            },
        },
    },
}


_OF_LISTS = {"minLength": "minItems", "maxLength": "maxItems"}


class _Schemas(GenerateJsonSchema):
    """Lengths of lists are items: where a function checks a list first, pydantic writes those of a text."""

    def generate_inner(self, schema: Any) -> dict[str, Any]:
        made = super().generate_inner(schema)
        if made.get("type") != "array":
            return made
        return {_OF_LISTS.get(name, name): value for name, value in made.items()}


def document(operations: Iterable[Operation]) -> dict[str, Any]:
    """The whole document."""
    all_of_them = list(operations)
    models: list[tuple[type[BaseModel], JsonSchemaMode]] = []
    for operation in all_of_them:
        models += [(operation.body, "validation")] if operation.body else []
        models += [(operation.answer, "serialization")] if operation.answer else []
    references, definitions = models_json_schema(
        list(dict.fromkeys(models)), ref_template=_REFERENCE, schema_generator=_Schemas
    )
    paths: dict[str, dict[str, Any]] = {}
    for operation in all_of_them:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _described(operation, references)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Tahoe Gateway", "version": __version__, "description": _ABOUT},
        "servers": [{"url": "/"}],
        "security": [{"bearer": []}],
        "paths": paths,
        "components": {
            "schemas": {**definitions.get("$defs", {}), "Problem": _PROBLEM},
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": "An API key or an access token."},
            },
        },
    }


_ABOUT = (
    "Tenants, people, keys, limits, usage and audit. Lists are paged by `cursor`; a `GET` of one thing has an `ETag`, "
    "and a change may carry it in `If-Match`; a `POST` may carry an `Idempotency-Key`. Errors are RFC 9457 problems."
)


def _described(operation: Operation, references: dict[Any, Any]) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": operation.name,
        "tags": [operation.tag],
        "summary": operation.summary,
        "parameters": _parameters(operation),
        "responses": _responses(operation, references),
    }
    if operation.permission:
        described["description"] = f"Needs the permission `{operation.permission}`."
        described["x-permission"] = operation.permission.value
    if operation.body:
        schema = references[(operation.body, "validation")]
        described["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    return described


def _parameters(operation: Operation) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "pattern": _PATH_PARTS[name]}}
        for name in re.findall(r"{(\w+)}", operation.path)
    ]
    schema = operation.query.model_json_schema(schema_generator=_Schemas)
    defined = schema.get("$defs", {})
    for name, field in schema.get("properties", {}).items():
        found.append(
            {
                "name": name,
                "in": "query",
                "required": name in schema.get("required", ()),
                "description": field.pop("description", ""),
                "schema": _inlined(field, defined),
            }
        )
    if operation.method == "POST":
        found.append({"name": "Idempotency-Key", "in": "header", "schema": {"type": "string", "maxLength": 255}})
    if operation.method in ("PATCH", "PUT", "DELETE"):
        found.append({"name": "If-Match", "in": "header", "schema": {"type": "string"}})
    return found


def _inlined(schema: Any, defined: dict[str, Any]) -> Any:
    if isinstance(schema, dict):
        if "$ref" in schema:
            return _inlined(defined[schema["$ref"].rpartition("/")[2]], defined)
        return {name: _inlined(value, defined) for name, value in schema.items() if name != "title"}
    return [_inlined(each, defined) for each in schema] if isinstance(schema, list) else schema


def _responses(operation: Operation, references: dict[Any, Any]) -> dict[str, Any]:
    done: dict[str, Any] = {"description": "Done."}
    if operation.answer:
        schema = references[(operation.answer, "serialization")]
        done["content"] = {"application/json": {"schema": schema}}
        done["headers"] = {"ETag": {"schema": {"type": "string"}}}
        if "format" in operation.query.model_fields:
            done["content"]["text/csv"] = {}
    elif operation.status == 200:
        done["content"] = {kind: {} for kind in ("application/jsonl", "text/csv")}
    responses: dict[str, Any] = {str(operation.status): done}
    refusals = [*_ALWAYS, Refusal.STORE_UNAVAILABLE, Refusal.INTERNAL_ERROR]
    if "{" in operation.path or operation.is_in_tenant:
        refusals.append(Refusal.NOT_FOUND)
    if operation.method == "POST":
        refusals.append(Refusal.ALREADY_EXISTS)
    if operation.method in ("PATCH", "PUT", "DELETE"):
        refusals += [Refusal.STALE_VERSION, Refusal.IN_USE]
    if operation.body:
        refusals += [Refusal.NOT_JSON, Refusal.BODY_TOO_LARGE]
    for refusal in refusals:
        responses[str(refusal.status)] = {
            "description": refusal.message,
            "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
    return dict(sorted(responses.items()))
