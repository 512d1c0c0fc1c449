"""The subcommand ``check``."""

from __future__ import annotations

import click


@click.command()
@click.option(
    "--ledger", is_flag=True, help="Verify every invariant of the ledger instead, on a live queue, and count."
)
@click.option(
    "--repair", is_flag=True, help="Rebuild what is derived of the ledger, with --ledger before and after."
)
@click.option(
    "--live", is_flag=True, help="Only ask this environment's worker whether it is alive; for containers."
)
@click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON document, and nothing else, on standard output."
)
def check(*, ledger: bool, repair: bool, live: bool, as_json: bool) -> None:
    """
    Check settings, Redis, credentials, ESA's endpoint and the bucket of lists: 0 when nothing fails, else 1.

    Example: esa-preload-worker check
    """
    if live and (ledger or repair):
        raise click.UsageError("--live goes alone: it looks at no ledger.")
    code = _probe(as_json=as_json) if live else _run(ledger=ledger, repair=repair, as_json=as_json)
    if code:
        raise click.exceptions.Exit(code)


def _run(*, ledger: bool, repair: bool, as_json: bool) -> int:
    from esa_preload_worker.check.run import run  # noqa: PLC0415 - keeps --help and --live quick

    return run(ledger=ledger, repair=repair, as_json=as_json)


def _probe(*, as_json: bool) -> int:
    import json  # noqa: PLC0415 - keeps --help quick

    from esa_preload_worker.check.live import probe  # noqa: PLC0415

    why_not = probe()
    if as_json:
        click.echo(json.dumps({"ok": not why_not, "reason": why_not}))
    else:
        click.echo(why_not or "alive", err=bool(why_not))
    return 1 if why_not else 0
