"""Read what the processes of a run wrote: recoveries, adoptions, and what none of them should have said."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any, cast

from chaos.troublemaker import NO_REDIS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from chaos.machines import Machine
    from chaos.report import Report


def read_logs(report: Report, machines: Iterable[Machine], batches_concerned: Collection[str]) -> None:
    """Count into *report*, and quote in it the lines about *batches_concerned* in their order."""
    concerned: list[tuple[str, str]] = []
    for machine in machines:
        for line in machine.lines():
            if not line.startswith("{"):
                if machine.exit_code != NO_REDIS:
                    report.errors.append(f"{machine.name}: {line}")
                continue
            event = cast("dict[str, Any]", json.loads(line))
            _count(report, machine, event)
            if event.get("batch_id") in batches_concerned:
                concerned.append((str(event["timestamp"]), f"{machine.name}: {line}"))
    report.problems.extend(line for _, line in sorted(concerned))


def recreated(metrics: str) -> float:
    """Return how many jobs a worker created again, by its metrics."""
    for line in metrics.splitlines():
        if line.startswith("esa_preload_reconciled_total{") and '"recreated"' in line:
            return float(line.rpartition(" ")[2])
    return 0.0


def _count(report: Report, machine: Machine, event: dict[str, Any]) -> None:
    match event["event"]:
        case "batch.adopted":
            report.adopted += 1
        case "batch.submitted" if event["attempt"] > 1:
            report.recoveries += 1
            ended_s = datetime.fromisoformat(event["timestamp"]).timestamp()
            begun_s = int(event["batch_id"][:11], 16) / 1000
            report.slowest_recovery_s = max(report.slowest_recovery_s, ended_s - begun_s)
        case "worker.error":
            report.errors.append(f"{machine.name}: {json.dumps(event)[:2000]}")
        case "library":
            report.noise.append(f"{machine.name}: {json.dumps(event)[:500]}")
        case _:
            pass
