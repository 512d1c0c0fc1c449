"""The sandbox over HTTP: failed files, control routes, latency, and calls that no SDK would send."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from hashlib import sha256
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import aiohttp
import pytest

from esa_preload_worker.sandbox import ForeignJob, Sandbox, SandboxConfig, serve
from integration.sandbox.official import SITE_ID, Esa, client, sign

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

A, B = "https://a.example/1", "https://a.example/2"
FORM = {"InsertWay": "textBox", "Name": "n", "SiteId": "1", "UrlList": A}


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


def signed_headers(
    sandbox: Sandbox,
    body: bytes,
    *,
    action: str = "CreateScheduledPreloadJob",
    query: dict[str, str] | None = None,
    changes: dict[str, str] | None = None,
) -> dict[str, str]:
    headers = {
        "host": sandbox.endpoint,
        "x-acs-action": action,
        "x-acs-version": "2024-09-10",
        "x-acs-date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "x-acs-signature-nonce": uuid.uuid4().hex,
        "x-acs-content-sha256": sha256(body).hexdigest(),
        "content-type": "application/x-www-form-urlencoded",
    } | (changes or {})
    return headers | {"Authorization": sign(method="POST", query=query or {}, headers=headers)}


async def post(
    http: aiohttp.ClientSession, sandbox: Sandbox, body: bytes, headers: dict[str, str], query: str = ""
) -> tuple[int, dict[str, Any]]:
    async with http.post(f"{sandbox.url}/{query}", data=body, headers=headers) as reply:
        return reply.status, await reply.json()


async def call(
    http: aiohttp.ClientSession,
    sandbox: Sandbox,
    body: bytes,
    *,
    action: str = "CreateScheduledPreloadJob",
    query: dict[str, str] | None = None,
) -> tuple[int, dict[str, Any]]:
    headers = signed_headers(sandbox, body, action=action, query=query)
    return await post(http, sandbox, body, headers, f"?{urlencode(query)}" if query else "")


async def get(http: aiohttp.ClientSession, url: str) -> Any:
    async with http.get(url) as reply:
        assert reply.status == 200
        return await reply.json()


# -- tampering ------------------------------------------------------------------------------------------------------------


async def test_an_untouched_call_passes_once(http: aiohttp.ClientSession, sandbox: Sandbox) -> None:
    """The call that the tests below spoil is a good one; sent again, its nonce is used."""
    body = urlencode(FORM).encode()
    headers = signed_headers(sandbox, body)
    assert (await post(http, sandbox, body, headers))[0] == 200
    status, reply = await post(http, sandbox, body, headers)
    assert (status, reply["Code"]) == (400, "SignatureNonceUsed")
    assert len(sandbox.jobs()) == 1


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"x-acs-date": "2020-01-01T00:00:00Z"}, "InvalidTimeStamp.Expired"),
        ({"x-acs-content-sha256": "0" * 64}, "SignatureDoesNotMatch"),
        ({"x-acs-version": "2020-01-01"}, "InvalidVersion"),
        ({"x-acs-action": "DropEverything"}, "InvalidAction.NotFound"),
        ({"x-acs-action": "ListSites"}, "UnsupportedHTTPMethod"),
    ],
)
async def test_signed_but_wrong(
    http: aiohttp.ClientSession, sandbox: Sandbox, changes: dict[str, str], code: str
) -> None:
    """A signature over a wrong date, hash, version or action does not make it right."""
    body = urlencode(FORM).encode()
    _, reply = await post(http, sandbox, body, signed_headers(sandbox, body, changes=changes))
    assert reply["Code"] == code
    assert sandbox.jobs() == []


async def test_altered_on_the_way(http: aiohttp.ClientSession, sandbox: Sandbox) -> None:
    """A changed body, query or header, or one taken away, is refused, and nothing is committed."""
    body = urlencode(FORM).encode()
    altered: list[tuple[bytes, dict[str, str], str]] = []
    headers = signed_headers(sandbox, body)
    altered.append((body.replace(b"SiteId=1", b"SiteId=2"), headers, ""))
    altered.append((body, headers, "?Id=1"))
    altered.append((body, headers | {"x-acs-date": "2999-01-01T00:00:00Z"}, ""))
    altered.append((body, {name: value for name, value in headers.items() if name != "x-acs-version"}, ""))
    altered.append(
        (body, {**headers, "Authorization": headers["Authorization"].replace("x-acs-date;", "")}, "")
    )
    codes = [(await post(http, sandbox, *each))[1]["Code"] for each in altered]
    assert codes == [
        "SignatureDoesNotMatch",
        "SignatureDoesNotMatch",
        "InvalidTimeStamp.Expired",
        "IncompleteSignature",
        "IncompleteSignature",
    ]
    assert sandbox.jobs() == []


# -- refusals within a success -----------------------------------------------------------------------------------------------


async def test_partial_failure_and_its_file(http: aiohttp.ClientSession, esa: Esa, sandbox: Sandbox) -> None:
    """Refused URLs are counted and named by kind, and listed one a line in a file that the sandbox serves."""
    sandbox.reconfigure(sites={SITE_ID: ("a.example",)}, url_quota_per_site=1)
    job = await esa.create(A, "https://b.example/1", "nonsense", B)
    assert (job.url_count, job.url_submitted) == (4, 1)
    assert job.error_info == "InvalidDomain,InvalidUrl,QuotaExcess"
    assert job.failed_file_oss.startswith(sandbox.url)
    async with http.get(job.failed_file_oss) as file:
        assert (
            await file.text()
            == f"https://b.example/1\tInvalidDomain\nnonsense\tInvalidUrl\n{B}\tQuotaExcess\n"
        )
    assert (await esa.get(job.id)).error_info == "invalid domain:b.example,InvalidUrl,QuotaExcess"


async def test_all_refused(esa: Esa) -> None:
    """A job of which every URL is refused is still a 200, and a job."""
    job = await esa.create("nonsense")
    assert (job.url_count, job.url_submitted, job.error_info) == (1, 0, "InvalidUrl")
    assert (await esa.list()).total_count == "1"


async def test_no_file_where_nothing_was_refused(
    http: aiohttp.ClientSession, esa: Esa, sandbox: Sandbox
) -> None:
    """A job without refusals has no file, and neither has one that does not exist."""
    job = await esa.create(A)
    for job_id in (job.id, "0" * 24):
        async with http.get(f"{sandbox.url}/failed/{job_id}.txt") as reply:
            assert reply.status == 404


# -- hostile calls ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "MissingSiteId"),
        (b"\xff\xfe=\x00", 400, "InvalidParameter"),
        (b"SiteId=1&Name=n&InsertWay=textBox&UrlList=%FF", 400, "InvalidParameter"),
        (b"SiteId=1&SiteId=2", 400, "InvalidParameter"),
        (b"SiteId=-1", 400, "InvalidParameter.SiteId"),
        (b"SiteId=0", 400, "InvalidParameter.SiteId"),
        (b"SiteId=NaN", 400, "InvalidParameter.SiteId"),
        (b"SiteId=1e5", 400, "InvalidParameter.SiteId"),
        (b"SiteId=9223372036854775808", 400, "InvalidParameter.SiteId"),
        (b"SiteId=" + b"9" * 10_000, 400, "InvalidParameter.SiteId"),
        ("SiteId=１".encode(), 400, "InvalidParameter.SiteId"),
        (b'{"SiteId": 1}', 400, "MissingSiteId"),
        (b"&&&===&%&%%%zz=%", 400, "MissingSiteId"),
        (b"x" * 500_000, 413, "RequestEntityTooLarge"),
        (b"SiteId=1&Name=n&InsertWay=textBox&UrlList=" + b"\n" * 20_000, 400, "UrlList.ExceedLimit"),
    ],
)
async def test_hostile_forms(
    http: aiohttp.ClientSession, sandbox: Sandbox, body: bytes, status: int, code: str
) -> None:
    """Whatever is in a form, it is refused by a documented code and never breaks the sandbox."""
    sandbox.reconfigure(max_body_bytes=100_000)
    got_status, reply = await call(http, sandbox, body)
    assert (got_status, reply["Code"]) == (status, code)
    assert reply["RequestId"]
    assert reply["Message"]


@pytest.mark.parametrize(
    "executions",
    [
        "",
        "null",
        "[]",
        "{}",
        "[1]",
        "not json",
        '[{"Interval":1}]',
        '[{"Interval":NaN,"SliceLen":1}]',
        '[{"Interval":-1,"SliceLen":1}]',
        '[{"Interval":0,"SliceLen":1}]',
        '[{"Interval":true,"SliceLen":1}]',
        '[{"Interval":1.5,"SliceLen":1}]',
        '[{"Interval":"1","SliceLen":1}]',
        '[{"Interval":2147483648,"SliceLen":1}]',
        f'[{{"Interval":{"9" * 6000},"SliceLen":1}}]',
        '[{"Interval":1,"SliceLen":1,"StartTime":5}]',
        '[{"Interval":1,"SliceLen":1,"StartTime":"tomorrow"}]',
        '[{"Interval":1,"SliceLen":1,"StartTime":"2024-01-01T00:00:00"}]',
        '[{"Interval":1,"SliceLen":1,"StartTime":"99999-01-01T00:00:00Z"}]',
        '[{"Interval":1,"SliceLen":1,"EndTime":"\\ud800"}]',
        "[" * 100_000,
        '{"a":' * 50_000,
    ],
)
async def test_hostile_plans(http: aiohttp.ClientSession, sandbox: Sandbox, executions: str) -> None:
    """Plans that are no plans are refused with a 400, and none is made."""
    _, job = await call(http, sandbox, urlencode(FORM).encode())
    body = urlencode({"Executions": executions}).encode()
    status, reply = await call(
        http, sandbox, body, action="CreateScheduledPreloadExecutions", query={"Id": job["Id"]}
    )
    assert status == 400
    assert reply["Code"].startswith(("InvalidParameter.", "Missing"))
    assert sandbox.jobs()[0]["plans"] == []


@pytest.mark.parametrize(
    "start", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2024-01-01T00:00:00+Z"]
)
async def test_far_times(http: aiohttp.ClientSession, sandbox: Sandbox, start: str) -> None:
    """The first and the last moment there are, and the odd form of the documentation, make plans."""
    _, job = await call(http, sandbox, urlencode(FORM).encode())
    plan = {"Interval": 2**31 - 1, "SliceLen": 2**31 - 1, "StartTime": start}
    body = urlencode({"Executions": json.dumps([plan])}).encode()
    status, reply = await call(
        http, sandbox, body, action="CreateScheduledPreloadExecutions", query={"Id": job["Id"]}
    )
    assert (status, reply["SuccessExecutions"][0]["StartTime"]) == (200, start)


async def test_other_paths_and_methods(http: aiohttp.ClientSession, sandbox: Sandbox) -> None:
    """There is nothing else to find, and an unsigned call is refused."""
    for method, path, status in (
        ("GET", "/index.html", 404),
        ("POST", "/failed/x.txt", 404),
        ("GET", "/_sandbox/other", 404),
        ("DELETE", "/", 400),
        ("GET", "/", 400),
    ):
        async with http.request(method, sandbox.url + path) as reply:
            assert (reply.status, path) == (status, path)


async def test_broken_compression(http: aiohttp.ClientSession, sandbox: Sandbox) -> None:
    """A body that does not decompress is the caller's error."""
    headers = {"Content-Encoding": "gzip"}
    async with http.post(sandbox.url, data=b"not gzip", headers=headers, compress=False) as reply:
        assert reply.status == 400


