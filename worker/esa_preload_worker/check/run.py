"""What ``check`` does once its settings are read: connect, look, show, and tell the exit code."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import click

from esa_preload.connection import connect
from esa_preload.errors import QueueUnavailableError
from esa_preload.keys import Keys
from esa_preload.outages import redis_errors
from esa_preload.shell import EXIT_FAILED, EXIT_REDIS
from esa_preload_worker.check import probe, show
from esa_preload_worker.check.audit import Auditor
from esa_preload_worker.check.environment import judge_settings
from esa_preload_worker.check.model import Outcome
from esa_preload_worker.check.reader import LedgerReader
from esa_preload_worker.check.repair import repair as mend
from esa_preload_worker.settings import load

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from redis.asyncio import Redis

    from esa_preload_worker.check.audit import Audit
    from esa_preload_worker.settings import Loaded, Settings


def run(*, ledger: bool, repair: bool, as_json: bool) -> int:
    """
    Run a check, print what it found, and return the exit code.

    Raises:
        SettingsError: a setting is missing or out of range.
        QueueUnavailableError: Redis cannot be reached.
    """
    loaded = load()
    if not (ledger or repair):
        return asyncio.run(_check_environment(loaded, as_json=as_json))
    for warning in loaded.warnings:
        click.echo(f"Warning: {warning}", err=True)
    if repair:
        return asyncio.run(_repair(loaded.settings, as_json=as_json))
    return asyncio.run(_check_ledger(loaded.settings, as_json=as_json))


async def _check_environment(loaded: Loaded, *, as_json: bool) -> int:
    async with _connected(loaded.settings) as redis:
        try:
            await probe.reach(redis)
        except QueueUnavailableError as exc:
            hint = "check ESA_PRELOAD_REDIS_URL, that the server runs, and that this user may use it"
            missing = Outcome(name="redis", state="fail", sentence=str(exc), hint=hint)
            show.show_outcomes([judge_settings(loaded.warnings), missing], is_good=False, as_json=as_json)
            return EXIT_REDIS
        outcomes = await probe.check_all(redis, loaded)
    is_good = all(outcome.state != "fail" for outcome in outcomes)
    show.show_outcomes(outcomes, is_good=is_good, as_json=as_json)
    return 0 if is_good else EXIT_FAILED


async def _check_ledger(settings: Settings, *, as_json: bool) -> int:
    async with _connected(settings) as redis:
        audit = await _audit(LedgerReader(redis, Keys(settings.namespace)))
    if as_json:
        show.print_json({"ok": not audit.violations, **show.audit_json(audit)})
    else:
        show.show_audit(audit)
    return EXIT_FAILED if audit.violations else 0


async def _repair(settings: Settings, *, as_json: bool) -> int:
    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        if not as_json:
            click.echo(f"repaired: {line}")

    async with _connected(settings) as redis:
        reader = LedgerReader(redis, Keys(settings.namespace))
        before = await _audit(reader)
        if not as_json:
            show.show_audit(before)
        with redis_errors():
            await mend(reader, before, say)
        after = await _audit(reader)
    if as_json:
        document = {"before": show.audit_json(before), "repairs": said, "after": show.audit_json(after)}
        show.print_json({"ok": not after.violations, **document})
    else:
        if not said:
            click.echo("nothing to repair")
        show.show_audit(after)
    return EXIT_FAILED if after.violations else 0


async def _audit(reader: LedgerReader) -> Audit:
    with redis_errors(), show.progress_bar() as progress:
        return await Auditor(reader, progress=progress).run()


@contextlib.asynccontextmanager
async def _connected(settings: Settings) -> AsyncGenerator[Redis]:
    redis = connect(settings.redis_url.get_secret_value())
    try:
        yield redis
    finally:
        await redis.aclose()
