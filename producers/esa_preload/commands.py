"""The command line of producers and operators: ``esa-preload``."""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import sys
import uuid
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from esa_preload.errors import (
    IncompleteError,
    InvalidRequestError,
    NotDurableError,
    QueueFullError,
    QueueUnavailableError,
)
from esa_preload.shell import EXIT_FAILED, run_cli

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator, Iterable, Sequence

    from esa_preload.client import PreloadClient
    from esa_preload.explanation import Explanation
    from esa_preload.model import Plan, Priority, Receipt, RequestStatus

json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON document, and nothing else, on standard output."
)


def main() -> None:
    """Run the command line."""
    run_cli(cli)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="esa-preload", prog_name="esa-preload")
def cli() -> None:
    """
    Have new content warm at the edge of Alibaba Cloud ESA before the first visitor comes.

    The queue is where ESA_PRELOAD_REDIS_URL says, in the namespace of ESA_PRELOAD_NAMESPACE (default).

    Exit codes: 0 all well; 1 some URLs rejected or refused, unknown id, queue full; 2 usage or settings; 3 Redis
    unreachable; 4 a wait timed out.
    """


@cli.command()
@click.option("--site", "site_id", required=True, metavar="ID", help="The ESA site's id.")
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
    help="Wait up to S seconds whenever Redis is away; fail fast unless given.",
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
    _run(lambda client: _enqueue(client, **options), wait_for_redis=wait_for_redis)


async def _enqueue(
    client: PreloadClient,
    *,
    site_id: str,
    urls: Sequence[str],
    file: str | None,
    oss_url: str | None,
    count: int | None,
    priority: Priority,
    expires_in: float | None,
    start: str | None,
    end: str | None,
    interval: int | None,
    slice_len: int | None,
    request_id: str | None,
    source: str | None,
    durable: bool,
    wait: bool,
    timeout: float | None,
    as_json: bool,
) -> int:
    from esa_preload.model import parse_site_id  # noqa: PLC0415 - keeps --help quick

    number = parse_site_id(site_id)
    plan = _plan(start, end, interval, slice_len)
    if timeout is not None and not wait:
        raise click.UsageError("--timeout goes with --wait.")
    if timeout is not None and not timeout < math.inf:
        raise click.UsageError("--timeout is a number of seconds.")
    request_id = uuid.uuid4().hex if request_id is None else request_id
    if oss_url is not None:
        if urls or file is not None:
            raise click.UsageError("--oss-url stands alone: give URLs or a list in a call of their own.")
        with _way_to_repeat(request_id, as_json=as_json):
            receipt = await client.enqueue_oss(
                number,
                oss_url,
                count,
                plan=plan,
                priority=priority,
                expires_in=expires_in,
                request_id=request_id,
                source=source,
                durable=durable,
            )
        return await _finish_enqueue(client, receipt, wait=wait, timeout=timeout, as_json=as_json)
    if count is not None:
        raise click.UsageError("--count goes with --oss-url.")
    if not urls and file is None:
        raise click.UsageError(
            "No URLs: give them as arguments, or a list with --file (- for standard input)."
        )
    with contextlib.ExitStack() as stack:
        listed = _lines_of(file, stack) if file is not None else ()
        progress = stack.enter_context(_enqueue_progress())
        stack.enter_context(_way_to_repeat(request_id, as_json=as_json))
        receipt = await client.enqueue(
            number,
            itertools.chain(urls, listed),
            plan=plan,
            priority=priority,
            expires_in=expires_in,
            request_id=request_id,
            source=source,
            durable=durable,
            progress=progress,
        )
    return await _finish_enqueue(client, receipt, wait=wait, timeout=timeout, as_json=as_json)


@contextlib.contextmanager
def _way_to_repeat(request_id: str, *, as_json: bool) -> Generator[None]:
    """Say what was taken, and under which id the call can be repeated, when it breaks off."""
    from asyncio import CancelledError  # noqa: PLC0415 - keeps --help quick

    try:
        yield
    except (QueueFullError, IncompleteError, NotDurableError) as exc:
        if exc.receipt and as_json:
            _print_json(_receipt_document(exc.receipt))
        if exc.receipt:
            click.echo(f"{exc.receipt.accepted} URLs were taken, as request {request_id}.", err=True)
        raise
    except (QueueUnavailableError, CancelledError):
        click.echo(f"The request is {request_id}: repeat with --request-id {request_id}", err=True)
        raise


