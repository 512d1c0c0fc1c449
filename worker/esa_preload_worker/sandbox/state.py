"""The simulated account: sites, jobs and plans. No input or output; time comes from the clock it is given."""

from __future__ import annotations

import math
from collections import Counter, deque
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING

from esa_preload_worker.sandbox import replies
from esa_preload_worker.sandbox.plans import Order, Plan
from esa_preload_worker.sandbox.urls import Refusal, accepted_urls, examine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from esa_preload_worker.sandbox.config import ForeignJob, SandboxConfig


@dataclass(slots=True, kw_only=True)
class Job:
    """
    One preload job.

    Attributes:
        made_s: when it was made, by the clock that no offset moves.
        url_text: the list as it was received; empty when it was forgotten to save memory.
        plans: those that were not deleted, by id.
        plans_made: every plan there ever was.
        tasks_of_deleted_plans: URLs that plans deleted since had handed to the prefetch system.
        is_foreign: somebody else's, seeded.
    """

    job_id: str
    site_id: int
    name: str
    insert_way: str
    created_s: float
    url_text: str
    url_count: int
    domains: tuple[str, ...]
    made_s: float = -math.inf
    refused: tuple[Refusal, ...] = ()
    plans: dict[str, Plan] = field(default_factory=dict[str, Plan])
    plans_made: int = 0
    tasks_of_deleted_plans: int = 0
    is_foreign: bool = False
    is_deleted: bool = False
    is_forgotten: bool = False

    @property
    def url_submitted(self) -> int:
        """URLs of the list that were accepted."""
        return self.url_count - len(self.refused)

    @property
    def accepted(self) -> list[str]:
        """The accepted URLs in order; none when the text was forgotten."""
        if not self.url_count or self.is_forgotten:
            return []
        return accepted_urls(self.url_text, self.refused)

    def tasks(self, now_s: float) -> int:
        """Return how many URLs its plans handed to the prefetch system by *now_s*."""
        by_plans = sum(plan.tasks(now_s) for plan in self.plans.values())
        return min(self.url_submitted, self.tasks_of_deleted_plans + by_plans)


