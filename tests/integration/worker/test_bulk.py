"""What becomes of a lane's backlog that is carried as one list in a bucket, over a real Valkey and the sandbox."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from esa_preload.keys import Keys
from esa_preload.scripts import as_text, command
from esa_preload_worker.claims import Batch
from esa_preload_worker.esa import FailedFileError, RefusedError, SizeError, ThrottledError, UncertainError
from esa_preload_worker.ledger import VISITED, WorkerLedger
from esa_preload_worker.oss_errors import OssError
from integration.worker.rig import NAMESPACE, SITE, Rig, rig, urls_of
from integration.worker.virtual import virtual_rig

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, MutableMapping

    from redis.asyncio import Redis

    from esa_preload_worker.sandbox import Sandbox

    Logged = list[MutableMapping[str, Any]]

KEYS = Keys(NAMESPACE)
LEAST, PACK = 20, 7
OSS_IS_SHUT = OssError("PutObject: AccessDenied", code="AccessDenied", hint="grant it", is_passing=False)


@pytest.fixture(autouse=True)
def small_packs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Packs of a few URLs, so that a list takes several."""
    monkeypatch.setattr("esa_preload_worker.bulk.PACK_URLS", PACK)


@pytest.fixture
async def bulk(redis: Redis, redis_url: str, sandbox: Sandbox) -> AsyncIterator[Rig]:
    """A worker with a bucket, and lists from ``LEAST`` URLs on."""
    async with rig(redis, redis_url, sandbox, has_shelf=True, **LIMITS) as built:
        yield built


LIMITS: dict[str, Any] = {"oss_min_urls": LEAST, "batch_max_urls": 10, "job_retention": 1}


def events(logged: Logged, name: str) -> Logged:
    """Return the log lines of one event."""
    return [entry for entry in logged if entry["event"] == name]


async def keys_left(worker: Rig, *kinds: str) -> list[str]:
    """Return the keys of the namespace that begin with one of *kinds*."""
    names = map(as_text, await command(worker.ledger.redis, "KEYS", f"{KEYS.prefix}*"))
    return [name for name in names if name.removeprefix(KEYS.prefix).split(":")[0] in kinds]


def ways(worker: Rig) -> list[str]:
    """Return how each job at ESA came by its URLs."""
    return sorted(str(job["insert_way"]) for job in worker.sandbox.jobs())


async def take(worker: Rig) -> Batch:
    """Claim what is due, by hand, as a worker that will not renew it."""
    taken = await worker.ledger.take(token="t", pump="p", new_batch_id="b0")
    assert isinstance(taken, Batch), taken
    return taken


async def let_leases_end(worker: Rig) -> None:
    """Whoever held a batch is dead."""
    for batch_id in await command(worker.ledger.redis, "ZRANGE", KEYS.leases, 0, -1):
        await command(worker.ledger.redis, "ZADD", KEYS.leases, 1, batch_id)


async def test_a_backlog_becomes_one_list_and_one_planned_job(bulk: Rig, logged: Logged) -> None:
    """All that a lane holds goes as one object and one call; every URL is planned once, counted, and said in one line a batch."""
    request = await bulk.enqueue(urls_of(50))
    status = await bulk.work(request)
    assert (status.submitted, status.warming) == (50, 50)
    assert (bulk.planned(), ways(bulk)) == (50, ["oss"])
    (line,) = events(logged, "batch.submitted")
    assert (line["bulk"], line["url_count"], line["url_submitted"]) == (True, 50, 50)
    assert bulk.shelf.objects == {
        f"esa-preload/{NAMESPACE}/{line['batch_id']}.txt": "".join(f"{u}\n" for u in urls_of(50)).encode()
    }
    assert await keys_left(bulk, "batch", "bulk", "parts", "urls", "band") == []
    assert bulk.count("urls_submitted_total", site=str(SITE)) == 50
    assert bulk.count("batch_urls_sum") == 50