async def _finish_enqueue(
    client: PreloadClient, receipt: Receipt, *, wait: bool, timeout: float | None, as_json: bool
) -> int:
    failed = receipt.rejected_count > 0
    status: RequestStatus | None = None
    document = _receipt_document(receipt)
    if wait:
        try:
            status = await _wait_with_progress(client, receipt.request_id, timeout)
        except BaseException:
            if as_json:
                _print_json(document)
            raise
        failed = failed or bool(status.refused or status.unknown or status.expired)
    if as_json:
        _print_json(document | ({"status": asdict(status)} if status else {}))
    else:
        _print_receipt(receipt)
        if status:
            _print_status(status)
    return EXIT_FAILED if failed else 0


@cli.command()
@click.argument("request_id")
@json_option
def status(request_id: str, *, as_json: bool) -> None:
    """
    Tell what became of every URL of a request.

    Example: esa-preload status 5f0c… --json
    """

    async def show(client: PreloadClient) -> int:
        found = await client.status(request_id)
        if as_json:
            _print_json(asdict(found))
        else:
            _print_status(found)
        return 0

    _run(show)


@cli.command()
@click.argument("request_id", required=False)
@click.option("--site", "site_id", metavar="ID", help="Explain a site instead of a request.")
@click.option("--url", metavar="URL", help="Explain one URL of that site.")
@json_option
def explain(request_id: str | None, site_id: str | None, url: str | None, *, as_json: bool) -> None:
    """
    Tell why something is not submitted yet: a request, a site, or a URL of a site.

    The first line is the answer; what else applies follows. What is in front of it in the queue is an estimate.

    Example: esa-preload explain --site 190007158391808 --url https://www.example.com/app.js
    """
    if (request_id is None) == (site_id is None) or (url is not None and site_id is None):
        raise click.UsageError("Give a request id, or --site, or --site and --url.")

    async def show(client: PreloadClient) -> int:
        from esa_preload.model import parse_site_id  # noqa: PLC0415

        number = None if site_id is None else parse_site_id(site_id)
        found = await client.explain(request_id, site_id=number, url=url)
        if as_json:
            _print_json(explanation_document(found))
        else:
            _print_explanation(found)
        return 0

    _run(show)


@cli.command()
@json_option
def sites(*, as_json: bool) -> None:
    """
    List the sites, their state and totals.

    Example: esa-preload sites
    """

    async def show(client: PreloadClient) -> int:
        found = [
            asdict(site) | {"waiting_until": site.waiting_until and site.waiting_until.isoformat()}
            for site in await client.sites()
        ]
        if as_json:
            _print_json(found)
        else:
            _print_table(
                (
                    "site_id",
                    "state",
                    "reason",
                    "pending",
                    "in_flight",
                    "submitted",
                    "refused",
                    "oldest_pending_s",
                    "waiting_until",
                    "jobs",
                    "job_cap",
                ),
                found,
                empty="No site has had a URL yet.",
            )
        return 0

    _run(show)


@cli.command()
@click.option("--site", "site_id", metavar="ID", help="Of this site only.")
@json_option
def failures(site_id: str | None, *, as_json: bool) -> None:
    """
    List the URLs that ESA refused, that expired, or whose end it did not tell.

    Example: esa-preload failures --site 190007158391808 --json
    """

    async def show(client: PreloadClient) -> int:
        from esa_preload.model import parse_site_id  # noqa: PLC0415

        found = [
            asdict(failure) | {"at": failure.at.isoformat()}
            for failure in await client.failures(None if site_id is None else parse_site_id(site_id))
        ]
        if as_json:
            _print_json(found)
        else:
            _print_table(("at", "site_id", "reason", "code", "batch_id", "url"), found, empty="No failures.")
        return 0

    _run(show)


@cli.command()
@click.argument("request_id")
@json_option
def cancel(request_id: str, *, as_json: bool) -> None:
    """
    Give up what a request still has pending; what is in flight goes on.

    Example: esa-preload cancel 5f0c…
    """

    async def do(client: PreloadClient) -> int:
        cancelled, in_flight = await client.cancel(request_id)
        if as_json:
            _print_json({"request_id": request_id, "cancelled": cancelled, "in_flight": in_flight})
        else:
            click.echo(f"{cancelled} URLs cancelled; {in_flight} in flight go on.")
        return 0

    _run(do)


