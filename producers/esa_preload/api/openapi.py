"""What OpenAPI says beyond what FastAPI finds out: the problems of each route, and the bodies that the routes read themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from esa_preload.api.bodies import JSON, NDJSON, TEXT
from esa_preload.api.problems import KINDS, MEDIA_TYPE, Problem
from esa_preload.api.schemas import (
    EnqueueInput,
    Input,
    LimitChanges,
    PauseInput,
    RateInput,
    RequeueInput,
)

if TYPE_CHECKING:
    from fastapi import FastAPI

_REF: Final = "#/components/schemas/{model}"
_INPUTS: Final = (EnqueueInput, PauseInput, RequeueInput, RateInput, LimitChanges)
_EVERYWHERE: Final = ("unauthorized", "forbidden", "method-not-allowed", "invalid", "internal", "unavailable")
BODY: Final = ("bad-body", "stalled-body", "too-large", "unsupported-media-type")
"""What may be wrong with any body."""

_HEADERS: Final = {
    "unauthorized": "WWW-Authenticate",
    "method-not-allowed": "Allow",
    "unsupported-media-type": "Accept-Encoding",
}


def problems(*kinds: str) -> dict[int | str, dict[str, Any]]:
    """Return the documented answers for *kinds*, with those that every route may give."""
    found: dict[int | str, dict[str, Any]] = {}
    for name in (*_EVERYWHERE, *kinds):
        kind = KINDS[name]
        answer = found.setdefault(
            kind.status,
            {
                "description": "",
                "content": {MEDIA_TYPE: {"schema": {"$ref": _REF.format(model="Problem")}}},
                "headers": {},
            },
        )
        answer["description"] = "; ".join(filter(None, (answer["description"], kind.title)))
        if kind.retry_after_s is not None:
            answer["headers"]["Retry-After"] = {"schema": {"type": "string"}, "description": "Seconds."}
        if name in _HEADERS:
            answer["headers"][_HEADERS[name]] = {"schema": {"type": "string"}}
    return found


def json_body(model: type[Input], *, is_required: bool = True) -> dict[str, Any]:
    """Return what OpenAPI says of a route that reads a JSON document itself."""
    return {"requestBody": {"required": is_required, "content": {JSON: {"schema": _schema_of(model)}}}}


def list_body(model: type[Input]) -> dict[str, Any]:
    """Return what OpenAPI says of a route that reads URLs as lines, or as a JSON document."""
    line = {"type": "string", "example": "https://www.example.com/app.js\n"}
    item = {
        "type": "string",
        "example": '"https://www.example.com/app.js"\n{"url": "https://www.example.com/app.css"}\n',
    }
    content = {JSON: {"schema": _schema_of(model)}, TEXT: {"schema": line}, NDJSON: {"schema": item}}
    return {"requestBody": {"required": True, "content": content}}


def _schema_of(model: type[Input]) -> dict[str, str]:
    return {"$ref": _REF.format(model=model.__name__)}


def describe(app: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI document of *app*."""
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title,
            version=app.version,
            description=app.description,
            routes=app.routes,
            tags=app.openapi_tags,
        )
        schemas = document["components"]["schemas"]
        _, own = models_json_schema(
            [*((model, "validation") for model in _INPUTS), (Problem, "serialization")], ref_template=_REF
        )
        schemas |= own["$defs"]
        for unused in ("HTTPValidationError", "ValidationError"):
            schemas.pop(unused, None)
        document["components"]["schemas"] = dict(sorted(schemas.items()))
        for path in document["paths"].values():
            for operation in path.values():
                for parameter in operation.get("parameters", ()):
                    parameter["schema"] = _without_null(parameter["schema"])
        app.openapi_schema = document
    return app.openapi_schema


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a parameter that may be left out: there is no way to send null."""
    kinds = [kind for kind in schema.get("anyOf", ()) if kind != {"type": "null"}]
    return (
        schema
        if len(kinds) != 1
        else {name: value for name, value in schema.items() if name != "anyOf"} | kinds[0]
    )
