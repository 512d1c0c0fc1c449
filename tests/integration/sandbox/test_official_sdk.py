"""The official SDK, unchanged, as a client: what the sandbox says is what ESA's documentation says."""

from __future__ import annotations

import asyncio
import re
import time
from typing import Any

import pytest

from esa_preload_worker.sandbox import (
    BucketLimit,
    Credential,
    ForeignJob,
    Sandbox,
    SandboxConfig,
    WindowLimit,
)
from integration.sandbox.official import SITE_ID, Esa, client, exceptions, models

A, B = "http://testurl.com/a.txt", "http://testurl.com/b.txt"
NO_SUCH_ID = "665d3af3621bccf3fe29e1a4"


async def code_of(awaitable: Any) -> tuple[str, int]:
    """Return the code and the status of the SDK's exception."""
    with pytest.raises(exceptions.AlibabaCloudException) as refused:
        await awaitable
    return refused.value.code, refused.value.status_code


async def test_create(esa: Esa) -> None:
    """A job comes back with every documented field in its documented form."""
    job = await esa.create(A, B, name="名前 a+b~*")
    assert re.fullmatch(r"[0-9A-F]{8}(-[0-9A-F]{4}){3}-[0-9A-F]{12}", job.request_id)
    assert re.fullmatch(r"[0-9a-f]{24}", job.id)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+0800", job.created_at)
    assert (job.name, job.site_id, job.insert_way, job.task_type) == (
        "名前 a+b~*",
        SITE_ID,
        "textBox",
        "preload",
    )
    assert (job.url_count, job.url_submitted, job.task_submitted) == (2, 2, 0)
    assert (job.error_info, job.failed_file_oss, job.domains) == ("", "", "testurl.com")


def test_the_synchronous_client_too() -> None:
    """The SDK's synchronous client is answered as its asynchronous one is."""

    async def run() -> Any:
        async with Sandbox() as sandbox:
            request = models.CreateScheduledPreloadJobRequest(
                insert_way="textBox", name="n", site_id=SITE_ID, url_list=A
            )
            sdk = client(sandbox.endpoint)
            return await asyncio.to_thread(sdk.create_scheduled_preload_job, request)

    reply = asyncio.run(run())
    assert (reply.status_code, reply.body.url_submitted) == (200, 1)


async def test_get_list_delete(esa: Esa) -> None:
    """A job can be got and listed until it is deleted."""
    job = await esa.create(A)
    assert (await esa.get(job.id)).name == "preload-1"
    page = await esa.list()
    assert (page.total_count, [each.id for each in page.jobs]) == ("1", [job.id])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", page.jobs[0].created_at)
    assert page.jobs[0].execution_count == 0
    await esa.delete(job.id)
    assert (await esa.list()).total_count == "0"
    assert await code_of(esa.get(job.id)) == ("InvalidJob.NotFound", 404)
    assert await code_of(esa.delete(job.id)) == ("InvalidJob.NotFound", 404)


async def test_paging(esa: Esa) -> None:
    """Pages cover the jobs of the site once, newest first; the total counts all pages; other sites have their own."""
    for number in range(5):
        await esa.create(A, name=f"job-{number}")
    await esa.create(A, name="elsewhere", site_id=7)
    pages = [await esa.list(page_number=number, page_size=2) for number in (1, 2, 3, 4)]
    assert [[job.name for job in page.jobs] for page in pages] == [
        ["job-4", "job-3"],
        ["job-2", "job-1"],
        ["job-0"],
        [],
    ]
    assert {page.total_count for page in pages} == {"5"}


async def test_window_of_creation() -> None:
    """StartTime and EndTime are milliseconds of the creation."""
    now_s = time.time()
    old, new = (
        ForeignJob(site_id=SITE_ID, name=name, age_s=age_s) for name, age_s in (("old", 3600), ("new", 60))
    )
    async with Sandbox(SandboxConfig(foreign_jobs=(old, new))) as sandbox:
        esa = Esa(client(sandbox.endpoint))
        middle_ms = int((now_s - 600) * 1000)
        assert [job.name for job in (await esa.list(start_time=middle_ms)).jobs] == ["new"]
        assert [job.name for job in (await esa.list(end_time=middle_ms)).jobs] == ["old"]
        assert (await esa.list(start_time=middle_ms, end_time=middle_ms)).total_count == "0"


