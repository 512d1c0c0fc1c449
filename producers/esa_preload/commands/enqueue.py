"""``esa-preload enqueue``."""

from __future__ import annotations

import contextlib
import itertools
import math
import sys
import uuid
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from esa_preload.commands.documents import has_failed, print_receipt, print_status, receipt_document
from esa_preload.commands.output import enqueue_progress, print_json, wait_with_progress
from esa_preload.commands.running import json_option, run, site_option
from esa_preload.errors import (
    IncompleteError,
    InvalidRequestError,
    NotDurableError,
    QueueFullError,
    QueueUnavailableError,
)
from esa_preload.shell import EXIT_FAILED

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Sequence

    from esa_preload.interface import Preloads
    from esa_preload.model import Plan, Receipt, RequestStatus


@click.command()
@site_option(required=True)
@click.option(
    "--file",
    "file",
    type=click.Path(dir_okay=False),
    metavar="F|-",
    help="A list, one URL a line, gzip or not; - for standard input.",
)
@click.option("--oss-url", metavar="URL", help="A list that ESA reads itself from OSS.")
@click.option("--count", type=click.IntRange(min=1), metavar="N", help="How many URLs that list holds.")
@click.option(
    "--priority",
    type=click.Choice(["high", "normal", "low"]),
    default="normal",
    show_default=True,
    help="Order within the site.",
)
@click.option("--expires-in", type=float, metavar="S", help="Give up after S seconds what is still pending.")
@click.option(
    "--start", metavar="TIME", help="When ESA begins to fetch, ISO 8601 with time zone; at once unless given."
)
@click.option("--end", metavar="TIME", help="When it ends, likewise; what is not submitted by then expires.")
@click.option("--interval", type=click.IntRange(min=1), metavar="S", help="Seconds between two slices.")
@click.option("--slice", "slice_len", type=click.IntRange(min=1), metavar="N", help="URLs a slice.")
@click.option("--request-id", metavar="X", help="Repeat the call with the same id to resume it.")
@click.option("--source", metavar="NAME", help="Who asks.")
@click.option(
    "--durable", is_flag=True, help="End well only when all is on disk or on a replica of the server."
)
@click.option(
    "--wait-for-redis",
    type=click.FloatRange(min=0, max=86_400),
    default=0.0,
    metavar="S",
    help="Wait up to S seconds whenever Redis, or the HTTP API, is away; fail fast unless given.",
)
@click.option("--wait", is_flag=True, help="Wait until every URL has ended.")
@click.option("--timeout", type=click.FloatRange(min=0), metavar="S", help="Longest wait, in seconds.")
@json_option
@click.argument("urls", nargs=-1, metavar="[URL]...")
def enqueue(*, wait_for_redis: float, **options: Any) -> None:
    """
    Enqueue URLs, from arguments and from a list.

    Example: esa-preload enqueue --site 190007158391808 --file new-assets.txt --wait
    """
    _require_usage(**options)
    run(lambda client: _enqueue(client, **options), patience_s=wait_for_redis)


def _require_usage(
    *,
    urls: Sequence[str],
    file: str | None,
    oss_url: str | None,
    count: int | None,
    wait: bool,
    timeout: float | None,
    **_: object,
) -> None:
    if timeout is not None and not wait:
        raise click.UsageError("--timeout goes with --wait.")
    if timeout is not None and not timeout < math.inf:
        raise click.UsageError("--timeout is a number of seconds.")
    has_urls = bool(urls) or file is not None
    if oss_url is not None and has_urls:
        raise click.UsageError("--oss-url stands alone: give URLs or a list in a call of their own.")
    if oss_url is None and count is not None:
        raise click.UsageError("--count goes with --oss-url.")
    if oss_url is None and not has_urls:
        raise click.UsageError(
            "No URLs: give them as arguments, or a list with --file (- for standard input)."
        )


async def _enqueue(
    client: Preloads,
    *,
    site: str,
    urls: Sequence[str],
    file: str | None,
    oss_url: str | None,
    count: int | None,
    start: str | None,
    end: str | None,
    interval: int | None,
    slice_len: int | None,
    request_id: str | None,
    wait: bool,
    timeout: float | None,
    as_json: bool,
    **as_given: Any,
) -> int:
    """Enqueue, and say what became of it; *as_given* is for the client as it is."""
    request_id = uuid.uuid4().hex if request_id is None else request_id
    plan = _plan(start, end, interval, slice_len)
    asked: dict[str, Any] = {**as_given, "plan": plan, "request_id": request_id}
    number = await client.site_id(site)
    with contextlib.ExitStack() as stack:
        if oss_url is not None:
            stack.enter_context(_way_to_repeat(request_id, as_json=as_json))
            receipt = await client.enqueue_oss(number, oss_url, count, **asked)
        else:
            listed = _lines_of(file, stack) if file is not None else ()
            progress = stack.enter_context(enqueue_progress())
            stack.enter_context(_way_to_repeat(request_id, as_json=as_json))
            receipt = await client.enqueue(number, itertools.chain(urls, listed), progress=progress, **asked)
    return await _finish_enqueue(client, receipt, wait=wait, timeout=timeout, as_json=as_json)


@contextlib.contextmanager
def _way_to_repeat(request_id: str, *, as_json: bool) -> Generator[None]:
    """Say what was taken, and under which id the call can be repeated, when it breaks off."""
    from asyncio import CancelledError  # noqa: PLC0415 - keeps --help quick

    try:
        yield
    except (QueueFullError, IncompleteError, NotDurableError) as exc:
        if exc.receipt and as_json:
            print_json(receipt_document(exc.receipt))
        if exc.receipt:
            click.echo(f"{exc.receipt.accepted} URLs were taken, as request {request_id}.", err=True)
        raise
    except (QueueUnavailableError, CancelledError):
        click.echo(f"The request is {request_id}: repeat with --request-id {request_id}", err=True)
        raise


async def _finish_enqueue(
    client: Preloads, receipt: Receipt, *, wait: bool, timeout: float | None, as_json: bool
) -> int:
    failed = receipt.rejected_count > 0
    status: RequestStatus | None = None
    document = receipt_document(receipt)
    if wait:
        try:
            status = await wait_with_progress(client, receipt.request_id, timeout)
        except BaseException:
            if as_json:
                print_json(document)
            raise
        failed = failed or has_failed(status)
    if as_json:
        print_json(document | ({"status": asdict(status)} if status else {}))
    else:
        print_receipt(receipt)
        if status:
            print_status(status)
    return EXIT_FAILED if failed else 0


def _plan(start: str | None, end: str | None, interval: int | None, slice_len: int | None) -> Plan | None:
    if start is None and end is None and interval is None and slice_len is None:
        return None
    from esa_preload.model import Plan  # noqa: PLC0415

    return Plan(
        start=_time(start, "--start"), end=_time(end, "--end"), interval_s=interval, slice_len=slice_len
    )


def _time(value: str | None, option: str) -> datetime | None:
    if value is None:
        return None
    try:
        return datetime.fromisoformat(value)
    except ValueError:
        raise InvalidRequestError(
            f"{option} must be an ISO 8601 time such as 2026-11-23T18:00:00+08:00"
        ) from None


def _lines_of(file: str, stack: contextlib.ExitStack) -> Iterable[str]:
    from esa_preload.lines import read_lines  # noqa: PLC0415

    if file == "-":
        return read_lines(sys.stdin.buffer)
    try:
        return read_lines(stack.enter_context(Path(file).open("rb")))
    except OSError as exc:
        raise InvalidRequestError(f"{file} cannot be read: {exc.strerror}") from exc