@cli.command()
@click.argument("site_id", metavar="SITE")
@click.option("--reason", metavar="TEXT", help='Shown by `sites`; "by an operator" unless given.')
def pause(site_id: str, reason: str | None) -> None:
    """
    Submit nothing more for a site until `resume`; what is in flight goes on.

    A site that is paused already keeps its reason, unless --reason gives another.

    Example: esa-preload pause 190007158391808 --reason "origin is down"
    """

    async def do(client: PreloadClient) -> int:
        from esa_preload.model import parse_site_id  # noqa: PLC0415

        number = parse_site_id(site_id)
        changed = await client.pause(number, reason=reason)
        before = ", as it was before" + (f"; its reason is now: {reason}" if reason else "")
        click.echo(f"site {number} is paused" + ("" if changed else before))
        return 0

    _run(do)


@cli.command()
@click.argument("site_id", metavar="[SITE]", required=False)
@click.option("--account", is_flag=True, help="Unblock the account instead of a site.")
def resume(site_id: str | None, *, account: bool) -> None:
    """
    Let a site go on, whatever held it: a pause, a block, a quota.

    Example: esa-preload resume 190007158391808
    """
    if account == (site_id is not None):
        raise click.UsageError("Give a site, or --account.")

    async def do(client: PreloadClient) -> int:
        from esa_preload.model import parse_site_id  # noqa: PLC0415

        number = None if site_id is None else parse_site_id(site_id)
        changed = await client.resume(number)
        what = "the account" if number is None else f"site {number}"
        click.echo(f"{what} goes on" if changed else f"nothing held {what}")
        if number is not None and any(site.reason.startswith("account: ") for site in await client.sites()):
            click.echo("The account is blocked, and with it every site: see `resume --account`.", err=True)
        return 0

    _run(do)


@cli.command()
@click.option(
    "--set", "to_set", multiple=True, metavar="OP=RATE", help="Call OP at RATE calls/s, whatever was learnt."
)
@click.option(
    "--reset",
    "to_reset",
    is_flag=False,
    flag_value="",
    metavar="[OP]",
    help="Learn the limit of OP, or of all, anew.",
)
@json_option
def limits(to_set: tuple[str, ...], to_reset: str | None, *, as_json: bool) -> None:
    """
    Show the pace of each of ESA's operations, and what was learnt of its limit.

    All that is to be reset and set is done, or nothing of it.

    Example: esa-preload limits --set CreateScheduledPreloadJob=12
    """
    from esa_preload.model import PACED_OPERATIONS  # noqa: PLC0415 - keeps --help quick

    reset = () if to_reset is None else (to_reset,) if to_reset else PACED_OPERATIONS
    changes = [*((operation, None) for operation in reset), *(_rate(each) for each in to_set)]

    async def do(client: PreloadClient) -> int:
        if changes:
            await client.change_limits(changes)
        found = [asdict(limit) for limit in await client.limits()]
        if as_json:
            _print_json(found)
        else:
            shown = [{name: "" if value is None else value for name, value in row.items()} for row in found]
            columns = ("operation", "rate", "is_fixed", "ceiling", "cooldown_s", "window_s")
            _print_table(columns, shown, empty="Nothing is known of any operation's limit yet.")
        return 0

    _run(do)


@cli.command()
@click.option("--site", "site_id", required=True, metavar="ID", help="The ESA site's id.")
@json_option
def requeue(site_id: str, *, as_json: bool) -> None:
    """
    Enqueue the URLs of a site's failures anew.

    Example: esa-preload requeue --site 190007158391808
    """

    async def do(client: PreloadClient) -> int:
        from esa_preload.model import parse_site_id  # noqa: PLC0415

        receipts = await client.requeue(parse_site_id(site_id))
        if as_json:
            _print_json([_receipt_document(receipt) for receipt in receipts])
        elif receipts:
            for receipt in receipts:
                _print_receipt(receipt)
        else:
            click.echo("There are no failures to take up: lists in OSS, and plans that have ended, are not.")
        return 0

    _run(do)


def _run(act: Callable[[PreloadClient], Awaitable[int]], *, wait_for_redis: float = 0.0) -> None:
    import asyncio  # noqa: PLC0415 - keeps --help quick

    from esa_preload.client import PreloadClient  # noqa: PLC0415
    from esa_preload.environment import read_environment  # noqa: PLC0415

    environment = read_environment()

    async def with_client() -> int:
        async with PreloadClient(
            environment.redis_url, namespace=environment.namespace, wait_for_redis=wait_for_redis
        ) as client:
            return await act(client)

    if code := asyncio.run(with_client()):
        raise click.exceptions.Exit(code)


