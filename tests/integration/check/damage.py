"""What can be broken in a ledger, by commands on its keys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from esa_preload.scripts import as_text
from integration.check.queue_content import PLAN_LANE, START_MS, urls

if TYPE_CHECKING:
    from integration.check.queue_content import Queue

LATER = START_MS + 86_400_000
A_URL = urls(1, of="planned")[0]
FIRST_BATCH, PART = "b001", "b004x"


@dataclass(frozen=True, slots=True)
class Damage:
    """Commands that break something, what is found then, and what is left after a repair."""

    commands: tuple[tuple[str | int, ...], ...]
    found: frozenset[str]
    left: frozenset[str] = frozenset()


def derived(*commands: tuple[str | int, ...], found: str) -> Damage:
    """Return damage that a repair undoes."""
    return Damage(commands, frozenset(found.split()))


def lasting(*commands: tuple[str | int, ...], found: str, mended: str = "") -> Damage:
    """Return damage that a repair leaves, but for *mended*."""
    names = frozenset(found.split())
    return Damage(commands, names, names - frozenset(mended.split()))


DAMAGE = {
    "a site's pending": derived(("HINCRBY", "{}site:1", "pending", 3), found="site.pending"),
    "a site's in_flight": derived(("HINCRBY", "{}site:2", "in_flight", -1), found="site.in_flight"),
    "a site's batches": derived(("HINCRBY", "{}site:2", "batches", -1), found="site.batches"),
    "a site's batches, full": derived(("HSET", "{}site:2", "batches", 9), found="site.batches ring.extra"),
    "a site's balance": lasting(("HINCRBY", "{}site:1", "accepted", 1), found="site.balance"),
    "a site not listed": derived(("ZREM", "{}sites", 7), found="site.unlisted"),
    "a lane not listed": derived(("ZREM", "{}lanes:1", PLAN_LANE), found="lane.unlisted"),
    "an empty lane listed": derived(("ZADD", "{}lanes:1", START_MS, "7,,,"), found="lane.empty"),
    "a band left over": derived(("RPUSH", "{}band:1:7,,,:0", A_URL), found="lane.leftover"),
    "a lane put off": derived(("ZADD", "{}lanes:1", LATER, PLAN_LANE), found="lane.late"),
    "a site off the ring": derived(("ZREM", "{}ring", 1), found="ring.missing"),
    "a paused site in the ring": derived(("ZADD", "{}ring", LATER, 7), found="ring.extra"),
    "a site put off": derived(("ZADD", "{}ring", LATER, 1), found="ring.late"),
    "a site before its time": derived(("ZADD", "{}ring", START_MS, 5), found="ring.early"),
    "an agenda lost": derived(
        ("ZADD", "{}jobs:1", LATER, "j"), ("PEXPIRE", "{}jobs:1", 10**8), found="agenda.off"
    ),
    "an agenda of nothing": derived(("ZADD", "{}agenda", LATER, 1), ("PEXPIRE", "{}agenda", 10**8), found="agenda.off"),
    "a lease lost": derived(("ZREM", "{}leases", FIRST_BATCH), found="lease.missing"),
    "a lease too many": derived(("ZADD", "{}leases", LATER, PART), found="lease.extra"),
    "a lease of nothing": derived(("ZADD", "{}leases", LATER, "gone"), found="lease.stray"),
    "a part without a turn": derived(("LREM", "{}parts:2", 0, PART), found="part.missing"),
    "a turn of nothing": derived(("RPUSH", "{}parts:2", "gone"), found="part.stale"),
    "a part with two turns": derived(("RPUSH", "{}parts:2", PART), found="part.stale"),
    "a held part not listed": derived(("DEL", "{}held:{root}"), found="held.missing"),
    "a held part of nothing": derived(("RPUSH", "{}held:{root}", "gone"), found="held.stale"),
    "a split miscounted": derived(("HSET", "{}split:{root}", "live", 7), found="split.live"),
    "a split with nobody to judge": derived(
        ("HSET", "{}batch:{sibling}", "state", "held"),
        ("LREM", "{}parts:12", 0, "{sibling}"),
        ("RPUSH", "{}held:{root}", "{sibling}"),
        ("HSET", "{}split:{root}", "live", 0),
        ("ZREM", "{}ring", 12),
        found="split.live",
    ),
    "a pack not listed": derived(("LREM", "{}bulk:{bulk}", 0, "p15"), found="pack.missing"),
    "no pack listed": derived(("DEL", "{}bulk:{bulk}"), found="pack.missing"),
    "a pack of nothing": derived(("RPUSH", "{}bulk:{bulk}", "gone"), found="pack.stale"),
    "a pack listed twice": derived(("RPUSH", "{}bulk:{bulk}", "p15"), found="pack.stale"),
    "a pack with a lease": derived(("ZADD", "{}leases", LATER, "p15"), found="lease.extra"),
    "a bulk of nothing": lasting(("RPUSH", "{}bulk:zz", "gone"), found="bulk.stray"),
    "packs of nothing": lasting(
        ("DEL", "{}batch:{bulk}", "{}bulk:{bulk}"), ("ZREM", "{}leases", "{bulk}"), ("HINCRBY", "{}site:15", "batches", -1),
        found="pack.orphan",
    ),
    "an active request in no list": derived(
        ("ZREM", "{}active", "{number-of-planned}"), ("ZREM", "{}active:1", "{number-of-planned}"), found="index.missing"
    ),
    "a request not in its site's list": derived(("ZREM", "{}active:1", "{number-of-planned}"), found="index.missing"),
    "a done request in no list": derived(
        ("ZREM", "{}done", "{number-of-done}"), ("ZREM", "{}done:8", "{number-of-done}"),
        ("ZREM", "{}leaving", "{number-of-done}:8"), found="index.missing leaving.missing",
    ),
    "a done request among the active ones": derived(
        ("ZADD", "{}active:8", "{number-of-done}", "{number-of-done}"), found="index.extra"
    ),
    "an active request that is to leave": derived(
        ("ZADD", "{}leaving", LATER, "{number-of-planned}:1"), found="leaving.extra"
    ),
    "a list of requests that are gone": derived(
        ("ZADD", "{}active", 999, "999"), ("ZADD", "{}active:5", 999, "999"), ("ZADD", "{}done:7", 998, "998"),
        ("PEXPIRE", "{}done:7", 10**8), found="index.stale",
    ),
    "a failure without a state": lasting(
        ("XADD", "{}failures:1", "*", "url", A_URL, "lane", "", "at", "1", "reason", "", "code", "", "batch", "b"),
        found="failure.entry",
    ),
    "an expired URL of a batch": lasting(
        (
            "XADD", "{}failures:1", "*", "url", A_URL, "state", "expired", "lane", "", "at", "1", "reason", "expired",
            "code", "", "batch", "b",
        ),
        found="failure.entry",
    ),
    "a failure of nothing": lasting(
        (
            "XADD", "{}failures:5", "*", "url", A_URL, "state", "expired", "lane", "", "at", "1", "reason", "expired",
            "code", "", "batch", "",
        ),
        ("PEXPIRE", "{}failures:5", 600_000),
        found="failure.count",
    ),
    "a split of nothing": lasting(("HSET", "{}split:zz", "live", 1), found="split.stray"),
    "a request's balance": lasting(("HINCRBY", "{planned}", "submitted", 1), found="request.balance"),
    "more plans than URLs": lasting(("HSET", "{planned}", "warming", 99), found="request.plans"),
    "a count below nothing": lasting(
        ("HSET", "{planned}", "refused", -1), found="request.balance request.negative"
    ),
    "an ended request with pending": lasting(
        ("HINCRBY", "{cancelled}", "pending", 1),
        ("HINCRBY", "{cancelled}", "accepted", 1),
        found="request.ended owner.pending request.ttl request.done index.missing index.extra leaving.extra",
        mended="request.ttl request.done index.missing index.extra leaving.extra",
    ),
    "a chunk too many": lasting(
        ("HSET", "{chunks-of-planned}", 5, "d 0 0 0"), found="request.chunks"
    ),
    "a done request without TTL": derived(("PERSIST", "{done}"), found="request.ttl"),
    "a request that would go": derived(("PEXPIRE", "{planned}", 600_000), found="request.ttl"),
    "a request not marked done": derived(("HDEL", "{done}", "done_at"), found="request.done"),
    "an id that leads nowhere": derived(("DEL", "{}request-id:planned"), found="request.id"),
    "an id that leads elsewhere": lasting(
        ("SET", "{}request-id:planned", 1), found="request.id"
    ),
    "an open request not listed": derived(("DEL", "{}open"), found="open.missing"),
    "a sealed request listed": derived(("ZADD", "{}open", START_MS, "{number-of-planned}"), found="open.stale"),
    "a request of nothing listed": derived(("ZADD", "{}open", START_MS, 999_999), found="open.stale"),
    "an expiry lost": derived(("DEL", "{}expiring"), found="expiring.missing"),
    "an expiry of nothing": derived(("ZADD", "{}expiring", LATER, 999_999), found="expiring.stale"),
    "an expiry too many": derived(
        ("ZADD", "{}expiring", LATER, "{number-of-planned}"), found="expiring.stale"
    ),
    "a batch miscounted": lasting(
        ("HINCRBY", "{}batch:b001", "count", 1), found="batch.count site.in_flight site.balance", mended="site.in_flight"
    ),
    "a batch with wrong owners": lasting(
        ("HSET", "{}batch:b001", "owners", "1:9"), found="batch.owners owner.in_flight"
    ),
    "a batch of no site": lasting(
        ("HSET", "{}batch:zz", "attempt", 1), found="batch.broken"
    ),
    "pending that no URL backs": lasting(
        ("HINCRBY", "{planned}", "pending", 1),
        ("HINCRBY", "{planned}", "accepted", 1),
        found="owner.pending",
    ),
    "in flight that no batch backs": lasting(
        ("HINCRBY", "{planned}", "in_flight", 1),
        ("HINCRBY", "{planned}", "accepted", 1),
        found="owner.in_flight",
    ),
    "lists that are none": lasting(("HSET", "{planned}", "lists", 1), found="owner.lists"),
    "URLs of a request that is gone": lasting(("DEL", "{planned}"), found="owner.gone chunks.stray index.stale", mended="index.stale"),
    "a lane's bytes": derived(("HINCRBY", "{}lane:1:{plan}", "bytes", 5), found="lane.bytes"),
    "a lane's age": derived(("HSET", "{}lane:1:{plan}", "oldest", LATER), found="lane.age"),
    "a URL in no band": derived(("LREM", "{}band:1:{plan}:1", 0, A_URL), found="band.missing"),
    "a band lost": derived(("DEL", "{}band:1:{plan}:1"), found="band.missing"),
    "a value that cannot be read": lasting(
        ("HSET", "{}urls:1:{plan}", A_URL, "rubbish"), found="url.value owner.pending"
    ),
    "no wake-up": derived(("DEL", "{}queue"), found="wake.missing"),
    "a wake-up that arq has forgotten": derived(("DEL", "arq:job:{wake}"), found="wake.missing"),
    "a later release's lane": lasting(("HSET", "{}lane:1:{plan}", "v", 2), found="version"),
    "a later release's batch": lasting(("HSET", "{}batch:b001", "v", 2), found="version"),
    "a later release's request": lasting(("HSET", "{planned}", "v", 2), found="version"),
    "a later release's site": lasting(("HSET", "{}site:1", "v", 2), found="version"),
    "a key that stays": lasting(("SET", "{}note", "x"), found="key.ttl"),
    "a job of arq's that stays": lasting(("PERSIST", "arq:job:{wake}"), found="key.ttl"),
}  # fmt: skip


async def _names(queue: Queue) -> dict[str, str]:
    """Return what the placeholders of a damage stand for."""
    names = {"{plan}": PLAN_LANE, "{wake}": as_text(await queue.run("HGET", "{}meta", "wake"))}
    for request_id in ("planned", "cancelled", "done"):
        number = as_text(await queue.run("GET", "{}request-id:" + request_id))
        names[f"{{{request_id}}}"] = f"{{}}request:{number}"
        names[f"{{chunks-of-{request_id}}}"] = f"{{}}chunks:{number}"
        names[f"{{number-of-{request_id}}}"] = number
    held = as_text((await queue.run("KEYS", "{}held:*"))[0]).rpartition(":")[2]
    parts = {f"{held}x", f"{held}y"} - {
        as_text(id_) for id_ in await queue.run("LRANGE", "{}held:" + held, 0, -1)
    }
    bulk = as_text(await queue.run("HGET", "{}batch:p15", "bulk"))
    return names | {"{root}": held, "{sibling}": parts.pop(), "{bulk}": bulk}


async def plant(queue: Queue, damage: Damage) -> None:
    """Break *queue*, which was filled by ``everything``."""
    names = await _names(queue)
    for arguments in damage.commands:
        filled: list[str | int] = []
        for argument in arguments:
            text = argument
            for name, value in names.items():
                text = text.replace(name, value) if isinstance(text, str) else text
            filled.append(text)
        await queue.run(*filled)
