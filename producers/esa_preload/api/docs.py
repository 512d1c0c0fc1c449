"""The API's own page, `/docs`: printed from its OpenAPI document, with nothing from elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from fastapi import APIRouter, Request, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from esa_preload.api.problems import KINDS

if TYPE_CHECKING:
    from collections.abc import Mapping

router = APIRouter(include_in_schema=False)

CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_TEMPLATES: Final = Path(__file__).parent / "templates"
_ENVIRONMENT: Final = Environment(
    loader=FileSystemLoader(_TEMPLATES),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


@router.get("/docs")
async def show(request: Request) -> Response:
    """Show every route, its parameters, bodies and answers."""
    document = cast("dict[str, Any]", request.app.openapi())
    html = _ENVIRONMENT.get_template("docs.html").render(api=document, kinds=KINDS, type_of=type_of)
    headers = {"Content-Security-Policy": CONTENT_SECURITY_POLICY}
    return Response(html, media_type="text/html; charset=utf-8", headers=headers)


@router.get("/docs.css")
async def style() -> Response:
    """Return how the page looks."""
    return Response((_TEMPLATES / "docs.css").read_bytes(), media_type="text/css; charset=utf-8")


def type_of(schema: Mapping[str, Any]) -> str:
    """Return the type that *schema* describes in a few words."""
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "enum" in schema:
        return " or ".join(f'"{each}"' for each in schema["enum"])
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(map(type_of, schema["anyOf"])))
    if schema.get("type") == "array":
        return f"array of {type_of(schema['items'])}"
    return str(schema.get("format") or schema.get("const") or schema.get("type", "anything"))