class Account:
    """Everything the simulated account holds. Calls are atomic: nothing here awaits."""

    def __init__(self, config: SandboxConfig, clock: Callable[[], float]) -> None:
        self.config = config
        self._clock = clock
        self._random = Random(config.seed)  # noqa: S311 - ids of a simulation, reproducible
        self._ids_made = 0
        self._sites: dict[int, dict[str, Job]] = {}
        self._jobs: dict[str, Job] = {}
        self._plans: dict[str, Plan] = {}
        self._deleted: deque[str] = deque()
        self._texts: deque[Job] = deque()
        self._text_chars = 0
        self._quota_used: Counter[int] = Counter()
        self.jobs_created = 0
        self.jobs_deleted = 0
        self.jobs_forgotten = 0
        for foreign in config.foreign_jobs:
            self.add_foreign_job(foreign)

    def now_s(self) -> float:
        """Return the account's time, UNIX seconds."""
        return self._clock() + self.config.clock_offset_s

    def change(self, config: SandboxConfig) -> None:
        """Follow *config* from now on. A new quota starts a new period; jobs over a new cap stay."""
        if config.url_quota_per_site != self.config.url_quota_per_site:
            self._quota_used.clear()
        self.config = config

    # -- jobs ---------------------------------------------------------------------------------------------------------

    def create_job(self, *, site_id: int, name: str, insert_way: str, url_text: str) -> Job:
        """
        Add a job, whatever the state of its URLs: a list of which all were refused makes a job too.

        Args:
            url_text: one URL a line; empty for a list that could not be read, which makes a job of 0 URLs.

        Raises:
            ApiError: no such site, or it is full.
        """
        self.require_site(site_id)
        site = self._sites.setdefault(site_id, {})
        if self.config.max_jobs_per_site is not None and len(site) >= self.config.max_jobs_per_site:
            raise replies.site_full()
        job = self._new_job(site_id, name, insert_way, url_text)
        self._quota_used[site_id] += job.url_submitted
        self.jobs_created += 1
        return job

    def add_foreign_job(self, foreign: ForeignJob) -> Job:
        """Add a job that somebody else made; neither cap nor quota nor ownership is asked."""
        created_s = self.now_s() - foreign.age_s
        job = Job(
            job_id=self._new_id(),
            site_id=foreign.site_id,
            name=foreign.name,
            insert_way="textBox",
            created_s=created_s,
            url_text="\n".join(foreign.urls),
            url_count=len(foreign.urls),
            domains=(),
            is_foreign=True,
        )
        self._add(job)
        if foreign.is_planned:
            order = Order(
                start=None,
                end=None,
                start_s=created_s,
                end_s=None,
                interval_s=30,
                slice_len=job.url_count or 1,
            )
            self._add_plan(job, order, now_s=created_s)
        return job

    def job(self, job_id: str) -> Job:
        """Return a job that was not deleted, or raise ``InvalidJob.NotFound``."""
        job = self._jobs.get(job_id)
        if job is None or job.is_deleted:
            raise replies.job_not_found()
        return job

    def listed_job(self, job_id: str) -> Job:
        """Return a job as :meth:`job` does, but for one that is too new to be shown."""
        job = self.job(job_id)
        if not self._is_listed(job.made_s):
            raise replies.job_not_found()
        return job

    def known_job(self, job_id: str) -> Job | None:
        """Return a job that was made, deleted or not, or ``None``."""
        return self._jobs.get(job_id)

    def jobs_of_site(self, site_id: int, *, start_ms: int | None, end_ms: int | None) -> list[Job]:
        """Return a site's jobs that were created in the window, ends included, and are shown yet, in the configured order."""
        self.require_site(site_id)
        jobs = [
            job
            for job in self._sites.get(site_id, {}).values()
            if self._is_listed(job.made_s)
            and (start_ms is None or job.created_s * 1000 >= start_ms)
            and (end_ms is None or job.created_s * 1000 <= end_ms)
        ]
        jobs.sort(key=lambda job: job.created_s)
        if self.config.list_order == "newest":
            jobs.reverse()
        return jobs

    def delete_job(self, job_id: str) -> None:
        """Delete a job and its plans."""
        job = self.job(job_id)
        for plan_id in list(job.plans):
            self.delete_plan(plan_id)
        job.is_deleted = True
        self.jobs_deleted += 1
        del self._sites[job.site_id][job_id]
        self._deleted.append(job_id)
        while len(self._deleted) > self.config.kept_deleted_jobs:
            self._forget(self._jobs.pop(self._deleted.popleft()))

    # -- plans --------------------------------------------------------------------------------------------------------

    def create_plans(
        self, job_id: str, orders: Sequence[Order], *, most: int | None = None
    ) -> tuple[list[Plan], list[Order]]:
        """Add plans to a job, *most* of them; return those made, and the orders beyond what it may have."""
        job = self.job(job_id)
        room = len(orders) if most is None else min(most, len(orders))
        if self.config.max_plans_per_job is not None:
            room = max(0, min(room, self.config.max_plans_per_job - len(job.plans)))
        now_s = self.now_s()
        return [self._add_plan(job, order, now_s=now_s) for order in orders[:room]], list(orders[room:])

    def plans_of_job(self, job_id: str) -> list[Plan]:
        """Return the plans of a job that are shown yet."""
        return [plan for plan in self.job(job_id).plans.values() if self._is_listed(plan.made_s)]

    def plan(self, plan_id: str) -> Plan:
        """Return a plan, or raise ``InvalidExecution.NotFound``."""
        plan = self._plans.get(plan_id)
        if plan is None:
            raise replies.plan_not_found()
        return plan

    def delete_plan(self, plan_id: str) -> None:
        """Delete a plan; what it had done stays done."""
        plan = self.plan(plan_id)
        job = self._jobs[plan.job_id]
        job.tasks_of_deleted_plans += plan.tasks(self.now_s())
        del job.plans[plan_id], self._plans[plan_id]

    # -- sites --------------------------------------------------------------------------------------------------------

    def require_site(self, site_id: int) -> None:
        """Raise ``SiteNotFound`` for a site that the account does not have."""
        if self.config.sites and site_id not in self.config.sites:
            raise replies.site_not_found()

    def sites(self) -> Mapping[int, Sequence[str]]:
        """Return the sites with their domains; when every site exists, those that hold or held a job."""
        return self.config.sites or dict.fromkeys(self._sites, ())

    def quota_left(self, site_id: int) -> int | None:
        """Return how many URLs the site may still submit in this period; ``None``: any number."""
        if self.config.url_quota_per_site is None:
            return None
        return max(0, self.config.url_quota_per_site - self._quota_used[site_id])

    # -- for the control routes ---------------------------------------------------------------------------------------

    def all_jobs(self) -> Iterator[Job]:
        """Yield every job in order of creation, deleted ones included."""
        return iter(self._jobs.values())

    def planned_urls(self) -> Counter[tuple[int, str]]:
        """Count, by site and URL, the plans that were ever made for it by jobs that are not foreign."""
        planned: Counter[tuple[int, str]] = Counter()
        for job in self._jobs.values():
            if not job.is_foreign:
                for _ in range(job.plans_made):
                    planned.update((job.site_id, url) for url in job.accepted)
        return planned

    # -- inside -------------------------------------------------------------------------------------------------------

    def _new_job(self, site_id: int, name: str, insert_way: str, url_text: str) -> Job:
        if url_text:
            examined = examine(
                url_text,
                owned=[domain.lower() for domain in self.config.sites.get(site_id, ())],
                quota_left=self.quota_left(site_id),
                is_all_or_nothing=self.config.quota_is_all_or_nothing,
            )
            url_count, domains, refused = examined.url_count, examined.domains, examined.refused
        else:
            url_count, domains, refused = 0, (), ()
        job = Job(
            job_id=self._new_id(),
            site_id=site_id,
            name=name,
            insert_way=insert_way,
            created_s=self.now_s(),
            made_s=self._clock(),
            url_text=url_text,
            url_count=url_count,
            domains=domains,
            refused=refused,
        )
        self._add(job)
        return job

    def _add(self, job: Job) -> None:
        self._sites.setdefault(job.site_id, {})[job.job_id] = job
        self._jobs[job.job_id] = job
        self._texts.append(job)
        self._text_chars += len(job.url_text)
        while self._texts and (self._texts[0].is_forgotten or self._text_chars > self.config.kept_url_bytes):
            self._forget(self._texts.popleft())

    def _forget(self, job: Job) -> None:
        self._text_chars -= len(job.url_text)
        self.jobs_forgotten += not job.is_forgotten
        job.url_text = ""
        job.is_forgotten = True

    def _add_plan(self, job: Job, order: Order, *, now_s: float) -> Plan:
        plan = Plan(
            plan_id=self._new_id(),
            job_id=job.job_id,
            order=order,
            url_count=job.url_submitted,
            now_s=now_s,
            made_s=self._clock(),
        )
        job.plans[plan.plan_id] = self._plans[plan.plan_id] = plan
        job.plans_made += 1
        return plan

    def _is_listed(self, made_s: float) -> bool:
        return made_s <= self._clock() - self.config.list_lag_s

    def _new_id(self) -> str:
        self._ids_made += 1
        seconds = int(self.now_s()) & 0xFFFFFFFF
        return f"{seconds:08x}{self._random.getrandbits(32):08x}{self._ids_made & 0xFFFFFFFF:08x}"