def _plan(start: str | None, end: str | None, interval: int | None, slice_len: int | None) -> Plan | None:
    if start is None and end is None and interval is None and slice_len is None:
        return None
    from esa_preload.model import Plan  # noqa: PLC0415

    return Plan(
        start=_time(start, "--start"), end=_time(end, "--end"), interval_s=interval, slice_len=slice_len
    )


def _rate(text: str) -> tuple[str, float]:
    operation, mark, rate = text.partition("=")
    try:
        if mark:
            return operation, float(rate)
    except ValueError:
        pass
    raise click.UsageError(f"--set wants OP=RATE such as CreateScheduledPreloadJob=12, not {text}")


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


@contextlib.contextmanager
def _enqueue_progress() -> Generator[Callable[[int], None] | None]:
    if not sys.stderr.isatty():
        yield None
        return
    with _progress_bar() as bar:
        task = bar.add_task("enqueued", total=None)
        yield lambda urls: bar.update(task, completed=urls)


async def _wait_with_progress(client: PreloadClient, request_id: str, timeout: float | None) -> RequestStatus:
    if not sys.stderr.isatty():
        return await client.wait(request_id, timeout=timeout)
    with _progress_bar() as bar:
        task = bar.add_task("ended")

        def update(status: RequestStatus) -> None:
            bar.update(
                task, total=status.accepted, completed=status.accepted - status.pending - status.in_flight
            )

        return await client.wait(request_id, timeout=timeout, progress=update)


def _progress_bar() -> Any:
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True)


def _receipt_document(receipt: Receipt) -> dict[str, Any]:
    document = asdict(receipt)
    document["rejected"] = [asdict(rejection) for rejection in receipt.rejected]
    document["waiting_until"] = receipt.waiting_until.isoformat() if receipt.waiting_until else None
    return document


def explanation_document(found: Explanation) -> dict[str, Any]:
    """Return what `explain --json` prints: the first reason's fields stand for the whole."""
    first, *_ = reasons = [
        {
            "reason": each.code,
            "text": each.text,
            "until": each.until and each.until.isoformat(),
            "hint": each.hint,
        }
        for each in found.reasons
    ]
    about = {"request_id": found.request_id, "site_id": found.site_id, "url": found.url}
    return {
        **{name: value for name, value in about.items() if value is not None},
        "state": found.state,
        **first,
        "next_at": found.next_at and found.next_at.isoformat(),
        "reasons": reasons,
    }


def _print_explanation(found: Explanation) -> None:
    for index, reason in enumerate(found.reasons):
        click.echo(("  also: " if index else "") + reason.text)
        if reason.hint:
            click.echo(("    " if index else "  ") + f"what to do: {reason.hint}")
    about = (found.request_id and f"request {found.request_id}", f"site {found.site_id}", found.url)
    click.echo(f"{', '.join(filter(None, about))}: {found.state}")


def _print_json(document: object) -> None:
    click.echo(json.dumps(document, default=str))


def _print_receipt(receipt: Receipt) -> None:
    click.echo(f"request {receipt.request_id}, site {receipt.site_id}")
    click.echo(
        f"accepted {receipt.accepted} (merged {receipt.merged}), duplicates {receipt.duplicates}, rejected {receipt.rejected_count}"
    )
    if receipt.waiting_until:
        click.echo(f"the site waits until {receipt.waiting_until.isoformat(timespec='seconds')}")
    for rejection in receipt.rejected:
        click.echo(f"rejected {rejection.url}: {rejection.reason}", err=True)


def _print_status(status: RequestStatus) -> None:
    click.echo(f"request {status.request_id}, site {status.site_id}: {status.state}")
    from esa_preload.model import PLAN_COUNTS, REQUEST_COUNTS  # noqa: PLC0415 - keeps --help quick

    for names, start in ((REQUEST_COUNTS, ""), (PLAN_COUNTS, "of the submitted: ")):
        click.echo(start + ", ".join(f"{name} {getattr(status, name)}" for name in names))


def _cell(value: object) -> str:
    if value is None:
        return ""
    if not isinstance(value, float):
        return str(value)
    return f"{value:.0f}" if abs(value) >= 1_000 else f"{value:.4g}"


def _print_table(columns: Sequence[str], rows: Sequence[dict[str, Any]], *, empty: str) -> None:
    if not rows:
        click.echo(empty)
        return
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column in ("site_id", "batch_id"))
    for row in rows:
        table.add_row(*(Text(_cell(row[column])) for column in columns))
    console = Console(soft_wrap=not sys.stdout.isatty(), width=None if sys.stdout.isatty() else 1_000)
    cast("Any", console).print(table)
