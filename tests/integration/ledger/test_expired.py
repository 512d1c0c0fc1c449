"""What expired is named among the failures, so that it can be enqueued anew, and does not stay where no claim comes."""

from __future__ import annotations

from collections import Counter

from esa_preload.scripts import command
from integration.ledger.driver import KEYS, PUT_BACK, LedgerDriver, read_all
from integration.ledger.test_order import urls

LANE = "1700003600000,,,"


async def failed(ledger: LedgerDriver, site: int = 1) -> list[tuple[str, str]]:
    """Return URL and state of each failure of a site."""
    return [
        (fields["url"], fields["state"])
        for _, fields in await ledger.producers.failure_entries(site, limit=10_000)
    ]


async def test_a_claim_names_what_expired(ledger: LedgerDriver) -> None:
    """The claim that drops it says what it was, in which lane, and when; what goes on is not among it."""
    await ledger.accept(urls(2), request_id="r", lane=LANE, expires_in_ms=50_000)
    await ledger.accept(urls(1, "alive"), lane=LANE)
    ledger.advance(50_000)
    taken = await ledger.take_batch()
    assert list(taken.urls) == urls(1, "alive")
    entries = [fields for _, fields in await ledger.producers.failure_entries(1, limit=10)]
    assert entries == [
        {
            "url": url, "state": "expired", "reason": "expired", "code": "", "at": str(ledger.now_ms), "batch": "",
            "lane": LANE, "owners": "1",
        }
        for url in urls(2)
    ]  # fmt: skip
    assert await command(ledger.redis, "PTTL", KEYS.failures(1)) > 0
    await ledger.settle(taken)


async def test_what_goes_back_to_nobody_is_named_when_time_took_it(ledger: LedgerDriver) -> None:
    """A batch that is put back drops what has expired meanwhile, by name, and what was cancelled without."""
    await ledger.accept(urls(1, "late"), expires_in_ms=20_000)
    await ledger.accept(urls(1, "given-up"), request_id="c")
    ledger.advance(10_000)
    taken = await ledger.take_batch()
    await ledger.producers.end_request("c", "cancelled")
    ledger.advance(10_000)
    await ledger.settle(taken, PUT_BACK)
    assert await failed(ledger) == [(urls(1, "late")[0], "expired")]


async def test_what_is_wanted_again_is_not_named(ledger: LedgerDriver) -> None:
    """A new request takes over what expired and was not dropped yet; so does one that asked while the old one was in flight."""
    await ledger.accept(urls(1), request_id="old", expires_in_ms=1_000)
    await ledger.accept(urls(1, "flies"), request_id="flying", expires_in_ms=10_500)
    ledger.advance(1_000)
    await ledger.accept(urls(1), request_id="new")
    ledger.advance(9_000)
    taken = await ledger.take_batch()
    assert set(taken.urls) == {*urls(1), *urls(1, "flies")}
    await ledger.accept(urls(1, "flies"), request_id="again")
    ledger.advance(1_000)
    await ledger.settle(taken, PUT_BACK)
    await ledger.drain()
    assert await failed(ledger) == []
    assert await ledger.counts("flying") == {"accepted": 1, "expired": 1}
    assert await ledger.counts("again") == {"accepted": 1, "submitted": 1}


async def test_time_counts_when_the_rest_was_cancelled(ledger: LedgerDriver) -> None:
    """Of two owners one expired and one was cancelled: the URL counts and is named as expired; given up by all, it is not."""
    await ledger.accept(urls(2), request_id="time", expires_in_ms=10_000)
    await ledger.accept(urls(2), request_id="a")
    await ledger.accept(urls(1, "given-up"), request_id="b")
    ledger.advance(10_000)
    await ledger.workers.sweep("w", turn_ms=1)
    assert await failed(ledger) == []
    await ledger.producers.end_request("a", "cancelled")
    await ledger.producers.end_request("b", "cancelled")
    await ledger.take_nothing()
    assert await failed(ledger) == [(url, "expired") for url in urls(2)]
    site = await ledger.hash(KEYS.site(1))
    assert (site["expired"], site["cancelled"]) == ("2", "1")


