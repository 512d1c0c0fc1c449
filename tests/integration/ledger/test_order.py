"""What goes first: bands within a lane, lanes within a site, sites among each other."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from esa_preload.errors import QueueFullError
from esa_preload_worker.claims import Batch, Wait
from esa_preload_worker.esa.signing import form_encode
from integration.ledger.driver import KEYS, PUT_BACK, SUBMITTED, LedgerDriver

if TYPE_CHECKING:
    from collections.abc import Sequence

HIGH, NORMAL, LOW = 0, 1, 2


def urls(count: int, name: str = "a", *, start: int = 0) -> list[str]:
    """Return URLs of one host."""
    return [f"https://{name}.example/{number}" for number in range(start, start + count)]


def hosts(batch: Sequence[str]) -> dict[str, int]:
    """Count URLs by host."""
    found: dict[str, int] = {}
    for url in batch:
        host = url.split("/")[2].split(".")[0]
        found[host] = found.get(host, 0) + 1
    return found


async def test_a_band_is_first_in_first_out(ledger: LedgerDriver) -> None:
    """URLs leave a band in the order in which they were accepted, over chunks, requests and batches."""
    for start in range(0, 250, 50):
        await ledger.accept(urls(50, start=start))
        ledger.advance(1)
    taken = [url for batch in await ledger.drain() for url in batch.urls]
    assert taken == urls(250)


async def test_the_high_band_goes_first_and_a_tenth_is_kept_for_those_below(ledger: LedgerDriver) -> None:
    """Of 100 places 90 are for the high band; of the 10 left, one is kept for the low band under the normal one."""
    for band, name in ((LOW, "low"), (NORMAL, "normal"), (HIGH, "high")):
        await ledger.accept(urls(300, name), band=band)
    batch = await ledger.take_batch()
    assert hosts(batch.urls) == {"high": 90, "normal": 9, "low": 1}


async def test_what_is_kept_and_not_needed_is_used(ledger: LedgerDriver) -> None:
    """A batch is full while there is anything to fill it with, whatever the bands."""
    await ledger.accept(urls(95, "high"), band=HIGH)
    await ledger.accept(urls(2, "low"), band=LOW)
    await ledger.accept(urls(200, "normal"), band=NORMAL)
    assert hosts((await ledger.take_batch()).urls) == {"high": 90, "normal": 9, "low": 1}
    assert hosts((await ledger.take_batch()).urls) == {"high": 5, "normal": 94, "low": 1}


@pytest.mark.parametrize("most", [1, 2, 5, 10, 100])
async def test_high_is_first_and_low_not_starved_whatever_the_size_of_batches(
    ledger: LedgerDriver, most: int
) -> None:
    """Of a thousand places 900 go to high, 90 to normal and 10 to low; the first one to high, and none but a tenth waits long."""
    await ledger.publish(batch_max_urls=most)
    for band, name in ((LOW, "low"), (NORMAL, "normal"), (HIGH, "high")):
        await ledger.accept(urls(1_000, name), band=band)
    taken: Counter[str] = Counter()
    for places in range(most, 1_001, most):
        batch = await ledger.take_batch()
        assert len(batch.urls) == most
        taken.update(hosts(batch.urls))
        await ledger.settle(batch)
        assert taken["normal"] + taken["low"] == places // 10, "evenly, and never before high"
        assert taken["low"] == places // 100
    assert taken == {"high": 900, "normal": 90, "low": 10}


@pytest.mark.parametrize("most", [1, 2, 5, 10, 100])
async def test_without_high_a_tenth_is_kept_for_low(ledger: LedgerDriver, most: int) -> None:
    """Normal goes before low as high does before both, at every size of batches."""
    await ledger.publish(batch_max_urls=most)
    for band, name in ((LOW, "low"), (NORMAL, "normal")):
        await ledger.accept(urls(200, name), band=band)
    taken: Counter[str] = Counter()
    for _ in range(0, 200, most):
        batch = await ledger.take_batch()
        taken.update(hosts(batch.urls))
        await ledger.settle(batch)
    assert taken == {"normal": 180, "low": 20}


@pytest.mark.parametrize("places", [1, 3, 7])
async def test_without_high_low_is_not_starved_by_bytes_either(ledger: LedgerDriver, places: int) -> None:
    """Normal goes before low as high does before both, where bytes fill a batch."""
    path = f"/{'x' * 90}"
    await ledger.publish(batch_max_bytes=places * (len(form_encode(urls(1, "normal")[0] + path)) + 6))
    for band, name in ((LOW, "low"), (NORMAL, "normal")):
        await ledger.accept([url + path for url in urls(200, name)], band=band)
    taken: Counter[str] = Counter()
    while taken.total() < 150:
        batch = await ledger.take_batch()
        taken.update(hosts(batch.urls))
        await ledger.settle(batch)
        assert taken.total() // 10 - 1 <= taken["low"] <= taken.total() // 10 + 1


@pytest.mark.parametrize("places", [1, 3, 8, 25])
async def test_low_is_not_starved_by_batches_that_are_full_by_their_bytes(
    ledger: LedgerDriver, places: int
) -> None:
    """URLs so long that a batch holds few: still 1 of 10 for the bands below, and of these 1 of 10 for low; high goes first."""
    path = f"/{'x' * 90}"
    await ledger.publish(batch_max_bytes=places * (len(form_encode(urls(1, "normal")[0] + path)) + 6))
    for band, name, count in ((LOW, "low", 10), (NORMAL, "normal", 50), (HIGH, "high", 400)):
        await ledger.accept([url + path for url in urls(count, name)], band=band)
    taken: Counter[str] = Counter()
    while taken.total() < 300:
        batch = await ledger.take_batch()
        taken.update(hosts(batch.urls))
        await ledger.settle(batch)
        assert len(batch.urls) < 100
        below = taken["normal"] + taken["low"]
        assert taken.total() // 10 - places // 10 - 2 <= below <= taken.total() // 10 + 1
    assert taken["low"] in (2, 3)


async def test_a_merge_promotes_and_never_demotes(ledger: LedgerDriver) -> None:
    """A URL goes to the highest band that anybody asked for, once; its old place in the lower band is skipped."""
    await ledger.accept(urls(3, "a"), band=LOW, request_id="low")
    await ledger.accept(urls(1, "a", start=1), band=HIGH, request_id="high")
    await ledger.accept(urls(1, "a", start=1), band=LOW, request_id="low-again")
    await ledger.accept(urls(3, "b"), band=NORMAL)
    ledger.advance(5_000)
    batch = await ledger.take_batch()
    assert list(batch.urls) == [*urls(1, "a", start=1), *urls(3, "b"), *urls(1, "a"), *urls(1, "a", start=2)]
    await ledger.settle(batch)
    for request_id, count in (("low", 3), ("high", 1), ("low-again", 1)):
        assert (await ledger.counts(request_id))["submitted"] == count


async def test_the_age_of_a_promoted_url_counts_from_its_first_request(ledger: LedgerDriver) -> None:
    """A promoted URL behind younger ones of its new band makes the lane due by its own age."""
    await ledger.publish(batch_quiet_ms=60_000)
    await ledger.accept(urls(1, "old"), band=LOW)
    ledger.advance(20_000)
    await ledger.accept(urls(1, "young"), band=HIGH)
    await ledger.accept(urls(1, "old"), band=HIGH)
    ledger.advance(39_999)
    await ledger.take_nothing()
    ledger.advance(1)
    assert hosts((await ledger.take_batch()).urls) == {"old": 1, "young": 1}


async def test_a_url_taken_over_from_a_cancelled_request_hides_nobody(ledger: LedgerDriver) -> None:
    """A URL whose first owner left begins anew for the next one, and an older URL behind it keeps its age."""
    await ledger.publish(batch_quiet_ms=60_000)
    await ledger.accept(urls(1, "a"), request_id="gone")
    await ledger.accept(urls(1, "b"))
    await ledger.producers.end_request("gone", "cancelled")
    ledger.advance(40_000)
    assert (await ledger.accept(urls(1, "a"))).merged == 0
    ledger.advance(19_999)
    await ledger.take_nothing()
    ledger.advance(1)
    assert hosts((await ledger.take_batch()).urls) == {"a": 1, "b": 1}
    site = await ledger.hash(KEYS.site(1))
    assert (site["accepted"], site["cancelled"], site["in_flight"], site.get("merged", "0")) == (
        "3",
        "1",
        "2",
        "0",
    )


async def test_what_goes_back_is_first_in_its_band_again(ledger: LedgerDriver) -> None:
    """URLs of a batch that ESA did not take go to the head of their bands, in their order."""
    await ledger.accept(urls(150))
    batch = await ledger.take_batch()
    assert list(batch.urls) == urls(100)
    await ledger.settle(batch, PUT_BACK)
    assert list((await ledger.take_batch()).urls) == urls(100)


async def test_batches_that_go_back_in_turn_hide_nobody(ledger: LedgerDriver) -> None:
    """When an older batch goes back before a younger one, which then stands in front, the lane is due by the older one's age."""
    await ledger.accept(urls(1, "old"))
    ledger.advance(5_000)
    old = await ledger.take_batch()
    ledger.advance(1_000)
    await ledger.accept(urls(1, "young"))
    ledger.advance(5_000)
    young = await ledger.take_batch()
    await ledger.publish(batch_quiet_ms=600_000)
    await ledger.accept(urls(1, "new"))
    await ledger.settle(old, PUT_BACK)
    await ledger.settle(young, PUT_BACK)
    ledger.advance(60_000 - 11_000 - 1)
    await ledger.take_nothing()
    ledger.advance(1)
    assert hosts((await ledger.take_batch()).urls) == {"old": 1, "young": 1, "new": 1}