# -- control ------------------------------------------------------------------------------------------------------------------


async def test_control_documents(http: aiohttp.ClientSession, esa: Esa, sandbox: Sandbox) -> None:
    """Jobs are told in order with their URLs and plans, deleted ones too; the counts agree with them."""
    first = await esa.create(A, B, name="first")
    second = await esa.create(B, name="second")
    for job in (first, second):
        await esa.plan(job.id)
    await esa.delete(first.id)
    jobs = await get(http, f"{sandbox.url}/_sandbox/jobs")
    assert [(job["name"], job["site_id"], job["urls"], job["is_deleted"]) for job in jobs] == [
        ("first", SITE_ID, [A, B], True),
        ("second", SITE_ID, [B], False),
    ]
    assert [len(job["plans"]) for job in jobs] == [0, 1]
    stats = await get(http, f"{sandbox.url}/_sandbox/stats")
    assert stats["calls"]["CreateScheduledPreloadJob"] == {"OK": 2}
    assert (stats["jobs"], stats["jobs_created"], stats["jobs_deleted"], stats["planned_urls"]) == (
        1,
        2,
        1,
        2,
    )
    assert stats["urls_planned_more_than_once"] == [{"site_id": SITE_ID, "url": B, "times": 2}]


async def test_configuration_at_run_time(http: aiohttp.ClientSession, esa: Esa, sandbox: Sandbox) -> None:
    """What is put is in force for the next call and is told back; what is not put stays."""
    changes = {
        "limits": {"*": {"calls": 1, "window_s": 60}, "ListSites": {"rate_per_s": 5, "burst": 2}, "X": None},
        "send_hint": False,
        "sites": {str(SITE_ID): ["a.example"]},
        "max_jobs_per_site": 3,
    }
    async with http.put(f"{sandbox.url}/_sandbox/config", json=changes) as reply:
        told = await reply.json()
    assert {name: told[name] for name in changes} == changes
    assert told["latency_s"] == 0
    assert (await esa.create("https://b.example/")).error_info == "InvalidDomain"
    assert await get(http, f"{sandbox.url}/_sandbox/config") == told
    async with http.put(f"{sandbox.url}/_sandbox/config", json={"limits": {}}) as reply:
        assert (await reply.json())["max_jobs_per_site"] == 3
    await esa.create(A)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"[" * 100_000,
        b'{"credentials": []}',
        b'{"latency_s": "1"}',
        b'{"latency_s": -1}',
        b'{"latency_s": NaN}',
        b'{"latency_s": 1' + b"0" * 400 + b"}",
        b'{"send_hint": 1}',
        b'{"max_jobs_per_site": -1}',
        b'{"max_jobs_per_site": 1.5}',
        b'{"limits": {"*": {}}}',
        b'{"limits": {"*": {"rate_per_s": 0, "burst": 1}}}',
        b'{"limits": {"*": {"calls": true, "window_s": 1}}}',
        b'{"sites": {"x": []}}',
        b'{"sites": {"1": "a.example"}}',
        b'{"oss_objects": {"u": 1}}',
    ],
)
async def test_wrong_configurations(http: aiohttp.ClientSession, sandbox: Sandbox, raw: bytes) -> None:
    """A configuration that cannot be followed changes nothing and says why."""
    before = sandbox.config
    async with http.put(f"{sandbox.url}/_sandbox/config", data=raw) as reply:
        assert reply.status == 400
        assert (await reply.json())["error"]
    assert sandbox.config == before


