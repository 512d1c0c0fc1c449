"""``make soak``: one long run; exit 1 when a URL is lost or planned twice, or a count does not add up."""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
from pathlib import Path

from chaos.driver import Run
from chaos.options import Options


def main() -> int:
    """Run as told, print the figures, and on failure the seed and the history."""
    parser = argparse.ArgumentParser(prog="python -m chaos", description=__doc__)
    parser.add_argument("--urls", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument(
        "--seed", type=int, default=None, help="of all that is drawn; a random one if not given"
    )
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--fault-rate", type=float, default=0.2, help="share of the calls that go wrong")
    parser.add_argument("--drain", type=float, default=300, help="longest seconds until nothing is left")
    parser.add_argument("--producers", type=int, default=2)
    parser.add_argument(
        "--kill-valkey",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="kill Valkey too, with appendfsync always; else it is only restarted and frozen, with everysec",
    )
    parser.add_argument(
        "--bulk", action="store_true", help="give the workers a bucket: large backlogs go as lists"
    )
    parser.add_argument("--keep", type=Path, help="an empty directory for logs; a temporary one if not given")
    given = parser.parse_args()
    options = Options(
        urls=given.urls,
        seconds=given.seconds,
        seed=random.randrange(1 << 32) if given.seed is None else given.seed,
        workers=given.workers,
        producers=given.producers,
        kill_valkey=given.kill_valkey,
        fault_rate=given.fault_rate,
        bulk=given.bulk,
        drain_s=given.drain,
    )
    print(f"seed {options.seed}", flush=True)
    if given.keep:
        given.keep.mkdir(parents=True, exist_ok=True)
        return _run(options, given.keep)
    with tempfile.TemporaryDirectory(prefix="esap-chaos-") as directory:
        return _run(options, Path(directory))


def _run(options: Options, directory: Path) -> int:
    run = Run(options, directory)
    try:
        report = asyncio.run(run.run())
    except BaseException:
        print(run.report.full())
        raise
    print("\n".join(report.lines()) if report.is_clean else report.full())
    return 0 if report.is_clean else 1


if __name__ == "__main__":
    sys.exit(main())