async def test_who_waits_keeps_its_place(ledger: LedgerDriver) -> None:
    """A site that is due does not fall behind another because more URLs come in for it."""
    await ledger.accept(urls(100), site=1)
    ledger.advance(10)
    await ledger.accept(urls(100), site=2)
    for number in range(3):
        ledger.advance(10)
        await ledger.accept(urls(100, f"more{number}"), site=1)
    assert [(await ledger.take_batch()).site_id for _ in range(3)] == [1, 2, 1]


async def test_two_lanes_are_never_merged(ledger: LedgerDriver) -> None:
    """The same URL under two plans is two pieces of work, in two batches; so is one of two sites."""
    plan = "1700003600000,,,"
    for site, lane in ((1, ""), (1, plan), (2, "")):
        assert (await ledger.accept(urls(3), site=site, lane=lane)).merged == 0
    ledger.advance(5_000)
    batches = await ledger.drain()
    assert sorted((batch.site_id, batch.lane) for batch in batches) == [(1, ""), (1, plan), (2, "")]
    assert all(list(batch.urls) == urls(3) for batch in batches)


async def test_a_site_has_at_most_a_hundred_lanes(ledger: LedgerDriver) -> None:
    """The 101st plan of a site is refused and leaves no trace; a lane that ran empty makes room; known lanes still take URLs."""
    for number in range(100):
        await ledger.accept(urls(1), lane=f"{number},,,")
    with pytest.raises(QueueFullError, match="100 lanes"):
        await ledger.accept(urls(1), lane="100,,,", request_id="late")
    await ledger.accept(urls(1, "b"), lane="99,,,")
    await ledger.accept(urls(1), lane="oss:r:", weight=5)
    await ledger.drain()
    await ledger.accept(urls(1), lane="100,,,", request_id="late")
    await ledger.drain()