async def test_foreign_jobs(http: aiohttp.ClientSession, esa: Esa, sandbox: Sandbox) -> None:
    """Jobs of others are listed beside ours, counted apart, and still there when ours are gone."""
    document = {"site_id": SITE_ID, "name": "theirs", "urls": [A], "age_s": 60, "is_planned": True}
    async with http.post(f"{sandbox.url}/_sandbox/jobs", json=document) as reply:
        posted = (await reply.json())["id"]
    sandbox.add_foreign_job(ForeignJob(site_id=SITE_ID, name="theirs too"))
    mine = await esa.create(A, name="mine")
    assert [job.name for job in (await esa.list()).jobs] == ["mine", "theirs too", "theirs"]
    await esa.delete(mine.id)
    stats = sandbox.stats()
    assert (stats["jobs"], stats["foreign_jobs_deleted"], stats["planned_urls"]) == (2, 0, 0)
    await esa.delete(posted)
    assert sandbox.stats()["foreign_jobs_deleted"] == 1
    async with http.post(f"{sandbox.url}/_sandbox/jobs", json={"name": "x"}) as reply:
        assert reply.status == 400


async def test_control_only_on_loopback(http: aiohttp.ClientSession) -> None:
    """Bound to every address, the sandbox serves the API alone."""
    async with Sandbox(host="0.0.0.0") as sandbox:
        port = sandbox.endpoint.rpartition(":")[2]
        async with http.get(f"http://127.0.0.1:{port}/_sandbox/jobs") as reply:
            assert reply.status == 404
        job = await Esa(client(f"127.0.0.1:{port}")).create("nonsense")
        assert job.failed_file_oss.startswith(f"http://127.0.0.1:{port}/")


