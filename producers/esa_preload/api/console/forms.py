"""What a form of the console holds, read within a bound."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs

from esa_preload.api.problems import ProblemError
from esa_preload.errors import InvalidRequestError
from esa_preload.model import Plan

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from starlette.requests import Request

FORM_MAX_BYTES: Final = 4 * 2**20
"""About 40,000 URLs. Longer lists go by the API or the command line, which stream them."""

FIELDS_MAX: Final = 2_000
"""More than the failures that a page lets somebody choose."""


@dataclass(frozen=True, slots=True)
class Form:
    """The fields of a form; one that is missing is empty."""

    fields: Mapping[str, Sequence[str]]

    def text(self, name: str) -> str:
        """Return the text of a field, without the space around it."""
        return self.fields.get(name, [""])[0].strip()

    def texts(self, name: str) -> Sequence[str]:
        """Return all texts of a field that may be there more than once."""
        return self.fields.get(name, [])

    def number(self, name: str) -> int | None:
        """
        Return a whole number, or ``None`` when the field is empty.

        Raises:
            InvalidRequestError: it is none.
        """
        text = self.text(name)
        if text and not (text.isascii() and text.isdigit() and len(text) < 19):
            raise InvalidRequestError(f"{name} must be a whole number, not {text[:40]!r}")
        return int(text) if text else None

    def moment(self, name: str) -> datetime | None:
        """
        Return a time in UTC, as a field of that type sends it, or ``None`` when it is empty.

        Raises:
            InvalidRequestError: it is none.
        """
        try:
            at = datetime.fromisoformat(self.text(name)) if self.text(name) else None
        except ValueError:
            raise InvalidRequestError(f"{name} must be a time such as 2027-01-31T08:30") from None
        return at.replace(tzinfo=UTC) if at and at.tzinfo is None else at

    def plan(self) -> Plan:
        """
        Return when and how fast ESA is to fetch.

        Raises:
            InvalidRequestError: one of its fields is wrong.
        """
        return Plan(
            start=self.moment("start"),
            end=self.moment("end"),
            interval_s=self.number("interval_s"),
            slice_len=self.number("slice_len"),
        )


async def read_form(request: Request) -> Form:
    """
    Read the form that *request* sends.

    Raises:
        ProblemError: it is longer than the bound, or no form.
    """
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > FORM_MAX_BYTES:
            raise ProblemError(
                "too-large",
                f"a form has at most {FORM_MAX_BYTES} bytes",
                hint="longer lists go by the command `esa-preload enqueue --file`",
            )
    try:
        # In a thread: a long list takes a while, and others wait.
        fields = await asyncio.to_thread(
            parse_qs, body.decode(), keep_blank_values=True, max_num_fields=FIELDS_MAX
        )
    except ValueError:
        raise ProblemError("invalid", "that is no form") from None
    return Form(fields)