async def test_a_full_site_takes_nothing_of_a_chunk(ledger: LedgerDriver) -> None:
    """A chunk that does not fit below MAX_PENDING_PER_SITE is refused whole; another site is not concerned."""
    await ledger.publish(max_pending_per_site=10)
    await ledger.accept(urls(8))
    with pytest.raises(QueueFullError, match="8 URLs pending"):
        await ledger.accept(urls(3, "b"), request_id="late")
    with pytest.raises(QueueFullError, match="8 URLs pending"):
        await ledger.accept(urls(1), lane="oss:r:", weight=3)
    await ledger.accept(urls(3), site=2)
    await ledger.accept(urls(2, "b"), request_id="late")
    await ledger.drain()
    assert await ledger.counts("late") == {"accepted": 2, "submitted": 2}


@pytest.mark.parametrize(
    ("arrivals", "limits", "due_ms"),
    [
        pytest.param([(0, 1)], {}, 5_000, id="quiet"),
        pytest.param([(0, 1), (4_000, 1)], {}, 9_000, id="quiet after the last one"),
        pytest.param([(at, 1) for at in range(0, 60_000, 4_000)], {}, 60_000, id="age of the oldest"),
        pytest.param([(0, 99), (1, 1)], {}, 1, id="full"),
        pytest.param([(0, 99)], {}, 5_000, id="not quite full"),
        pytest.param([(0, 3)], {"batch_max_bytes": 57}, 0, id="full by bytes"),
        pytest.param([(0, 1)], {"batch_quiet_ms": 0}, 0, id="no quiet asked for"),
    ],
)
async def test_when_a_lane_is_due(
    ledger: LedgerDriver, arrivals: list[tuple[int, int]], limits: dict[str, int], due_ms: int
) -> None:
    """A lane is due when it is full, quiet or old, to the millisecond."""
    await ledger.publish(**limits)
    start, sent = ledger.now_ms, 0
    for at, count in arrivals:
        ledger.advance(start + at - ledger.now_ms)
        await ledger.accept(urls(count, start=sent))
        sent += count
    if start + due_ms > ledger.now_ms:
        ledger.advance(start + due_ms - 1 - ledger.now_ms)
        await ledger.take_nothing()
        ledger.advance(1)
    await ledger.take_batch()


