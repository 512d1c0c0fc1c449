"""What a demo came to: figures from the request, the sandbox's books and the workers' metrics, and whether they agree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from esa_preload.chunks import REPEAT_WINDOW

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from esa_preload.model import Receipt, RequestStatus
    from esa_preload_worker.demo.scrape import Scraped
    from esa_preload_worker.sandbox.state import Job

THROTTLED = "TooManyRequests"
REJECTED_SHOWN = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Books:
    """
    What the sandbox itself counted.

    Attributes:
        plans_created: of all jobs.
        jobs_planned_again: jobs with more than one plan.
        urls_in_jobs: distinct URLs in the lists of all jobs.
        urls_refused: lines of these lists that the sandbox refused.
        urls_planned: once for every plan that covers a URL.
        urls_planned_again: distinct URLs among them that more than one plan covers.
        throttled_calls: of all ``calls``.
    """

    jobs_created: int
    plans_created: int
    jobs_planned_again: int
    urls_in_jobs: int
    urls_refused: int
    urls_planned: int
    urls_planned_again: int
    calls: int
    throttled_calls: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """
    How it went over time.

    Attributes:
        elapsed_s: from the first URL enqueued to the last one ended.
        peak_calls_per_s: over a second or more.
    """

    elapsed_s: float
    peak_calls_per_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """Everything that is known at the end."""

    receipt: Receipt
    status: RequestStatus
    books: Books
    scraped: Scraped
    course: Course
    batch_max_urls: int
    worker_exit_codes: Sequence[int | None]

    @property
    def batch_fill_percent(self) -> float:
        """How full the jobs' lists were, on average."""
        room = self.books.jobs_created * self.batch_max_urls
        return 100 * (self.books.urls_planned + self.books.urls_refused) / room if room else 0.0

    @property
    def calls_per_s(self) -> float:
        """Calls to the sandbox, throttled ones among them, over the whole time."""
        return self.books.calls / max(self.course.elapsed_s, 0.001)

    @property
    def urls_per_s(self) -> float:
        """URLs submitted over the whole time."""
        return self.status.submitted / max(self.course.elapsed_s, 0.001)

    @property
    def peak_calls_per_s(self) -> float:
        """The fastest second; a run too short to sample has its average."""
        return max(self.course.peak_calls_per_s, self.calls_per_s)


def read_books(jobs: Iterable[Job], stats: Mapping[str, Any]) -> Books:
    """Return the books of a sandbox: its jobs, deleted ones too, and the document of its control route ``stats``."""
    urls: set[tuple[int, str]] = set()
    plans = planned_again = planned = refused = 0
    for job in jobs:
        urls.update((job.site_id, line) for line in job.url_text.split("\n") if line)
        plans += job.plans_made
        planned_again += job.plans_made > 1
        planned += job.plans_made * job.url_submitted
        refused += len(job.refused)
    calls: Mapping[str, Mapping[str, int]] = stats["calls"]
    return Books(
        jobs_created=stats["jobs_created"],
        plans_created=plans,
        jobs_planned_again=planned_again,
        urls_in_jobs=len(urls),
        urls_refused=refused,
        urls_planned=planned,
        urls_planned_again=stats["urls_planned_again"],
        calls=sum(sum(codes.values()) for codes in calls.values()),
        throttled_calls=sum(codes.get(THROTTLED, 0) for codes in calls.values()),
    )


def find_problems(tally: Tally) -> list[str]:
    """Return a sentence for everything that does not add up; none when all is well."""
    receipt, status, books, scraped = tally.receipt, tally.status, tally.books, tally.scraped
    ended = status.submitted + status.refused + status.expired + status.cancelled + status.unknown
    # A URL that comes back so much later in one list is accepted, and submitted, anew.
    has_new_repeats = receipt.accepted > REPEAT_WINDOW
    pairs: list[tuple[str, int, str, int]] = [
        ("URLs that the queue accepted", status.accepted, "the receipt's", receipt.accepted),
        ("URLs that ended", ended, "those accepted", status.accepted),
        ("URLs that the sandbox has in planned jobs", books.urls_planned, "those submitted", status.submitted),
        ("URLs that the sandbox refused", books.urls_refused, "those refused", status.refused),
        ("URLs submitted, by the workers' metrics", scraped.urls_submitted, "those submitted", status.submitted),
        ("URLs refused, by the workers' metrics", scraped.urls_refused, "those refused", status.refused),
        ("jobs with more than one plan", books.jobs_planned_again, "none", 0),
    ]  # fmt: skip
    if not has_new_repeats:
        pairs += [
            ("URLs planned more than once", books.urls_planned_again, "none", 0),
            ("distinct URLs in the sandbox's jobs", books.urls_in_jobs, "those accepted", receipt.accepted),
        ]
    problems = [
        f"{what}: {number:,}, which should be {as_what} ({expected:,})"
        for what, number, as_what, expected in pairs
        if number != expected
    ]
    problems += [
        f"worker-{number} did not end by itself at SIGTERM: exit code {code}"
        for number, code in enumerate(tally.worker_exit_codes, start=1)
        if code != 0
    ]
    return problems