async def test_what_a_batch_carries_needs_no_bucket(bulk: Rig) -> None:
    """Below the least number of URLs a lane is carried as ever."""
    status = await bulk.work(await bulk.enqueue(urls_of(LEAST - 1)))
    assert (status.submitted, ways(bulk), bulk.shelf.calls) == (LEAST - 1, ["textBox"] * 2, [])


async def test_the_list_goes_with_its_job(
    redis: Redis, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the plan has ended its URLs count as finished, however many scripts that takes; then job and object are deleted."""
    assert "SHARE_OWNERS = 500" in VISITED.text
    rounds: list[int] = []
    script = replace(
        VISITED, text=VISITED.text.replace("SHARE_OWNERS = 500", "SHARE_OWNERS = 3"), sha="0" * 40
    )
    monkeypatch.setattr("esa_preload_worker.ledger.VISITED", script)
    async with virtual_rig(
        redis, redis_url, None, has_shelf=True, plan_interval=10, **LIMITS | {"job_retention": 100}
    ) as worker:
        request = await worker.rig.enqueue(urls_of(50))
        worker.advance(1)
        await worker.turn()
        assert (await worker.status(request)).warming == 50
        for _ in range(200):
            worker.advance(1)
            await worker.look()
            status = await worker.status(request)
            assert status.warming + status.finished == 50
            rounds.append(status.finished)
    assert rounds[-1] == 50
    assert (worker.rig.shelf.objects, worker.jobs()) == ({}, [])
    assert await keys_left(worker.rig, "shares", "job") == []


async def test_who_dies_while_gathering_is_followed_by_another(bulk: Rig) -> None:
    """The packs that are there come first in the list, and nothing is lost or doubled."""
    request = await bulk.enqueue(urls_of(30))
    batch = await take(bulk)
    assert (batch.state, batch.urls) == ("gathering", ())
    await bulk.ledger.gather(batch, pack_id="p1", most_urls=PACK, most_bytes=10_000)
    assert (await bulk.client.status(request)).in_flight == PACK
    await let_leases_end(bulk)
    assert (await bulk.work(request)).submitted == 30
    assert (bulk.planned(), ways(bulk)) == (30, ["oss"])


async def test_a_pack_is_claimed_once_however_often_it_is_asked_for(bulk: Rig) -> None:
    """A lost reply repeats nothing: the same id names the same URLs."""
    await bulk.enqueue(urls_of(30))
    batch = await take(bulk)
    first = await bulk.ledger.gather(batch, pack_id="p1", most_urls=PACK, most_bytes=10_000)
    assert await bulk.ledger.gather(batch, pack_id="p1", most_urls=PACK, most_bytes=10_000) == first
    assert await bulk.ledger.packs(batch) == ["p1"]
    assert await bulk.ledger.pack_urls("p1") == tuple(urls_of(PACK))


async def test_a_url_that_comes_again_while_its_list_is_gathered_stands_in_it_once(bulk: Rig) -> None:
    """ESA is given it once, and both that asked for it are told."""
    first = await bulk.enqueue(urls_of(30))
    batch = await take(bulk)
    await bulk.ledger.gather(batch, pack_id="p1", most_urls=PACK, most_bytes=10_000)
    second = await bulk.enqueue(urls_of(3))
    await let_leases_end(bulk)
    assert (await bulk.work(first)).submitted == 30
    assert (await bulk.work(second)).submitted == 3
    assert (bulk.planned(), ways(bulk)) == (30, ["oss"])


@pytest.mark.parametrize("operation", ["put", "link"])
async def test_a_bucket_that_fails_leaves_it_to_batches(bulk: Rig, logged: Logged, operation: str) -> None:
    """The URLs go back as they were and in batches to ESA; one line says what is wrong, and lists are not tried for an hour."""
    bulk.shelf.errors[operation].append(OSS_IS_SHUT)
    status = await bulk.work(await bulk.enqueue(urls_of(30)))
    assert (status.submitted, bulk.planned(), ways(bulk)) == (30, 30, ["textBox"] * 3)
    (line,) = events(logged, "bulk.put_back")
    assert (line["code"], line["hint"], line["for_s"]) == ("AccessDenied", "grant it", 3600)
    assert (bulk.shelf.calls.count(operation), bulk.shelf.objects) == (1, {})


async def test_urls_that_go_back_keep_their_order(bulk: Rig) -> None:
    """The oldest is first again, across packs."""
    await bulk.enqueue(urls_of(30))
    bulk.shelf.errors["put"].append(OSS_IS_SHUT)
    await bulk.pump._submission(await bulk.pump._take("p"))  # type: ignore[arg-type]
    entries = await command(bulk.ledger.redis, "LRANGE", KEYS.band(SITE, "", 1), 0, -1)
    assert [as_text(entry) for entry in entries] == urls_of(30)


@pytest.mark.parametrize(
    ("error", "most"),
    [(RefusedError("no", code="InvalidOssUrl", http_status=400), 0), (SizeError("no", code="TooLarge"), 25)],
)
async def test_a_list_that_esa_refuses_is_put_back(
    bulk: Rig, logged: Logged, error: Exception, most: int
) -> None:
    """Nothing is refused for it: batches carry the URLs, or lists of half the size."""
    bulk.between.before["create_job_from_list"].append(error)
    status = await bulk.work(await bulk.enqueue(urls_of(50)))
    assert (status.submitted, status.refused, bulk.planned()) == (50, 0, 50)
    (line,) = events(logged, "bulk.put_back")
    assert line["most_urls"] == most
    assert ways(bulk) == (["oss", "oss"] if most else ["textBox"] * 5)


async def test_a_list_that_esa_read_otherwise_is_not_planned(bulk: Rig, logged: Logged) -> None:
    """A job with other URLs than ours is deleted without a plan; each URL goes to ESA all the same."""
    bulk.shelf.spoil = lambda lines: b"\n".join(lines.split()[:9])
    status = await bulk.work(await bulk.enqueue(urls_of(50)))
    assert (status.submitted, bulk.planned()) == (50, 50)
    assert (events(logged, "bulk.put_back")[0]["code"], len(events(logged, "job.deleted"))) == (
        "list_misread",
        1,
    )


async def test_refused_urls_of_a_list_end_by_their_names(bulk: Rig) -> None:
    """What ESA refuses of the list is refused, wherever its pack is; the others are submitted."""
    bad = urls_of(3, host="www.other.net")
    status = await bulk.work(await bulk.enqueue([*urls_of(20), *bad, *urls_of(20, start=20)]))
    assert (status.submitted, status.refused, bulk.planned()) == (40, 3, 40)
    failures = await bulk.client.failures(SITE)
    assert {entry.url for entry in failures} == set(bad)


async def test_a_list_of_which_nothing_is_known_by_name_ends_as_unknown(bulk: Rig) -> None:
    """As of any batch: what ESA refused cannot be told from the rest."""
    bulk.between.before["read_failed_file"].append(FailedFileError("away"))
    status = await bulk.work(await bulk.enqueue([*urls_of(29), "https://www.other.net/x"]))
    assert (status.unknown, status.submitted) == (30, 0)


async def test_urls_over_the_quota_go_back(bulk: Rig) -> None:
    """Those that the quota hit are pending again, and the site waits."""
    bulk.sandbox.reconfigure(url_quota_per_site=18)
    request = await bulk.enqueue(urls_of(30))
    status = await bulk.work(request, until=lambda status: status.submitted == 18)
    assert (status.pending, status.refused) == (12, 0)


async def test_a_lost_reply_is_looked_up(bulk: Rig, logged: Logged) -> None:
    """A list whose job exists is adopted: no second one is made."""
    bulk.between.after["create_job_from_list"].append(UncertainError("reset", code="uncertain.reset"))
    status = await bulk.work(await bulk.enqueue(urls_of(30)))
    assert (status.submitted, bulk.planned(), ways(bulk)) == (30, 30, ["oss"])
    assert len(events(logged, "batch.adopted")) == 1


async def test_a_call_that_never_arrived_is_made_again_with_the_same_list(bulk: Rig) -> None:
    """Surely absent: created again, from the object that is there."""
    bulk.between.before["create_job_from_list"].append(UncertainError("reset", code="uncertain.reset"))
    status = await bulk.work(await bulk.enqueue(urls_of(30)))
    assert (status.submitted, bulk.planned(), ways(bulk)) == (30, 30, ["oss"])
    assert bulk.shelf.calls.count("put") == 1


async def test_a_throttled_list_waits_as_it_is(bulk: Rig) -> None:
    """Nothing is gathered or stored again for it."""
    bulk.between.before["create_job_from_list"].append(
        ThrottledError("slow", code="Throttling", retry_after_s=0.1)
    )
    status = await bulk.work(await bulk.enqueue(urls_of(30)))
    assert (status.submitted, ways(bulk)) == (30, ["oss"])
    assert bulk.shelf.calls.count("put") == 1


@pytest.mark.parametrize("state", ["gathering", "sent", "uncertain", "created"])
async def test_a_worker_without_a_bucket_ends_what_another_began(
    bulk: Rig, redis: Redis, redis_url: str, sandbox: Sandbox, state: str
) -> None:
    """It puts back what cannot have become a job, and plans what did: nothing waits for a worker with a bucket."""
    request = await bulk.enqueue(urls_of(30))
    match state:
        case "gathering":
            batch = await take(bulk)
            await bulk.ledger.gather(batch, pack_id="p1", most_urls=PACK, most_bytes=10_000)
        case "sent":
            bulk.between.before["create_job_from_list"].append(
                ThrottledError("slow", code="Throttling", retry_after_s=1)
            )
        case "uncertain":
            bulk.between.before["create_job_from_list"].append(UncertainError("?", code="uncertain.reset"))
        case _:
            bulk.between.before["create_plans"].append(UncertainError("?", code="uncertain.reset"))
    if state != "gathering":
        await bulk.pump.run()
    await let_leases_end(bulk)
    async with rig(redis, redis_url, sandbox, **LIMITS) as without:
        status = await without.work(request)
    assert (status.submitted, bulk.planned()) == (30, 30)
    assert ways(bulk) == (["oss"] if state == "created" else ["textBox"] * 3)


@pytest.mark.parametrize("verdict", ["submitted", "pending"])
async def test_packs_end_once_whoever_dies_between_them(
    bulk: Rig, monkeypatch: pytest.MonkeyPatch, verdict: str
) -> None:
    """Who takes over goes on with the packs that are left, to the same end, and no list is sent of which some is pending again."""
    ended: list[str] = []
    end_pack = WorkerLedger.end_pack

    async def dies_after_two(
        self: WorkerLedger, batch: Batch, pack_id: str, *args: Any, **options: Any
    ) -> Any:
        if len(ended) == 2:
            ended.append("dead")
            raise OSError("the machine is gone")
        ended.append(pack_id)
        return await end_pack(self, batch, pack_id, *args, **options)

    monkeypatch.setattr(WorkerLedger, "end_pack", dies_after_two)
    if verdict == "pending":
        bulk.between.before["create_job_from_list"].append(RefusedError("no", code="X", http_status=400))
    request = await bulk.enqueue(urls_of(30))
    with pytest.raises(OSError, match="gone"):
        await bulk.pump.run()
    await let_leases_end(bulk)
    status = await bulk.work(request)
    assert (status.submitted, status.warming, bulk.planned()) == (30, 30, 30)
    assert len(set(ended)) == len(ended)
