"""What a batch may hold, and what a claim leaves out."""

from __future__ import annotations

from itertools import pairwise

import pytest

from esa_preload.errors import QueueFullError, UnknownRequestError
from esa_preload_worker.claims import Wait
from esa_preload_worker.esa.signing import form_encode
from integration.ledger.driver import KEYS, LedgerDriver
from integration.ledger.test_order import urls


async def test_a_batch_is_filled_to_the_byte(ledger: LedgerDriver) -> None:
    """The encoded form decides, not a guess of it: the next URL would not have fitted."""
    await ledger.publish(batch_max_bytes=3_000, site_concurrency=100)
    long = [f"https://a.example/{n}?q={'x' * (30 + n % 40)}&r=%E4%BD%A0" for n in range(300)]
    await ledger.accept(long)
    batches = await ledger.drain()
    assert [url for batch in batches for url in batch.urls] == long
    for batch, after in pairwise(batches):
        size = len(form_encode("\n".join(batch.urls)))
        assert size <= 3_000
        assert size + 3 + len(form_encode(after.urls[0])) > 3_000 - 4, "the next one would have fitted"


async def test_a_hundred_urls_of_400_characters_are_one_batch(ledger: LedgerDriver) -> None:
    """The bound of three bytes a character must not cut a batch that fits."""
    await ledger.accept([f"https://a.example/{n:0382}" for n in range(100)])
    assert len((await ledger.take_batch()).urls) == 100


async def test_a_url_larger_than_a_batch_goes_alone(ledger: LedgerDriver) -> None:
    """No limit of ours may keep an accepted URL back for good."""
    await ledger.publish(batch_max_bytes=100)
    large = "https://a.example/" + "~" * 200
    await ledger.accept(["https://a.example/0", large, "https://a.example/1"])
    assert [list(batch.urls) for batch in await ledger.drain()] == [
        ["https://a.example/0"],
        [large],
        ["https://a.example/1"],
    ]


async def test_repeats_within_a_chunk_are_counted_once(ledger: LedgerDriver) -> None:
    """A caller that did not remove repeats gets them counted as such; the sums stay right."""
    accepted = await ledger.accept([*urls(2), *urls(1)], request_id="r")
    assert (accepted.accepted, accepted.duplicates) == (2, 1)
    await ledger.drain()
    assert await ledger.counts("r") == {"accepted": 2, "submitted": 2}
    assert (await ledger.hash(KEYS.site(1)))["pending"] == "0"


async def test_the_largest_chunk_and_batch_pass(ledger: LedgerDriver) -> None:
    """1,000 URLs a chunk and 1,000 a batch stay within what Lua can unpack."""
    await ledger.publish(batch_max_urls=1_000, batch_max_bytes=10_000_000)
    await ledger.accept(urls(1_000, "x" * 60))
    assert len((await ledger.take_batch()).urls) == 1_000


async def test_a_cancelled_million_is_dropped_in_bounded_steps(ledger: LedgerDriver) -> None:
    """A claim looks at 1,000 entries at most; the rest is dropped by the next ones, and the living are found behind them."""
    for number in range(5):
        await ledger.accept(urls(900, start=number * 900), number=number, total=5, request_id="gone")
    await ledger.accept(urls(1, "alive"), request_id="alive")
    await ledger.producers.end_request("gone", "cancelled")
    pending = [4_501]
    taken = await ledger.take(pump="one")
    while isinstance(taken, Wait):
        assert (taken.stay, taken.reason) == (True, "cleaning")
        pending.append(int((await ledger.hash(KEYS.site(1)))["pending"]))
        ledger.advance(taken.ms)
        taken = await ledger.take(pump="one")
    assert len(pending) >= 3
    assert all(0 < before - after <= 1_100 for before, after in pairwise(pending))
    assert taken is not None
    assert list(taken.urls) == urls(1, "alive")
    await ledger.settle(taken)
    assert await ledger.counts("gone") == {"accepted": 4_500, "cancelled": 4_500}
    assert (await ledger.hash(KEYS.site(1)))["cancelled"] == "4500"


async def test_stale_entries_do_not_pile_up(ledger: LedgerDriver) -> None:
    """URLs asked for again and again, promoted, claimed and put back leave no more than a few entries behind."""
    await ledger.publish(batch_max_urls=10, site_concurrency=100)
    await ledger.accept(urls(15, "always"), band=2)
    for number in range(60):
        await ledger.accept(urls(5), band=2, request_id=f"low{number}")
        await ledger.accept(urls(5), band=0, request_id=f"high{number}")
        ledger.advance(60_000)
        batch = await ledger.take_batch()
        await ledger.settle(batch)
        await ledger.accept([url for url in batch.urls if "always" in url], band=2)
    lengths = [await ledger.redis_does("LLEN", KEYS.band(1, "", band)) for band in range(3)]
    assert sum(lengths) < 60
    await ledger.drain()


async def test_a_url_has_a_bounded_number_of_owners(ledger: LedgerDriver) -> None:
    """One more is refused with its whole chunk; who owns it may repeat itself, who has ended makes room, and all see the end."""
    await ledger.publish(owners_max=20)
    hot = urls(1)
    await ledger.accept(hot, request_id="r0", total=2)
    for number in range(1, 19):
        await ledger.accept(hot, request_id=f"r{number}")
    await ledger.accept(hot, request_id="expires", expires_in_ms=1_000)
    with pytest.raises(QueueFullError, match="20 requests already wait for a URL of this chunk"):
        await ledger.accept([*urls(1, "other"), *hot], request_id="late")
    with pytest.raises(UnknownRequestError):
        await ledger.counts("late")
    again = await ledger.accept(hot, request_id="r0", number=1, total=2)
    assert (again.accepted, again.duplicates) == (0, 1)
    ledger.advance(1_000)
    assert (await ledger.accept([*urls(1, "other"), *hot], request_id="late")).merged == 1
    await ledger.drain()
    assert await ledger.counts("r0") == {"accepted": 1, "submitted": 1}
    assert await ledger.counts("late") == {"accepted": 2, "merged": 1, "submitted": 2}
    assert await ledger.counts("expires") == {"accepted": 1, "merged": 1, "expired": 1}