def rows(tally: Tally) -> list[tuple[str, str, str]]:
    """Return the table of the end: what, how much, and what that means."""
    receipt, status, books = tally.receipt, tally.status, tally.books
    numbers = [
        ("URLs accepted", receipt.accepted, "into the queue"),
        ("  merged", receipt.merged, "of these: pending for somebody already"),
        ("  duplicates", receipt.duplicates, "left out: repeats within the list"),
        ("  rejected", receipt.rejected_count, "left out: they break a rule"),
        ("URLs submitted", status.submitted, "in a job with a plan"),
        ("URLs refused", status.refused, "by ESA"),
        *_odd_ends(status),
        ("URLs in the sandbox's jobs", books.urls_in_jobs, "by its own books"),
        ("URLs planned more than once", books.urls_planned_again, "by its own books"),
        ("Jobs created", books.jobs_created, f"of up to {tally.batch_max_urls} URLs"),
        ("Plans created", books.plans_created, "one a job"),
    ]
    return [
        *((what, f"{number:,}", meaning) for what, number, meaning in numbers),
        ("Batch fill", f"{tally.batch_fill_percent:.1f} %", "of the URLs that a job may have"),
        ("Calls to ESA", f"{books.calls:,}", f"{tally.scraped.calls:,} by the workers' metrics"),
        ("  throttled", f"{books.throttled_calls:,}", _share(books.throttled_calls, books.calls)),
        ("Calls/s", f"{tally.calls_per_s:.1f}", f"{tally.peak_calls_per_s:.1f} at the peak"),
        ("URLs/s", f"{tally.urls_per_s:,.0f}", ""),
        ("Elapsed", f"{tally.course.elapsed_s:.1f} s", "first URL enqueued to last one submitted"),
    ]


def document(tally: Tally, *, metrics: Sequence[str], logs: Sequence[str]) -> dict[str, Any]:
    """
    Return the figures as ``--json`` prints them.

    Args:
        metrics: paths of the pages that were scraped.
        logs: paths of the log files.
    """
    receipt, status, books = tally.receipt, tally.status, tally.books
    problems = find_problems(tally)
    return {
        "adds_up": not problems,
        "problems": problems,
        "accepted": receipt.accepted,
        "merged": receipt.merged,
        "duplicates": receipt.duplicates,
        "rejected_count": receipt.rejected_count,
        "rejected": [{"url": r.url, "reason": r.reason} for r in receipt.rejected],
        "submitted": status.submitted,
        "refused": status.refused,
        "expired": status.expired,
        "cancelled": status.cancelled,
        "unknown": status.unknown,
        "metrics_submitted": tally.scraped.urls_submitted,
        "urls_in_jobs": books.urls_in_jobs,
        "urls_planned": books.urls_planned,
        "urls_planned_again": books.urls_planned_again,
        "jobs_created": books.jobs_created,
        "plans_created": books.plans_created,
        "batch_fill_percent": round(tally.batch_fill_percent, 2),
        "calls": books.calls,
        "metrics_calls": tally.scraped.calls,
        "throttled_calls": books.throttled_calls,
        "calls_per_s": round(tally.calls_per_s, 2),
        "peak_calls_per_s": round(tally.peak_calls_per_s, 2),
        "urls_per_s": round(tally.urls_per_s, 1),
        "elapsed_s": round(tally.course.elapsed_s, 3),
        "metrics": list(metrics),
        "logs": list(logs),
    }


def _odd_ends(status: RequestStatus) -> list[tuple[str, int, str]]:
    ends = [
        ("URLs expired", status.expired, ""),
        ("URLs cancelled", status.cancelled, ""),
        ("URLs unknown", status.unknown, "ESA did not tell their end"),
    ]
    return [end for end in ends if end[1]]


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} % of them" if whole else ""