# -- the server itself ----------------------------------------------------------------------------------------------------------


async def test_latency(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half the latency passes before a call is committed, half after; the jitter is the seed's."""
    slept: list[tuple[float, int]] = []
    sandbox.reconfigure(latency_s=0.2, jitter_s=0.1)
    sleep = asyncio.sleep

    async def record(delay_s: float) -> None:
        slept.append((delay_s, len(sandbox.jobs())))
        await sleep(0)

    monkeypatch.setattr("esa_preload_worker.sandbox.server.asyncio.sleep", record)
    await Esa(client(sandbox.endpoint)).create(A)
    delays = [delay_s for delay_s, _ in slept if delay_s]
    assert len(delays) == 2
    assert 0.2 <= sum(delays) <= 0.3
    assert [jobs for delay_s, jobs in slept if delay_s] == [0, 1]


async def test_signatures_can_be_left_unchecked(http: aiohttp.ClientSession) -> None:
    """Without verification an unsigned call is answered."""
    async with Sandbox(SandboxConfig(verify_signatures=False)) as sandbox:
        headers = {"x-acs-action": "CreateScheduledPreloadJob", "x-acs-version": "2024-09-10"}
        assert (await post(http, sandbox, urlencode(FORM).encode(), headers))[0] == 200


async def test_the_date_is_the_sandboxs(http: aiohttp.ClientSession) -> None:
    """A sandbox whose clock is off says so in its Date header, and finds honest calls stale."""
    async with Sandbox(clock=lambda: 1_000_000_000.5) as sandbox:
        body = urlencode(FORM).encode()
        async with http.post(sandbox.url, data=body, headers=signed_headers(sandbox, body)) as reply:
            assert reply.headers["Date"] == "Sun, 09 Sep 2001 01:46:40 GMT"
            assert (await reply.json())["Code"] == "InvalidTimeStamp.Expired"


async def test_serve(http: aiohttp.ClientSession) -> None:
    """It says where it listens once it does, and stops when it is cancelled."""
    ready: asyncio.Queue[str] = asyncio.Queue()
    task = asyncio.create_task(serve(SandboxConfig(), "127.0.0.1", 0, ready.put_nowait))
    url = await asyncio.wait_for(ready.get(), 10)
    assert await get(http, f"{url}/_sandbox/jobs") == []
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(aiohttp.ClientConnectorError):
        await http.get(f"{url}/_sandbox/jobs")


async def test_a_port_in_use(sandbox: Sandbox) -> None:
    """A taken port is an error, and leaves nothing behind."""
    port = int(sandbox.endpoint.rpartition(":")[2])
    with pytest.raises(OSError, match="in use"):
        async with Sandbox(port=port):
            pass