async def test_plans(esa: Esa, sandbox: Sandbox) -> None:
    """A plan is made, listed, stopped, started and deleted; the job's list entry counts it."""
    job = await esa.create(A, B)
    made = await esa.plan(job.id, start_time="2990-06-03T16:00:00Z", end_time="2990-06-04T02:02:09.849+08:00")
    assert (made.total_count, made.success_count, made.failed_executions, made.failed_messages) == (
        1,
        1,
        [],
        [],
    )
    plan = made.success_executions[0]
    assert (plan.job_id, plan.status, plan.interval, plan.slice_len) == (job.id, "waiting", 30, 10)
    listed = await esa.call(
        "list_scheduled_preload_executions", models.ListScheduledPreloadExecutionsRequest(id=job.id)
    )
    assert (listed.total_count, listed.executions[0].id) == (1, plan.id)
    assert (await esa.list()).jobs[0].execution_count == 1
    stopped = await esa.call(
        "stop_scheduled_preload_execution", models.StopScheduledPreloadExecutionRequest(id=plan.id)
    )
    assert (stopped.id, stopped.status) == (plan.id, "stopped")
    started = await esa.call(
        "start_scheduled_preload_execution", models.StartScheduledPreloadExecutionRequest(id=plan.id)
    )
    assert started.status == "waiting"
    delete = models.DeleteScheduledPreloadExecutionRequest(id=plan.id)
    assert (await esa.call("delete_scheduled_preload_execution", delete)).request_id
    assert await code_of(esa.call("delete_scheduled_preload_execution", delete)) == (
        "InvalidExecution.NotFound",
        404,
    )
    assert sandbox.stats()["planned_urls"] == 2


async def test_progress_is_seen_by_the_client() -> None:
    """By the sandbox's clock TaskSubmitted grows as the plan runs."""
    late_s = 0.0
    async with Sandbox(clock=lambda: time.time() + late_s) as sandbox:
        esa = Esa(client(sandbox.endpoint))
        job = await esa.create(*(f"{A}?{number}" for number in range(15)))
        await esa.plan(job.id)
        late_s = 10
        assert (await esa.get(job.id)).task_submitted == 10
        late_s = 40
        assert (await esa.get(job.id)).task_submitted == 15


async def test_plans_that_fail_in_a_success(esa: Esa, sandbox: Sandbox) -> None:
    """A plan too many is told within a 200, with its message."""
    sandbox.reconfigure(max_plans_per_job=0)
    job = await esa.create(A)
    reply = await esa.plan(job.id)
    assert (reply.success_count, reply.total_count, len(reply.failed_executions)) == (0, 1, 1)
    assert "limit" in reply.failed_messages[0]


async def test_documented_errors(esa: Esa, sandbox: Sandbox) -> None:
    """Each documented refusal arrives as the SDK's exception, with its code and status."""
    create = models.CreateScheduledPreloadJobRequest

    async def refused(request: Any) -> tuple[str, int]:
        return await code_of(esa.call("create_scheduled_preload_job", request))

    job = await esa.create(A)
    assert await refused(create(insert_way="textBox", name="n", site_id=1)) == ("MissingUrlList", 400)
    assert await refused(create(insert_way="oss", name="n", site_id=1)) == ("MissingOssUrl", 400)
    assert await refused(create(insert_way="textbox", name="n", site_id=1, url_list=A)) == (
        "InvalidParameter.InsertWay",
        400,
    )
    assert await refused(create(insert_way="textBox", site_id=1, url_list=A)) == ("MissingName", 400)
    assert await refused(create(insert_way="textBox", name="n", url_list=A)) == ("MissingSiteId", 400)
    assert await code_of(esa.get("nonsense")) == ("InvalidParameter.ObjectId", 400)
    assert await code_of(esa.plan(NO_SUCH_ID)) == ("InvalidJob.NotFound", 404)
    assert await code_of(
        esa.plan(job.id, start_time="2024-06-03T16:00:00Z", end_time="2024-06-03T15:59:59Z")
    ) == ("InvalidEndTime.Mismatch", 400)
    stop = models.StopScheduledPreloadExecutionRequest(id=NO_SUCH_ID)
    assert await code_of(esa.call("stop_scheduled_preload_execution", stop)) == (
        "InvalidExecution.NotFound",
        404,
    )
    unknown = models.PreloadCachesRequest(site_id=1, content=[A])
    assert await code_of(esa.call("preload_caches", unknown)) == ("InvalidAction.NotFound", 404)
    sandbox.reconfigure(max_urls_per_list=1)
    assert await code_of(esa.create(A, B)) == ("UrlList.ExceedLimit", 400)
    sandbox.reconfigure(max_jobs_per_site=1)
    assert await code_of(esa.create(A)) == ("InvalidJob.JobCountOfSiteFull", 400)
    sandbox.reconfigure(sites={SITE_ID + 1: ()})
    assert await code_of(esa.create(A)) == ("SiteNotFound", 404)
    assert await code_of(esa.list()) == ("SiteNotFound", 404)


