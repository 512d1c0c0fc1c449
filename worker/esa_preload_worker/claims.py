"""What a worker claims from the ledger, and how a claim ends: values, apart from any I/O."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, cast

from esa_preload.model import LIST_LANE
from esa_preload.scripts import Reply, as_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

BatchState = Literal["gathering", "sent", "uncertain", "created", "returning"]


Verdict = Literal["submitted", "refused", "unknown", "expired", "pending"]


CallOutcome = Literal["ok", "throttled", "answered", "not_sent", "unknown"]
"""``ok``: ESA dealt with it; ``answered``: otherwise, which says nothing about the rate; ``not_sent``: the endpoint could not be
reached; ``unknown``: no answer, or the call was not made after all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bulk:
    """
    What a bulk batch has of its own. Its URLs are in packs.

    Attributes:
        lines: of its list, 0 until that is ready.
        exempted: exceptions among the URLs of packs that have ended.
        most: URLs that it may have by what the site has learnt; ``None``: nothing is known.
    """

    lines: int = 0
    exempted: int = 0
    most: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """
    A claimed batch, as it stands in the ledger.

    Attributes:
        token: proves this claim; another claim of the same batch has another.
        state: ``sent``: Create may be called now; ``uncertain``: look the name up first; ``created``: a plan is missing. Of a bulk also
            ``gathering``: its list is not complete; ``returning``: there will be no job.
        lane: the key of its plan.
        attempt: claims so far, this one included.
        now_ms, claimed at this moment of the ledger's clock; ``first_sent_ms``, ``sent_ms``: of its first and last Create.
        oldest_ms: when its oldest URL was accepted.
        job: what Create answered, as it was stored; empty before.
        is_part: whether it is a part of a split batch.
        bulk: of a batch whose URLs are in packs, and not here.
        traces: trace contexts of requests that wait for it, where they are wanted.
    """

    batch_id: str
    token: str
    state: BatchState
    site_id: int
    lane: str
    attempt: int
    now_ms: int
    first_sent_ms: int
    sent_ms: int
    oldest_ms: int
    is_part: bool
    job: Mapping[str, Any]
    urls: tuple[str, ...]
    bulk: Bulk | None = None
    traces: tuple[str, ...] = ()

    @property
    def url_count(self) -> int:
        """How many URLs ESA is given."""
        return self.bulk.lines if self.bulk else len(self.urls)

    @property
    def is_list(self) -> bool:
        """Whether its one URL is that of a list in OSS, which ESA reads itself."""
        return self.lane.startswith(LIST_LANE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """Nothing to do for ``ms``; ``stay`` tells whether to ask again then or to leave (the queue wakes somebody)."""

    ms: int
    stay: bool
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Exemption:
    """A URL of a batch (``index`` from 0) that ends otherwise than the rest."""

    index: int
    verdict: Verdict
    reason: str = ""
    code: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What became of a call of ``operation`` whose token was spent at ``sent_ms``; ``hint_ms``: for how long ESA throttles, if it said so."""

    operation: str
    sent_ms: int
    outcome: CallOutcome
    hint_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """Whether a call may be made: now, its token being spent at ``sent_ms``, or to be asked for again in ``wait_ms``."""

    wait_ms: int = 0
    sent_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteWait:
    """The site waits for ``ms``; ``grows``: twice as long each time in a row, up to a minute, jittered."""

    reason: str
    ms: int
    grows: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A person must act: nothing is sent for the site, or the account, but a probe every ``probe_ms``."""

    scope: Literal["site", "account"]
    code: str
    hint: str = ""
    probe_ms: int = 60_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """A job that has its plan, to be followed: ``done_ms`` is when its last slice should be over."""

    job_id: str
    plan_id: str
    starts_ms: int
    done_ms: int

    def facts(self) -> dict[str, Any]:
        """Return what the script reads."""
        return {"job": self.job_id, "plan": self.plan_id, "starts": self.starts_ms, "done": self.done_ms}


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkLimit:
    """For ``ms`` a bulk batch of the site has ``urls`` at most: 0 for none at all."""

    urls: int
    ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """
    How a claim ends, decided apart from any I/O.

    Attributes:
        what: ``end`` each URL by ``verdict`` but for the ``exemptions``; ``defer`` the batch for ``delay_ms`` in ``state``;
            ``split`` it in halves; ``hold`` a single refused URL of a split batch until its other parts are judged.
        outcome: the label of this end in metrics and logs.
        lone: the block is for a URL that ESA refused by itself: should that URL have been refused so before, and requests have got
            through since, it ends as refused, for ``reason``, and nothing is blocked.
        calls: what became of calls that nobody reported yet; ``planned``: a plan was made among them.
        over_quota: the quota refused all of the batch; the site's next ones are smaller.
        watch: the batch's job, when it has its plan; ``kept``: jobs that will never have one and could not be deleted.
        by_url: of a bulk, how the URLs end that end otherwise than the rest; ``lines`` of its list, once that is ready.
        bulk_limit: what the site learns of bulk batches.
        list_ends: how many URLs of a list in OSS ended how; ``list_failed``: url, reason and code of those known by name.
    """

    what: Literal["end", "defer", "split", "hold"]
    outcome: str
    verdict: Verdict = "pending"
    reason: str = ""
    code: str = ""
    hint: str = ""
    exemptions: tuple[Exemption, ...] = ()
    by_url: Mapping[str, Exemption] = field(default_factory=dict[str, Exemption])
    lines: int = 0
    bulk_limit: BulkLimit | None = None
    list_ends: Mapping[str, int] | None = None
    list_failed: tuple[tuple[str, str, str], ...] = ()
    state: Literal["ready", "uncertain", "created", "gathering", "returning"] = "ready"
    delay_ms: int = 0
    calls: tuple[Call, ...] = ()
    planned: bool = False
    watch: Watch | None = None
    kept: tuple[str, ...] = ()
    site_wait: SiteWait | None = None
    site_ok: bool = False
    block: Block | None = None
    lone: bool = False
    over_quota: bool = False
    size_limit: int | None = None

    def facts(self, *, children: Sequence[str], roll: float) -> str:
        """Return what the script reads, as JSON; ``roll`` (0 to 1) is its dice."""
        facts: dict[str, Any] = {
            "verdict": self.verdict,
            "reason": self.reason,
            "code": self.code,
            "hint": self.hint,
            "state": self.state,
            "delay_ms": self.delay_ms,
            "roll": roll,
        }
        if self.exemptions:
            facts["exceptions"] = [[e.index + 1, e.verdict, e.reason, e.code] for e in self.exemptions]
        if self.list_ends is not None:
            facts["ends"] = dict(self.list_ends)
            facts["failed"] = [list(failed) for failed in self.list_failed]
        if self.what == "split":
            facts["children"] = list(children)
        if self.calls:
            facts["calls"] = [
                [call.operation, call.sent_ms, call.outcome, call.hint_ms] for call in self.calls
            ]
        if self.watch:
            facts["watch"] = self.watch.facts()
        if self.kept:
            facts["kept"] = list(self.kept)
        if self.site_wait:
            wait = self.site_wait
            facts["site_wait"] = {"reason": wait.reason, "ms": wait.ms, "grows": wait.grows}
        if self.block:
            block = self.block
            facts["block"] = {
                "scope": block.scope,
                "code": block.code,
                "hint": block.hint,
                "probe_ms": block.probe_ms,
            }
        if self.bulk_limit:
            facts["bulk_limit"] = {"urls": self.bulk_limit.urls, "ms": self.bulk_limit.ms}
        facts |= {name: value for name in ("size_limit", "lines") if (value := getattr(self, name))}
        for name in ("planned", "site_ok", "lone", "over_quota"):
            if getattr(self, name):
                facts[name] = True
        return json.dumps(facts, separators=(",", ":"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """
    What a settlement did.

    Attributes:
        lost: the batch was another's by then: nothing was done.
        resumed: the site had been blocked and is not any more; ``account_resumed``: the account.
        began: the wait or block that was asked for is new; false when it only goes on.
        waits_until_ms: of the site or of everybody, 0 when nobody waits.
        counts: URLs by how they ended; ``pending`` for those put back. A split part that was judged late counts here too.
    """

    lost: bool = False
    resumed: bool = False
    account_resumed: bool = False
    began: bool = False
    waits_until_ms: int = 0
    counts: Mapping[str, int] = field(default_factory=dict[str, int])


JobState = Literal["waiting", "warming", "finished", "failed", "unplanned"]
"""``waiting``: its plan starts later; ``warming``: it runs; ``unplanned``: it will never have one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchedJob:
    """
    A job of ours at ESA whose plans are to be listed now, as it stands in the ledger.

    Attributes:
        token: proves this visit; another visit of the same job has another.
        batch_id: of the batch that became the job.
        urls: submitted with it.
        now_ms: the turn of the call that lists its plans was spent at this moment of the ledger's clock.
        done_ms: when its plan should be over; ``ended_ms``: since when all its plans are known to be, or 0.
        others: plans that somebody else had made for it by the last visit.
        looks: visits so far.
        is_bulk: its URLs were read from a list of ours, which goes with it.
    """

    job_id: str
    token: str
    site_id: int
    batch_id: str
    plan_id: str
    urls: int
    state: JobState
    starts_ms: int
    done_ms: int
    ended_ms: int
    looks: int
    now_ms: int
    others: int = 0
    is_bulk: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """
    What one sweep repaired; ``mine`` is false when another worker has the turn. ``expired``: site → URLs.

    ``lists_sites``: it is this worker's turn to list the account's sites.
    """

    mine: bool
    sealed_requests: int = 0
    armed: int = 0
    lists_sites: bool = False
    expired: Mapping[int, int] = field(default_factory=dict[int, int])


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationRate:
    """An operation's pace now: calls/s allowed, and the seconds left of its cooldown."""

    rate: float
    cooldown_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LostClaim:
    """The batch is another's by now; ``job_id`` is the job on record, or empty; ``is_alive``: it has not ended."""

    job_id: str = ""
    is_alive: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathered:
    """A new pack of a bulk batch; ``has_more``: its lane holds more. Without URLs there is no pack."""

    has_more: bool
    urls: tuple[str, ...]


def read_taken(reply: Reply, token: str) -> Batch | Wait | None:
    kind = as_text(reply[0])
    if kind == "idle":
        return None
    if kind == "wait":
        return Wait(ms=int(reply[1]), stay=int(reply[2]) == 1, reason=as_text(reply[3]))
    now, batch_id, state, site, lane, attempt, first_sent, sent, oldest, root, job = map(as_text, reply[1:12])
    is_bulk, lines, exempted, most, traces = map(as_text, reply[12:17])
    return Batch(
        batch_id=batch_id,
        token=token,
        state=cast("BatchState", state),
        site_id=int(site),
        lane=lane,
        attempt=int(attempt),
        now_ms=int(float(now)),
        first_sent_ms=int(float(first_sent)),
        sent_ms=int(float(sent)),
        oldest_ms=int(float(oldest)),
        is_part=root != "",
        job=cast("Mapping[str, Any]", json.loads(job)) if job else {},
        urls=tuple(map(as_text, reply[17:])),
        bulk=Bulk(lines=int(lines), exempted=int(exempted), most=int(most) if most else None)
        if is_bulk == "1"
        else None,
        traces=tuple(traces.splitlines()),
    )


def read_settled(reply: Reply) -> Settled:
    if as_text(reply[0]) == "lost":
        return Settled(lost=True)
    resumed, account_resumed, began = (int(flag) == 1 for flag in reply[1:4])
    rest = reply[5:]
    counts = {as_text(verdict): int(number) for verdict, number in zip(rest[0::2], rest[1::2], strict=True)}
    return Settled(
        resumed=resumed,
        account_resumed=account_resumed,
        began=began,
        waits_until_ms=int(float(reply[4])),
        counts=counts,
    )
