"""Who did what: an entry a change, in the script that makes it, and none for what changed nothing."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from esa_preload.client import PreloadClient
from esa_preload.errors import InvalidRequestError, RequestConflictError
from esa_preload.model import AuditEntry
from esa_preload.scripts import command
from esa_preload_worker.claims import Block, Settlement
from esa_preload_worker.ledger import CREATE_JOB
from integration.ledger.driver import KEYS, START_MS, LedgerDriver
from integration.ledger.test_order import urls

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Change = Callable[[PreloadClient], Awaitable[Any]]

REFUSED = Settlement(what="end", outcome="refused", verdict="refused", reason="r", code="c")
BLOCKED = Settlement(
    what="end", outcome="blocked", verdict="pending", block=Block(scope="account", code="Forbidden")
)


@pytest.fixture
def client(ledger: LedgerDriver) -> PreloadClient:
    """A client of the tests' namespace, by name."""
    return PreloadClient(ledger.redis, namespace="t", actor="ann@desk")


async def entries(client: PreloadClient) -> list[tuple[str, str, int | None, str | None, str]]:
    """Return the audit: action, actor, site, request and detail, the oldest first."""
    page = await client.audit()
    return [(e.action, e.actor, e.site_id, e.request_id, e.detail) for e in reversed(page.items)]


async def test_an_enqueue_is_one_entry_however_many_chunks_and_repeats(client: PreloadClient) -> None:
    """A request of 2,500 URLs is written once, with who asked and for whom; so is one that is whole in a call."""
    many = [f"https://www.example.com/{i}" for i in range(2_500)]
    for _ in range(2):
        await client.enqueue(7, many, request_id="many", source="cms")
        await client.enqueue(7, many[:3], request_id="few")
    assert await entries(client) == [
        ("enqueued", "ann@desk", 7, "many", "URLs in chunks"),
        ("enqueued", "ann@desk", 7, "few", "URLs: 3"),
    ]
    newest, oldest = (await client.audit()).items
    assert (oldest.source, newest.source) == ("cms", "")


async def test_what_is_refused_is_not_written(client: PreloadClient) -> None:
    """Other content under a known id changes nothing, and so leaves no entry."""
    await client.enqueue_oss(7, "https://bucket.example.com/list", 5, request_id="list")
    with pytest.raises(RequestConflictError):
        await client.enqueue(8, ["https://www.example.com/"], request_id="list")
    assert await entries(client) == [("enqueued", "ann@desk", 7, "list", "a list in OSS")]


async def test_a_request_keeps_who_asked(client: PreloadClient, ledger: LedgerDriver) -> None:
    """Its record names the actor beside the source, for as long as it lives."""
    await client.acting_as("token:cms").enqueue(7, ["https://www.example.com/"], source="article 5")
    record = await ledger.hash(KEYS.request("1"))
    assert (record["actor"], record["source"]) == ("token:cms", "article 5")


CHANGES: list[tuple[Change, tuple[str, int | None, str | None, str]]] = [
    (lambda c: c.cancel("r1"), ("cancelled", 1, "r1", "URLs: 2")),
    (lambda c: c.pause(1), ("paused", 1, None, "by an operator")),
    (lambda c: c.pause(1, reason="origin down"), ("paused", 1, None, "origin down")),
    (lambda c: c.set_limit(CREATE_JOB, 2.5), ("limit_set", None, None, f"{CREATE_JOB}: 2.5 calls/s")),
]


@pytest.mark.parametrize(("change", "written"), CHANGES, ids=[written[0] for _, written in CHANGES])
async def test_a_change_is_written_once(
    ledger: LedgerDriver, client: PreloadClient, change: Change, written: tuple[Any, ...]
) -> None:
    """The same call again changes nothing, and writes nothing."""
    await ledger.accept(urls(2), request_id="r1")
    before = await entries(client)
    for _ in range(2):
        await change(client)
    action, *rest = written
    assert await entries(client) == [*before, (action, "ann@desk", *rest)]


async def test_another_reason_is_another_change(ledger: LedgerDriver, client: PreloadClient) -> None:
    """A pause whose reason changes is written with the new one; one that only repeats it is not."""
    await ledger.accept(urls(1))
    for reason in (None, "origin down", None, "origin down", "release"):
        await client.pause(1, reason=reason)
    assert [detail for action, *_, detail in await entries(client) if action == "paused"] == [
        "by an operator",
        "origin down",
        "release",
    ]


async def test_a_resume_says_what_it_ended(ledger: LedgerDriver, client: PreloadClient) -> None:
    """A pause by its reason, a block of the account by its code; where nothing was held, nothing is written."""
    await ledger.accept(urls(100))
    await ledger.settle(await ledger.take_batch(), BLOCKED)
    for _ in range(2):
        await client.resume(None)
    await client.pause(1, reason="release")
    for _ in range(2):
        await client.resume(1)
    resumed = [entry for entry in await entries(client) if entry[0] == "resumed"]
    assert resumed == [
        ("resumed", "ann@desk", None, None, "Forbidden"),
        ("resumed", "ann@desk", 1, None, "release"),
    ]


async def test_a_reset_is_written_where_there_was_something(client: PreloadClient) -> None:
    """Of all operations only the one with a pace is named, and only the first time."""
    await client.set_limit(CREATE_JOB, 3)
    for _ in range(2):
        await client.reset_limits()
    assert [(action, detail) for action, *_, detail in await entries(client)] == [
        ("limit_set", f"{CREATE_JOB}: 3 calls/s"),
        ("limit_reset", CREATE_JOB),
    ]