async def test_throttling_with_a_hint(esa: Esa, sandbox: Sandbox) -> None:
    """With the hint header the SDK raises its throttling exception, with milliseconds; other operations go on."""
    sandbox.reconfigure(limits={"CreateScheduledPreloadJob": WindowLimit(calls=1, window_s=60)})
    await esa.create(A)
    with pytest.raises(exceptions.ThrottlingException) as throttled:
        await esa.create(A)
    assert (throttled.value.code, throttled.value.status_code) == ("TooManyRequests", 400)
    assert 1 <= throttled.value.retry_after <= 60_000
    assert (await esa.list()).total_count == "1"
    assert sandbox.stats()["calls"]["CreateScheduledPreloadJob"] == {"OK": 1, "TooManyRequests": 1}


async def test_throttling_without_a_hint(esa: Esa, sandbox: Sandbox) -> None:
    """Without the header it is a client's error of HTTP 400, as the SDK makes of ESA's own code."""
    sandbox.reconfigure(limits={"*": BucketLimit(rate_per_s=0.001, burst=1)}, send_hint=False)
    await esa.create(A)
    with pytest.raises(exceptions.ClientException) as throttled:
        await esa.create(A)
    assert (throttled.value.code, throttled.value.status_code) == ("TooManyRequests", 400)


async def test_credentials(sandbox: Sandbox) -> None:
    """A wrong secret and an unknown key are told apart."""
    wrong = Esa(client(sandbox.endpoint, access_key_secret="wrong"))
    assert await code_of(wrong.create(A)) == ("SignatureDoesNotMatch", 400)
    unknown = Esa(client(sandbox.endpoint, access_key_id="unknown"))
    assert await code_of(unknown.create(A)) == ("InvalidAccessKeyId.NotFound", 404)
    assert sandbox.jobs() == []


async def test_security_token(sandbox: Sandbox) -> None:
    """A temporary key passes with its token only, until it expires."""
    sandbox.reconfigure(credentials=(Credential(security_token="token"),))
    holder = Esa(client(sandbox.endpoint, security_token="token"))
    assert (await holder.create(A)).id
    assert (await code_of(Esa(client(sandbox.endpoint)).create(A)))[0] == "MissingSecurityToken"
    other = Esa(client(sandbox.endpoint, security_token="other"))
    assert (await code_of(other.create(A)))[0] == "InvalidSecurityToken.MismatchWithAccessKey"
    sandbox.reconfigure(credentials=(Credential(security_token="token", expires_at_s=0),))
    assert (await code_of(holder.create(A)))[0] == "InvalidSecurityToken.Expired"


async def test_sites(esa: Esa, sandbox: Sandbox) -> None:
    """Sites are found by name, in the four ways there are."""
    sandbox.reconfigure(sites={1: ("a.example",), 2: ("b.example", "c.example")})
    found: dict[str, list[int]] = {}
    for how, name in (("exact", "a.example"), ("suffix", ".example"), ("prefix", "b"), ("fuzzy", "c.")):
        reply = await esa.call("list_sites", models.ListSitesRequest(site_name=name, site_search_type=how))
        found[how] = [site.site_id for site in reply.sites]
    assert found == {"exact": [1], "suffix": [1, 2], "prefix": [2], "fuzzy": []}
    assert (await esa.call("list_sites", models.ListSitesRequest(page_size=1))).total_count == 2


async def test_quota_of_the_instance(esa: Esa, sandbox: Sandbox) -> None:
    """The preload quota is told as a text; without a limit there is nothing to tell; nobody asked about is an error."""
    request = models.ListInstanceQuotasRequest(site_id=SITE_ID, quota_names="preload,rules")
    assert (await esa.call("list_instance_quotas", request)).quotas == []
    sandbox.reconfigure(url_quota_per_site=500)
    quota = (await esa.call("list_instance_quotas", request)).quotas[0]
    assert (quota.quota_name, quota.quota_value, quota.quota_value_type) == ("preload", "500", "num")
    nobody = models.ListInstanceQuotasRequest(quota_names="preload")
    assert await code_of(esa.call("list_instance_quotas", nobody)) == ("MissingSiteId", 400)


async def test_list_in_an_oss_object(esa: Esa, sandbox: Sandbox) -> None:
    """The lines of a known object become the job; an object that cannot be read makes a job of nothing."""
    sandbox.reconfigure(oss_objects={"https://bucket.example/list.txt": f"{A}\r\n{B}\n"})
    replies: list[tuple[int, int, str]] = []
    for name in ("list", "other"):
        request = models.CreateScheduledPreloadJobRequest(
            insert_way="oss", name="n", site_id=SITE_ID, oss_url=f"https://bucket.example/{name}.txt"
        )
        job = await esa.call("create_scheduled_preload_job", request)
        replies.append((job.url_count, job.url_submitted, job.error_info))
    assert replies == [(2, 2, ""), (0, 0, "OtherErrors")]
