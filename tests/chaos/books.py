"""Compare what was accepted with what the sandbox planned: pure, so that it can be shown to find what is wrong."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from esa_preload import RequestStatus

ENDS = ("submitted", "refused", "expired", "cancelled", "unknown")


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """A request whose producer was told that all of its URLs are in, and how the queue says that they ended."""

    request_id: str
    site_id: int
    urls: Sequence[str]
    accepted: int
    status: RequestStatus


@dataclass(slots=True, kw_only=True)
class Verdict:
    """
    What the books say.

    Attributes:
        lost: URLs that are neither in a planned job nor ended otherwise.
        planned_twice: URLs for which two plans were made.
        odd: sentences about counts that do not add up; empty when all do.
        jobs: ids of the jobs concerned.
    """

    lost: list[str] = field(default_factory=list[str])
    planned_twice: list[str] = field(default_factory=list[str])
    odd: list[str] = field(default_factory=list[str])
    jobs: list[str] = field(default_factory=list[str])

    @property
    def is_clean(self) -> bool:
        """Whether nothing is lost, nothing is planned twice and every count adds up."""
        return not (self.lost or self.planned_twice or self.odd)


def audit(
    accepted: Iterable[Accepted],
    *,
    jobs: Iterable[Mapping[str, Any]],
    stats: Mapping[str, Any],
    ended_otherwise: Mapping[str, str],
    sites: Mapping[int, tuple[int, int]],
) -> Verdict:
    """
    Judge a run that has come to its end.

    Args:
        jobs: as the sandbox's control route returns them.
        stats: as the sandbox's control route returns them.
        ended_otherwise: URL to ``refused``, ``unknown`` or ``expired``, for those that the queue names: all but some expired.
        sites: site to the URLs submitted and refused, by the queue's own totals.
    """
    verdict = Verdict()
    planned = _planned(jobs, verdict)
    if stats["jobs_forgotten"]:
        verdict.odd.append(f"the sandbox forgot {stats['jobs_forgotten']} jobs: its books are incomplete")
    totals: Counter[tuple[int, str]] = Counter()
    requests = list(accepted)
    for request in requests:
        _audit_request(request, planned, ended_otherwise, verdict)
        for end in ("submitted", "refused"):
            totals[request.site_id, end] += int(getattr(request.status, end))
    for site_id, known in sites.items():
        summed = (totals[site_id, "submitted"], totals[site_id, "refused"])
        if summed != known:
            verdict.odd.append(
                f"site {site_id}: its requests sum to {summed} submitted and refused, not {known}"
            )
    strangers = planned.keys() - {url for request in requests for url in request.urls}
    if strangers:
        verdict.odd.append(f"{len(strangers)} planned URLs are nobody's, such as {min(strangers)}")
    return verdict


def _planned(jobs: Iterable[Mapping[str, Any]], verdict: Verdict) -> Counter[str]:
    """Count the plans of each URL; a planned job that was deleted before its work was done counts for nothing."""
    planned: Counter[str] = Counter()
    for job in jobs:
        if not job["plans_made"] or job["is_foreign"]:
            continue
        refused = {refusal["url"] for refusal in job["refused"]}
        urls = [url for url in job["urls"] if url not in refused]
        if job["plans_made"] > 1:
            verdict.jobs.append(job["id"])
        if job["is_deleted"]:
            verdict.odd.append(f"job {job['id']} ({job['name']}) was deleted with its plan")
            verdict.jobs.append(job["id"])
            continue
        for url in urls:
            planned[url] += job["plans_made"]
    verdict.planned_twice.extend(sorted(url for url, plans in planned.items() if plans > 1))
    return planned


def _audit_request(
    request: Accepted, planned: Mapping[str, int], ended_otherwise: Mapping[str, str], verdict: Verdict
) -> None:
    status = request.status
    counts = {end: int(getattr(status, end)) for end in ENDS}
    if status.state != "done" or status.pending or status.in_flight:
        verdict.odd.append(f"{request.request_id} is not done: {status}")
    if status.accepted != request.accepted or request.accepted != len(request.urls):
        verdict.odd.append(
            f"{request.request_id}: {len(request.urls)} URLs, {request.accepted} accepted, {status.accepted} on record"
        )
    if sum(counts.values()) != status.accepted:
        verdict.odd.append(f"{request.request_id}: {counts} do not add up to {status.accepted}")
    otherwise = Counter(ended_otherwise.get(url, "") for url in request.urls)
    for end in ("refused", "unknown"):
        if otherwise[end] != counts[end]:
            verdict.odd.append(f"{request.request_id}: {counts[end]} {end}, but {otherwise[end]} by name")
    if otherwise["expired"] > counts["expired"]:
        verdict.odd.append(
            f"{request.request_id}: {counts['expired']} expired, but {otherwise['expired']} by name"
        )
    for end in ("refused", "expired"):
        wrong = [url for url in request.urls if planned.get(url) and ended_otherwise.get(url) == end]
        if wrong:
            verdict.odd.append(
                f"{request.request_id}: {len(wrong)} {end} URLs were planned, such as {wrong[0]}"
            )
    missing = [url for url in request.urls if not planned.get(url) and url not in ended_otherwise]
    given_up = counts["expired"] + counts["cancelled"] - otherwise["expired"]
    excused = given_up + status.pending + status.in_flight
    if len(missing) > excused:
        # Which of them were cancelled, or are still to come, is not known by name.
        verdict.lost.extend(missing[excused:])
    elif len(missing) < given_up:
        verdict.odd.append(
            f"{request.request_id}: {given_up} given up, but only {len(missing)} were not planned"
        )