async def test_a_list_in_oss_that_expired_is_named(ledger: LedgerDriver) -> None:
    """Its one entry is, however many URLs it stands for."""
    await ledger.accept(urls(1), lane="oss:r:7:", weight=7, expires_in_ms=1_000)
    await ledger.producers.switch_site(1, "pause", "by hand")
    ledger.advance(1_000)
    await ledger.workers.sweep("w", turn_ms=1)
    assert await failed(ledger) == [(urls(1)[0], "expired")]


async def test_a_site_that_is_never_claimed_keeps_no_dead_backlog(ledger: LedgerDriver) -> None:
    """On a paused site sweeps drop and name what expired, some thousand URLs each, and leave what is wanted."""
    total = 9_000
    for number in range(9):
        chunk = urls(1_000, start=number * 1_000)
        await ledger.accept(chunk, request_id="r", number=number, total=9, expires_in_ms=1_000)
    await ledger.accept(urls(3, "alive"))
    await ledger.producers.switch_site(1, "pause", "by hand")
    ledger.advance(1_000)
    left = [total]
    while left[-1]:
        await ledger.workers.sweep("w", turn_ms=1)
        left.append(await command(ledger.redis, "HLEN", KEYS.urls(1, "")) - 3)
        assert left[-2] > left[-1] >= left[-2] - 4 * 1_100
    site = await ledger.hash(KEYS.site(1))
    assert (site["pending"], site["expired"]) == ("3", str(total))
    assert len(await failed(ledger)) == total
    assert not await command(ledger.redis, "EXISTS", f"{KEYS.prefix}dropping")
    await ledger.producers.switch_site(1, "resume")
    # In one batch or two: a claim skips a bounded number of stale entries.
    assert [url for batch in await ledger.drain() for url in batch.urls] == urls(3, "alive")


async def test_a_walk_is_made_again_for_whoever_left_meanwhile(ledger: LedgerDriver) -> None:
    """What is given up behind a walk that is under way is dropped by the next one."""
    for number in range(12):
        await ledger.accept(urls(1_000, start=number * 1_000), request_id=f"r{number}")
    await ledger.producers.switch_site(1, "pause", "by hand")
    await ledger.producers.end_request("r0", "cancelled")
    await ledger.workers.sweep("w", turn_ms=1)
    assert int((await ledger.hash(KEYS.lane(1, "")))["drop_cursor"]) > 0
    for number in range(1, 12):
        await ledger.producers.end_request(f"r{number}", "cancelled")
    for _ in range(8):
        await ledger.workers.sweep("w", turn_ms=1)
    assert (await ledger.hash(KEYS.site(1)))["pending"] == "0"
    assert not await command(ledger.redis, "EXISTS", KEYS.lane(1, ""), KEYS.band(1, "", 1))


async def test_the_sweep_keeps_up_with_requests_that_expire(ledger: LedgerDriver) -> None:
    """A thousand requests that expire at once are ended by one sweep, in steps of 64, each a short script."""
    for number in range(1_100):
        await ledger.accept(urls(1, start=number), expires_in_ms=1_000)
    await ledger.producers.switch_site(1, "pause", "by hand")
    ledger.advance(1_000)
    swept = await ledger.workers.sweep("w", turn_ms=1)
    assert 1_000 <= swept.expired[1] <= 1_100
    await ledger.workers.sweep("w", turn_ms=1)
    assert not await command(ledger.redis, "EXISTS", f"{KEYS.prefix}expiring")


async def test_a_sweep_reports_and_drops_on_many_sites(ledger: LedgerDriver) -> None:
    """Of 600 sites with an expired URL each all are reported, once, and their lanes emptied, by two sweeps: a step does few of them."""
    sites = range(1, 601)
    for site in sites:
        await ledger.accept(urls(1), site=site, expires_in_ms=1_000)
        await ledger.producers.switch_site(site, "pause", "by hand")
    ledger.advance(1_000)
    reported: Counter[int] = Counter()
    for _ in range(2):
        reported.update((await ledger.workers.sweep("w", turn_ms=1)).expired)
    assert reported == Counter(sites)
    assert not [key for key in (await read_all(ledger.redis)).ttl_ms if ":lane:" in key]


async def test_the_failures_are_bounded(ledger: LedgerDriver) -> None:
    """Of more than are kept the newest stay."""
    await ledger.publish(failures_max=100)
    await ledger.accept(urls(1_000), expires_in_ms=1_000)
    ledger.advance(1_000)
    await ledger.workers.sweep("w", turn_ms=1)
    kept = await failed(ledger)
    assert 100 <= len(kept) < 400
