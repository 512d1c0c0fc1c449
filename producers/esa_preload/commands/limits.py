"""``esa-preload limits``."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from esa_preload.commands.output import print_json, print_table
from esa_preload.commands.running import json_option, run

if TYPE_CHECKING:
    from esa_preload.interface import Preloads
    from esa_preload.model import OperationLimit


@click.command()
@click.option(
    "--set",
    "to_set",
    multiple=True,
    metavar="OP=RATE",
    help="Call OP at RATE calls/s, and less only while ESA throttles at that.",
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

    async def do(client: Preloads) -> int:
        if changes:
            await client.change_limits(changes)
        found = await client.limits()
        if as_json:
            print_json([asdict(limit) for limit in found])
        else:
            _show(found)
        return 0

    run(do)


def _show(found: list[OperationLimit]) -> None:
    columns = ("operation", "rate", "set_rate", "ceiling", "cooldown_s", "window_s")
    shown = [
        {name: "" if value is None else value for name, value in asdict(limit).items()} for limit in found
    ]
    print_table(columns, shown, empty="Nothing is known of any operation's limit yet.")
    for limit in found:
        if limit.is_set_too_high:
            click.echo(f"{limit.operation}: ESA throttles at the {limit.set_rate:g} calls/s that were set.")


def _rate(text: str) -> tuple[str, float]:
    operation, mark, rate = text.partition("=")
    try:
        if mark:
            return operation, float(rate)
    except ValueError:
        pass
    raise click.UsageError(f"--set wants OP=RATE such as CreateScheduledPreloadJob=12, not {text}")
