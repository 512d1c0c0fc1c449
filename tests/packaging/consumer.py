"""What a service might do with every part of the client: type-checked against the built wheel."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta

import esa_preload
from esa_preload import (
    AccessDeniedError,
    EsaPreloadError,
    Failure,
    OperationLimit,
    Page,
    Plan,
    PreloadClient,
    Preloads,
    Priority,
    QueueFullError,
    QueueUnavailableError,
    Receipt,
    RequestInfo,
    RequestStatus,
    SiteStatus,
)
from esa_preload.http import PreloadClient as HttpClient
from esa_preload.sync import HttpPreloadClient, SyncPreloads
from esa_preload.sync import PreloadClient as SyncClient
from esa_preload.testing import Enqueued, RecordingClient

SITE = 190007158391808


async def rows() -> AsyncIterator[str]:
    yield "https://www.example.com/"


async def use(client: Preloads, priority: Priority = "low") -> RequestStatus:
    plan = Plan(start=datetime.now(UTC) + timedelta(hours=1), interval_s=60, slice_len=50)
    receipt: Receipt = await client.enqueue(SITE, rows(), plan=plan, priority=priority, progress=print)
    await client.enqueue_oss(
        SITE, "https://b.oss-cn-hangzhou.aliyuncs.com/l.txt", 5, expires_in=timedelta(hours=1)
    )
    async for status in client.watch(receipt.request_id):
        print(status.state == "done", status.submitted + status.refused)
    page: Page[RequestInfo] = await client.requests(SITE, state="active")
    names: list[str] = [info.status.request_id for info in page.items]
    urls = await client.request_urls(names[0], "refused", cursor=page.cursor)
    reasons: set[str] = {each.reason for each in urls.items}
    failures: list[Failure] = await client.failures(SITE)
    await client.requeue(SITE, ids=[failure.id for failure in failures if failure.reason in reasons])
    limits: list[OperationLimit] = await client.limits()
    await client.change_limits([(limit.operation, None) for limit in limits])
    cancelled, in_flight = await client.cancel(receipt.request_id)
    print(cancelled + in_flight, (await client.audit()).items[0].actor, (await client.traffic())[0].calls)
    print((await client.explain(receipt.request_id)).reasons[0].code, await client.site_id("www.example.com"))
    return await client.wait(receipt.request_id, timeout=5, progress=lambda status: print(status.pending))


def use_without_await(client: SyncPreloads) -> Iterator[RequestStatus]:
    receipt: Receipt = client.enqueue(SITE, (f"https://www.example.com/{n}" for n in range(3)))
    sites: list[SiteStatus] = client.sites()
    print(sites[0].oldest_pending_s.is_integer(), client.pause(SITE), client.resume(None))
    return client.watch(receipt.request_id, interval_s=2.5)


def clients() -> list[Preloads]:
    return [PreloadClient("redis://localhost"), HttpClient("https://preload.example"), RecordingClient()]


def sync_clients() -> list[SyncPreloads]:
    return [
        SyncClient("redis://localhost"),
        HttpPreloadClient("https://preload.example"),
        SyncPreloads(RecordingClient),
    ]


def test() -> tuple[Enqueued, ...]:
    recording = RecordingClient(sites={"www.example.com": SITE})
    recording.fail_next(QueueUnavailableError("away"))
    recording.finish("r", how="refused")
    return tuple(recording.enqueued)


def what_to_do(error: EsaPreloadError) -> str:
    match error:
        case QueueFullError(receipt=Receipt(accepted=accepted), retry_after_s=float(after_s)):
            return f"{accepted}, again in {after_s:.0f} s"
        case QueueUnavailableError(request_id=str(request_id)):
            return f"repeat {request_id}"
        case AccessDeniedError() | esa_preload.InvalidRequestError():
            return error.hint
        case _:
            return str(error)


if __name__ == "__main__":
    asyncio.run(use(clients()[0]))
