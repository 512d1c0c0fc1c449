"""What follows for a bulk batch where it is not as for any. Whatever goes wrong before there is a job: batches carry its URLs. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from esa_preload_worker import decisions
from esa_preload_worker.block_reasons import block_reason, is_quota
from esa_preload_worker.claims import BulkLimit, Settlement
from esa_preload_worker.esa import (
    BlockedError,
    JobCapError,
    NotSentError,
    SiteBusyError,
    SizeError,
    ThrottledError,
    UncertainError,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from esa_preload_worker.claims import Bulk, Exemption
    from esa_preload_worker.decisions import Timing
    from esa_preload_worker.esa import EsaError, Job, RefusedUrl
    from esa_preload_worker.oss_errors import OssError
    from esa_preload_worker.settings import Settings

LIMIT_MS = 3_600_000
"""A list did not get through: so long the site's URLs go in batches, or in smaller lists."""
PASSING_MS = 60_000
"""The same when what stood in the way is expected to pass."""

MISREAD = "list_misread"
"""ESA counted other URLs than the list has."""
HINT = "ESA may not be able to read the list: see ESA_PRELOAD_OSS_LINK, and the code"
MISREAD_HINT = "ESA did not read the list as it was written: batches carry its URLs, nothing is lost"

_AS_ANY = (ThrottledError, NotSentError, UncertainError, SiteBusyError, JobCapError)
"""What a bulk batch waits out, as it is: it stays ready, or is looked up."""


_OF_THE_LIST = ("permission", "unknown_site", "request")
"""Blocks that may be about the list alone. The next batch shows whether they are not."""


def most_urls(bulk: Bulk, settings: Settings) -> int:
    """Return as many URLs as the list may have."""
    return settings.oss_max_urls if bulk.most is None else min(bulk.most, settings.oss_max_urls)


def is_worth_it(lines: int, settings: Settings) -> bool:
    """Tell whether a list of so many *lines* is: what fits into a batch needs no bucket."""
    return lines >= min(settings.oss_min_urls, settings.batch_max_urls + 1)


def list_is_ready(lines: int) -> Settlement:
    """The list is in its place, and does not change any more: Create may be called when its turn comes."""
    return Settlement(what="defer", outcome="gathered", state="ready", lines=lines)


def put_back(code: str = "", *, hint: str = "", most: int = 0, ms: int = LIMIT_MS) -> Settlement:
    """
    There is no job, and will be none: all goes back to its lane.

    Args:
        code: of what stood in the way, so that the site has no lists, or none of more than *most* URLs, for so long.
    """
    back = Settlement(
        what="end", outcome="requeued", verdict="pending", state="returning", code=code, hint=hint
    )
    return replace(back, bulk_limit=BulkLimit(urls=most, ms=ms)) if code else back


def after_list_error(error: OssError) -> Settlement:
    """Decide what follows when a list cannot be stored, or no link to it be made."""
    return put_back(error.code, hint=error.hint, ms=PASSING_MS if error.is_passing else LIMIT_MS)


def after_create_error(bulk: Bulk, error: EsaError, *, otherwise: Settlement, timing: Timing) -> Settlement:
    """Decide what follows from a Create that did not succeed; *otherwise*: what does for any batch."""
    match error:
        case BlockedError() if is_quota(error.code):
            return replace(put_back(error.code, hint=error.hint), site_wait=decisions.quota_wait(timing))
        case BlockedError() if block_reason(error.code) not in _OF_THE_LIST:
            return otherwise
        case SizeError():
            return put_back(error.code, hint=error.hint, most=bulk.lines // 2)
        case _ if isinstance(error, _AS_ANY):
            return otherwise
        case _:
            return put_back(error.code, hint=error.hint or HINT)


def judge(
    bulk: Bulk, urls: Sequence[str], job: Job, refused: Sequence[RefusedUrl] | None, timing: Timing
) -> Settlement:
    """
    Decide how the URLs end: as those of any batch, when ESA has read the list that we wrote; else they go back.

    Args:
        urls: of the packs that have not ended, each once; none need be given when the list of refused ones is not read.
    """
    if job.url_count != bulk.lines:
        most = job.url_count if job.url_count < bulk.lines else 0
        return put_back(MISREAD, hint=MISREAD_HINT, most=most)
    judged = decisions.judge_job(urls, job, refused, timing, exempted=bulk.exempted)
    by_url = {urls[e.index]: e for e in judged.exemptions}
    if judged.verdict == "pending":
        judged = replace(judged, state="returning", bulk_limit=BulkLimit(urls=0, ms=LIMIT_MS))
    return replace(judged, exemptions=(), by_url=by_url)


def exemptions_of_pack(urls: Sequence[str], by_url: Mapping[str, Exemption]) -> tuple[Exemption, ...]:
    """Return the exemptions among the *urls* of a pack."""
    return tuple(replace(by_url[url], index=i) for i, url in enumerate(urls) if url in by_url)
