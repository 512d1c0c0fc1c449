"""The sandbox as a process that may be killed: what it committed is in a journal before it answers, and read at the next start."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from esa_preload_worker.demo.signals import until_signal
from esa_preload_worker.sandbox import Sandbox, SandboxConfig
from esa_preload_worker.sandbox.bucket import Objects, StoredObject
from esa_preload_worker.sandbox.control import changes_of
from esa_preload_worker.sandbox.plans import Order, Plan
from esa_preload_worker.sandbox.state import Account, Job
from esa_preload_worker.sandbox.urls import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ANNOUNCED = "listens at "
_BIND_S = 20.0
"""Another process may have been given the port of one that was killed, for a moment."""


class KeptObjects(Objects):
    """Objects of UTF-8 that outlive their process, as those of the real OSS do: a file each."""

    def __init__(self, config: SandboxConfig, now_s: Callable[[], float], directory: Path) -> None:
        super().__init__(config, now_s)
        self._directory = directory
        directory.mkdir(exist_ok=True)
        for path in directory.glob("*.object"):
            facts: dict[str, Any] = json.loads(path.read_bytes())
            bucket, key, body = facts.pop("bucket"), facts.pop("key"), facts.pop("body").encode()
            super().store(bucket, key, StoredObject(body=body, **facts))

    def store(self, bucket: str, key: str, stored: StoredObject) -> None:
        """Keep an object, on disk too."""
        path = self._path(bucket, key)
        facts = asdict(stored) | {"bucket": bucket, "key": key, "body": stored.body.decode()}
        path.with_suffix(".new").write_text(json.dumps(facts))
        path.with_suffix(".new").rename(path)
        super().store(bucket, key, stored)

    def drop(self, bucket: str, key: str) -> None:
        """Forget an object, on disk too."""
        self._path(bucket, key).unlink(missing_ok=True)
        super().drop(bucket, key)

    def _path(self, bucket: str, key: str) -> Path:
        return self._directory / f"{sha256(f'{bucket}/{key}'.encode()).hexdigest()}.object"


class KeptAccount(Account):
    """An account whose jobs, plans and deleted jobs outlive its process; what else is deleted does not."""

    def __init__(self, config: SandboxConfig, clock: Callable[[], float], journal: Path) -> None:
        super().__init__(config, clock)
        self._journal = journal
        if journal.exists():
            self._read()

    def create_job(self, *, site_id: int, name: str, insert_way: str, url_text: str) -> Job:
        """Add a job as the account does, and keep it."""
        job = super().create_job(site_id=site_id, name=name, insert_way=insert_way, url_text=url_text)
        self._keep("job", asdict(job))
        return job

    def create_plans(
        self, job_id: str, orders: Sequence[Order], *, most: int | None = None
    ) -> tuple[list[Plan], list[Order]]:
        """Add plans as the account does, and keep them."""
        made, beyond = super().create_plans(job_id, orders, most=most)
        for plan in made:
            facts = {"plan_id": plan.plan_id, "job_id": job_id, "now_s": self.now_s(), "made_s": plan.made_s}
            self._keep("plan", facts | {"order": asdict(plan.order)})
        return made, beyond

    def delete_job(self, job_id: str) -> None:
        """Delete a job as the account does, and keep that it is gone."""
        super().delete_job(job_id)
        self._keep("deleted", {"job_id": job_id})

    def _keep(self, kind: str, facts: dict[str, Any]) -> None:
        with self._journal.open("ab", buffering=0) as file:
            file.write(json.dumps([kind, facts]).encode() + b"\n")

    def _read(self) -> None:
        raw = self._journal.read_bytes()
        whole, _, torn = raw.rpartition(b"\n")
        if torn:  # it was killed while it wrote: nobody was answered
            self._journal.write_bytes(whole + b"\n" if whole else b"")
        for line in whole.splitlines():
            kind, facts = cast("tuple[str, dict[str, Any]]", json.loads(line))
            self._ids_made += 1
            match kind:
                case "job":
                    self._restore_job(facts)
                case "plan":
                    self._restore_plan(facts)
                case _:
                    super().delete_job(facts["job_id"])

    def _restore_job(self, facts: dict[str, Any]) -> None:
        facts["refused"] = tuple(Refusal(**refusal) for refusal in facts["refused"])
        facts["domains"] = tuple(facts["domains"])
        job = Job(**facts)
        self._add(job)
        self.jobs_created += 1
        self._quota_used[job.site_id] += job.url_submitted

    def _restore_plan(self, facts: dict[str, Any]) -> None:
        job = self._jobs[facts["job_id"]]
        facts["order"] = Order(**facts["order"])
        plan = Plan(url_count=job.url_submitted, **facts)
        job.plans[plan.plan_id] = self._plans[plan.plan_id] = plan
        job.plans_made += 1


async def _serve(config: SandboxConfig, port: int, journal: Path) -> int:
    until = time.monotonic() + _BIND_S
    while True:
        sandbox = Sandbox(config, port=port)
        sandbox.account = account = KeptAccount(config, time.time, journal)
        sandbox.objects = KeptObjects(config, account.now_s, journal.with_suffix(".objects"))
        try:
            async with sandbox:
                print(f"{ANNOUNCED}{sandbox.url}", flush=True)
                await asyncio.Event().wait()
        except OSError:
            if time.monotonic() > until:
                raise
            await asyncio.sleep(0.05)


def main() -> int:
    """Serve until a signal."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--config", type=Path, required=True, help="as PUT /_sandbox/config takes it")
    parser.add_argument("--journal", type=Path, required=True)
    given = parser.parse_args()
    config = SandboxConfig(**changes_of(given.config.read_bytes()), seed=given.seed)
    with asyncio.Runner() as runner:
        runner.run(until_signal(_serve(config, given.port, given.journal)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