async def test_limits_that_cannot_be_are_not_written(client: PreloadClient, ledger: LedgerDriver) -> None:
    """All or nothing holds for the audit too."""
    await ledger.publish(rate_max=10)
    with pytest.raises(InvalidRequestError):
        await client.change_limits([(CREATE_JOB, 5), (CREATE_JOB, 11)])
    assert await entries(client) == []


async def test_a_requeue_is_called_so(ledger: LedgerDriver, client: PreloadClient) -> None:
    """The request that takes failures up is written as that, once, by whoever asked for it."""
    await ledger.accept(urls(100))
    await ledger.settle(await ledger.take_batch(), REFUSED)
    [receipt] = await client.requeue(1)
    assert await client.requeue(1) == []
    assert (await entries(client))[1:] == [("requeued", "ann@desk", 1, receipt.request_id, "URLs: 100")]


async def test_what_the_workers_do_is_not_written(ledger: LedgerDriver, client: PreloadClient) -> None:
    """A request that expires, and batches that end, are nobody's doing."""
    await ledger.accept(urls(2), expires_in_ms=5)
    ledger.advance(10)
    await ledger.producers.end_request("r00000001", "expired")
    await ledger.accept(urls(100), request_id="r2")
    await ledger.drain()
    assert [action for action, *_ in await entries(client)] == ["enqueued", "enqueued"]


async def test_an_entry_is_whole(ledger: LedgerDriver) -> None:
    """Its time is the ledger's, and who did not say who it is has an empty name."""
    await ledger.accept(urls(1), request_id="r1")
    [entry] = (await ledger.producers.audit(None, limit=1, before=None)).items
    assert entry == AuditEntry(
        id=entry.id,
        at=datetime.fromtimestamp(START_MS / 1000, UTC),
        action="enqueued",
        actor="",
        site_id=1,
        request_id="r1",
        detail="URLs: 1",
    )


@pytest.mark.parametrize("site_id", [None, 3])
async def test_pages_hold_every_entry_once(client: PreloadClient, site_id: int | None) -> None:
    """Newest first, of all sites or of one; the last page has no cursor, and new entries do not move the others."""
    for number in range(25):
        await client.enqueue(
            number % 5 + 1, [f"https://www.example.com/{number}"], request_id=f"r{number:02}"
        )
    wanted = [f"r{number:02}" for number in range(24, -1, -1) if site_id in (None, number % 5 + 1)]
    found: list[str | None] = []
    page = await client.audit(site_id=site_id, limit=2)
    while True:
        assert len(page.items) <= 2
        found += [entry.request_id for entry in page.items]
        if page.cursor is None:
            break
        await client.enqueue(3, ["https://www.example.com/later"])
        page = await client.audit(site_id=site_id, limit=2, cursor=page.cursor)
    assert found == wanted


async def test_the_stream_is_bounded_and_ends(ledger: LedgerDriver, client: PreloadClient) -> None:
    """About 10,000 entries are kept, and none for longer than 90 days after the last."""
    await client.enqueue(7, ["https://www.example.com/"])
    fields = ("at", START_MS, "action", "paused", "actor", "a")
    pipe: Any = ledger.redis.pipeline(transaction=False)
    for _ in range(12_000):
        pipe.execute_command("XADD", KEYS.audit, "*", *fields)
    await pipe.execute()
    await client.cancel((await client.enqueue(7, ["https://www.example.com/2"])).request_id)
    assert 10_000 <= await command(ledger.redis, "XLEN", KEYS.audit) < 10_200
    days = await command(ledger.redis, "PTTL", KEYS.audit) / 86_400_000
    assert 89.9 < days <= 90


@pytest.mark.parametrize("hostile", ["a\x1b[31m", "a\nb", "a\u202eb", "x" * 129, 5])
async def test_an_actor_is_a_short_printable_text(client: PreloadClient, hostile: Any) -> None:
    """What could format a terminal, or fill the ledger, is refused before anything is written."""
    with pytest.raises(InvalidRequestError, match="actor"):
        client.acting_as(hostile)
    with pytest.raises(InvalidRequestError, match="actor"):
        PreloadClient("redis://localhost", actor=hostile)


async def test_what_others_wrote_is_shown_as_plain_text(client: PreloadClient, ledger: LedgerDriver) -> None:
    """Whoever may write to the ledger could write anything: it comes out bounded, on one line."""
    hostile = "\x1b]0;owned\x07\n" + "x" * 500
    fields = ("actor", hostile, "source", hostile, "detail", hostile)
    await command(ledger.redis, "XADD", KEYS.audit, "*", "at", START_MS, "action", "paused", *fields)
    await command(ledger.redis, "PEXPIRE", KEYS.audit, 60_000)
    [entry] = (await client.audit()).items
    assert {entry.actor, entry.source, entry.detail} == {"?]0;owned??" + "x" * 117}


@pytest.mark.parametrize(
    "wrong",
    [
        *({"cursor": each} for each in ("5", "(1-1", 5, "0-0", f"1-{2**64}")),
        {"limit": 0},
        {"limit": 10_001},
    ],
)
async def test_a_page_is_asked_for_as_it_can_be(client: PreloadClient, wrong: dict[str, Any]) -> None:
    """A cursor of nobody's, and a limit out of bounds, are refused by name."""
    with pytest.raises(InvalidRequestError, match=next(iter(wrong))):
        await client.audit(**wrong)


async def test_acting_as_shares_the_connection(redis_url: str) -> None:
    """The client under another name uses the same connections, and closing it closes none of them."""
    async with PreloadClient(redis_url, namespace="t", actor="ann") as client:
        async with client.acting_as("bob") as other:
            await other.enqueue(7, ["https://www.example.com/"])
        await client.enqueue(7, ["https://www.example.com/2"])
        assert [entry.actor for entry in (await client.audit()).items] == ["ann", "bob"]