async def test_a_merge_makes_a_lane_wait_for_quiet_again(ledger: LedgerDriver) -> None:
    """A URL asked for again is still being asked for: the lane is not quiet yet."""
    await ledger.accept(urls(1))
    ledger.advance(4_999)
    await ledger.accept(urls(1))
    ledger.advance(4_999)
    await ledger.take_nothing()
    ledger.advance(1)
    await ledger.take_batch()


@pytest.mark.parametrize("step_ms", [0, 1, 300])
async def test_a_small_site_waits_for_one_turn_of_a_large_one(ledger: LedgerDriver, step_ms: int) -> None:
    """A site with one URL is served next, after at most one batch of a site with thousands, also when no time passes."""
    for start in range(0, 5_000, 1_000):
        await ledger.accept(urls(1_000, start=start), site=1)
    for _ in range(3):
        await ledger.settle(await ledger.take_batch())
        ledger.advance(step_ms)
    await ledger.publish(batch_quiet_ms=0)
    await ledger.accept(urls(1, "small"), site=2)
    turns: list[int] = []
    for _ in range(2):
        batch = await ledger.take_batch()
        turns.append(batch.site_id)
        await ledger.settle(batch)
        ledger.advance(step_ms)
    assert 2 in turns


@pytest.mark.parametrize("step_ms", [0, 1, 300])
async def test_busy_sites_take_turns(ledger: LedgerDriver, step_ms: int) -> None:
    """Five sites with a backlog are served in turn, also over thousands of turns within one millisecond."""
    for site in range(1, 6):
        await ledger.accept(urls(1_000), site=site)
    turns: list[int] = []
    for _ in range(45):
        batch = await ledger.take_batch()
        turns.append(batch.site_id)
        await ledger.settle(batch, SUBMITTED)
        ledger.advance(step_ms)
    assert all(sorted(turns[i : i + 5]) == [1, 2, 3, 4, 5] for i in range(41))


async def test_turns_within_a_millisecond_do_not_wrap(ledger: LedgerDriver) -> None:
    """The number that orders turns grows up to the next millisecond and stays below it; a clock set back starts it anew."""
    await ledger.publish(batch_max_urls=1, batch_quiet_ms=0, site_concurrency=1000)
    await ledger.accept(urls(1_000), site=1)
    await ledger.accept(urls(1_000), site=2)
    turns = [(await ledger.take_batch()).site_id for _ in range(1_500)]
    assert all(first != second for first, second in pairwise(turns))
    ledger.advance(-5_000)
    assert isinstance(await ledger.take(), Wait)
    await ledger.redis_does("FLUSHALL")


async def test_lanes_of_a_site_take_turns(ledger: LedgerDriver) -> None:
    """Two plans of a site that are both due are served in turn."""
    for lane in ("", "1,,,"):
        await ledger.accept(urls(400), lane=lane)
    turns: list[str] = []
    for _ in range(8):
        batch = await ledger.take_batch()
        turns.append(batch.lane)
        await ledger.settle(batch)
    assert all(first != second for first, second in pairwise(turns))


async def test_a_site_has_so_many_batches_at_once(ledger: LedgerDriver) -> None:
    """SITE_CONCURRENCY batches of a site are in flight, not one more, until one is settled; other sites go on."""
    await ledger.accept(urls(1_000), site=1)
    batches = [await ledger.take_batch() for _ in range(4)]
    assert await ledger.take_nothing() is None
    await ledger.accept(urls(100), site=2)
    assert (await ledger.take_batch()).site_id == 2
    await ledger.settle(batches[0])
    assert (await ledger.take_batch()).site_id == 1
    await ledger.take_nothing()


async def test_a_paused_site_is_left_alone(ledger: LedgerDriver) -> None:
    """Nothing of a paused site is claimed, and nothing waits for it; after the resume it goes on at once."""
    await ledger.accept(urls(200), site=1)
    await ledger.producers.switch_site(1, "pause", "by hand")
    assert await ledger.take_nothing() is None
    await ledger.producers.switch_site(1, "resume")
    assert isinstance(await ledger.take(), Batch)
