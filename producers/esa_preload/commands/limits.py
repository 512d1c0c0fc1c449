"""``esa-preload limits``."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from esa_preload.commands.output import print_json, print_table
from esa_preload.commands.running import json_option, run

if TYPE_CHECKING:
    from esa_preload.interface import Preloads


@click.command()
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

    async def do(client: Preloads) -> int:
        if changes:
            await client.change_limits(changes)
        found = [asdict(limit) for limit in await client.limits()]
        if as_json:
            print_json(found)
        else:
            shown = [{name: "" if value is None else value for name, value in row.items()} for row in found]
            columns = ("operation", "rate", "is_fixed", "ceiling", "cooldown_s", "window_s")
            print_table(columns, shown, empty="Nothing is known of any operation's limit yet.")
        return 0

    run(do)


def _rate(text: str) -> tuple[str, float]:
    operation, mark, rate = text.partition("=")
    try:
        if mark:
            return operation, float(rate)
    except ValueError:
        pass
    raise click.UsageError(f"--set wants OP=RATE such as CreateScheduledPreloadJob=12, not {text}")
