"""The simulated OSS with the official client of OSS, and the lists that ESA's jobs read from it."""

from __future__ import annotations

import base64
import hashlib
import importlib
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import aiohttp
import pytest

from esa_preload_worker.sandbox import Credential, Fault, Sandbox, SandboxConfig
from integration.sandbox.official import SITE_ID, Esa, client, models

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable

# The library has no types: everything of it is Any here.
oss: Any = importlib.import_module("alibabacloud_oss_v2")
aio: Any = importlib.import_module("alibabacloud_oss_v2.aio")

KEY = "esa-preload/default/b 1+ü.txt"
A, B, C = (f"https://www.example.com/{name}" for name in "abc")
OTHER = "https://other.example.net/"


class Bucket:
    """The official client, and one bucket."""

    def __init__(self, sandbox: Sandbox, **changes: Any) -> None:
        keys = ("sandbox", changes.pop("secret", "sandbox-secret"), changes.pop("token", None))
        provider = oss.credentials.StaticCredentialsProvider(*keys)
        options = {"region": "cn-hangzhou", "endpoint": sandbox.url, "retry_max_attempts": 1} | changes
        self.client = aio.AsyncClient(oss.Config(credentials_provider=provider, **options))

    async def put(self, body: bytes = b"x\n", key: str = KEY, **more: Any) -> Any:
        return await self.client.put_object(oss.PutObjectRequest(bucket="lists", key=key, body=body, **more))

    async def get(self, key: str = KEY) -> Any:
        return await self.client.get_object(oss.GetObjectRequest(bucket="lists", key=key))

    async def head(self, key: str = KEY) -> Any:
        return await self.client.head_object(oss.HeadObjectRequest(bucket="lists", key=key))

    async def delete(self, key: str = KEY) -> Any:
        return await self.client.delete_object(oss.DeleteObjectRequest(bucket="lists", key=key))

    async def link(self, key: str = KEY, *, lives_s: float = 60) -> str:
        request = oss.GetObjectRequest(bucket="lists", key=key)
        return str((await self.client.presign(request, expires=timedelta(seconds=lives_s))).url)


@pytest.fixture
async def bucket(sandbox: Sandbox) -> AsyncIterator[Bucket]:
    """A bucket of the sandbox, by the official client with its defaults."""
    made = Bucket(sandbox)
    yield made
    await made.client.close()


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    """Somebody who has no key."""
    async with aiohttp.ClientSession() as session:
        yield session


async def code_of(call: Awaitable[Any]) -> tuple[str, int]:
    """Return code and status with which *call* is refused."""
    with pytest.raises(oss.exceptions.OperationError) as caught:
        await call
    error = caught.value.unwrap()
    assert error.request_id
    return error.code, error.status_code


async def create(esa: Esa, url: str) -> Any:
    """Create a job of the list at *url*."""
    request = models.CreateScheduledPreloadJobRequest(
        insert_way="oss", name="n", site_id=SITE_ID, oss_url=url
    )
    return await esa.call("create_scheduled_preload_job", request)


async def test_put_get_head_delete(bucket: Bucket, sandbox: Sandbox) -> None:
    """What is put comes back, with its type; what is put again takes its place; what is deleted is gone, twice too."""
    await bucket.put(b"first")
    put = await bucket.put(b"second", content_type="text/plain; charset=utf-8", acl="private")
    assert put.etag == f'"{hashlib.md5(b"second", usedforsecurity=False).hexdigest().upper()}"'
    got = await bucket.get()
    assert (got.body.content, got.content_type) == (b"second", "text/plain; charset=utf-8")
    head = await bucket.head()
    assert (head.content_length, head.etag, head.object_type) == (6, put.etag, "Normal")
    assert (sandbox.objects.names, sandbox.stats()["object_bytes"]) == ([f"lists/{KEY}"], 6)
    for _ in range(2):
        assert (await bucket.delete()).status_code == 204
    assert await code_of(bucket.get()) == ("NoSuchKey", 404)
    assert await code_of(bucket.head()) == ("NoSuchKey", 404)
    assert sandbox.stats()["objects"] == 0


async def test_objects_are_private(bucket: Bucket, sandbox: Sandbox, http: aiohttp.ClientSession) -> None:
    """Without a signature nobody reads or writes one, unless it was made public; then it is only read."""
    address = f"{sandbox.url}/lists/{quote(KEY)}"
    await bucket.put(b"x")
    for method in ("GET", "HEAD", "PUT", "DELETE"):
        async with http.request(method, address) as reply:
            assert (method, reply.status) == (method, 403)
    async with http.get(f"{sandbox.url}/lists/none") as reply:
        assert reply.status == 403  # who may not read does not learn what there is
    await bucket.put(b"x", acl="public-read")
    for method, status in (("GET", 200), ("HEAD", 200), ("PUT", 403), ("DELETE", 403)):
        async with http.request(method, address) as reply:
            assert (method, reply.status) == (method, status)


async def test_a_presigned_link_reads_one_object_for_a_while(
    bucket: Bucket, sandbox: Sandbox, http: aiohttp.ClientSession
) -> None:
    """Without a key, until its second; and nothing else."""
    await bucket.put(b"x")
    await bucket.put(b"y", key="other")
    link = await bucket.link()
    async with http.get(link) as reply:
        assert (reply.status, await reply.read()) == (200, b"x")
    for changed in (link.replace(quote(KEY), "other"), f"{link}&a=b"):
        async with http.get(changed) as reply:
            assert reply.status == 403
    async with http.put(link, data=b"z", headers={"Content-Type": ""}) as reply:
        assert reply.status == 403
    sandbox.reconfigure(clock_offset_s=61)
    async with http.get(link) as reply:
        assert (reply.status, "expired" in await reply.text()) == (403, True)


async def test_who_signs_is_looked_at(sandbox: Sandbox) -> None:
    """Wrong secret, wrong region, a bucket that is not there, a token that ended: each has OSS's own code."""
    for changes, code in (
        ({"secret": "other"}, ("SignatureDoesNotMatch", 403)),
        ({"region": "cn-shanghai"}, ("InvalidArgument", 400)),
        ({"token": "t"}, ("InvalidSecurityToken", 403)),
        ({"signature_version": "v1"}, ("InvalidArgument", 400)),
    ):
        wrong = Bucket(sandbox, **changes)
        assert await code_of(wrong.put()) == code
        await wrong.client.close()
    right = Bucket(sandbox, token="t")
    ended = datetime.now(UTC).timestamp()
    sandbox.reconfigure(credentials=(Credential(security_token="t", expires_at_s=ended),))
    assert await code_of(right.put()) == ("SecurityTokenExpired", 403)
    sandbox.reconfigure(credentials=(Credential(security_token="t"),), oss_buckets=("others",))
    assert await code_of(right.put()) == ("NoSuchBucket", 404)
    await right.client.close()


async def test_what_is_put_is_checked(bucket: Bucket, sandbox: Sandbox) -> None:
    """A digest of something else, an unknown ACL, too many bytes: nothing is stored."""
    digest = base64.b64encode(hashlib.md5(b"y", usedforsecurity=False).digest()).decode()
    assert await code_of(bucket.put(b"x", content_md5=digest)) == ("InvalidDigest", 400)
    assert await code_of(bucket.put(b"x", acl="mine")) == ("InvalidArgument", 400)
    sandbox.reconfigure(max_object_bytes=10)
    assert await code_of(bucket.put(b"x" * 11)) == ("RequestEntityTooLarge", 413)
    assert await code_of(bucket.put(b"x", key="/k")) == ("InvalidObjectName", 400)
    assert sandbox.objects.names == []


async def test_faults_strike_oss_by_its_operations(bucket: Bucket, sandbox: Sandbox) -> None:
    """Only those named: ``*`` is of ESA's API. What comes after the commit has stored the object."""
    sandbox.reconfigure(faults=(Fault(kind="error_before", probability=1),))
    await bucket.put()
    sandbox.reconfigure(faults=(Fault(kind="error_before", operation="PutObject", first=1),))
    assert await code_of(bucket.put(b"2")) == ("ServiceUnavailable", 503)
    assert (await bucket.get()).body.content == b"x\n"
    sandbox.reconfigure(faults=(Fault(kind="error_after", operation="PutObject", first=1, status=500),))
    assert await code_of(bucket.put(b"3")) == ("ServiceUnavailable", 500)
    assert (await bucket.get()).body.content == b"3"
    refuse = Fault(kind="refuse", operation="DeleteObject", first=1, status=403, code="AccessDenied")
    # Twice: the HTTP library repeats a call once, when a connection that it had kept is gone.
    lost = Fault(kind="lost_after", operation="DeleteObject", calls=(2, 3))
    sandbox.reconfigure(faults=(refuse, lost))
    assert await code_of(bucket.delete()) == ("AccessDenied", 403)
    with pytest.raises(oss.exceptions.OperationError):
        await bucket.delete()
    assert sandbox.objects.names == []
    assert sandbox.stats()["calls"]["PutObject"] == {"OK": 2}
    assert sandbox.stats()["faults"] == {"error_before": 1, "error_after": 1, "refuse": 1, "lost_after": 2}


async def test_a_job_reads_its_list(bucket: Bucket, esa: Esa, sandbox: Sandbox) -> None:
    """Through a pre-signed link, a public object's address, or not at all: then it is a job of nothing."""
    sandbox.reconfigure(sites={SITE_ID: ("example.com",)})
    await bucket.put(f"{A}\n{B}\r\n{C}\n".encode())
    link, plain = await bucket.link(), f"{sandbox.url}/lists/{quote(KEY)}"
    job = await create(esa, link)
    assert (job.url_count, job.url_submitted, job.error_info, job.insert_way) == (3, 3, "", "oss")
    assert sandbox.account.job(job.id).accepted == [A, B, C]
    short = await bucket.link(lives_s=1.5)
    sandbox.reconfigure(clock_offset_s=2)
    for address in (
        plain,
        short,
        f"{link}0",
        await bucket.link("none"),
        "https://lists.example/x",
        "nothing",
        "http://[::1",
    ):
        job = await create(esa, address)
        assert (job.url_count, job.url_submitted, job.error_info) == (0, 0, "OtherErrors")
    await bucket.put(A.encode(), acl="public-read")
    assert (await create(esa, plain)).url_count == 1


async def test_lists_are_refused_in_part_as_text_boxes_are(
    bucket: Bucket, esa: Esa, sandbox: Sandbox, http: aiohttp.ClientSession
) -> None:
    """Foreign domains and what is over the quota are in the file that FailedFileOss names."""
    sandbox.reconfigure(sites={SITE_ID: ("example.com",)}, url_quota_per_site=2)
    await bucket.put("\n".join([A, OTHER, B, C]).encode())
    job = await create(esa, await bucket.link())
    assert (job.url_count, job.url_submitted, job.error_info) == (4, 2, "InvalidDomain,QuotaExcess")
    async with http.get(job.failed_file_oss) as reply:
        assert await reply.text() == f"{OTHER}\tInvalidDomain\n{C}\tQuotaExcess\n"


async def test_a_list_has_a_largest_size(bucket: Bucket, esa: Esa, sandbox: Sandbox) -> None:
    """10 MB unless said otherwise; no job is made of more."""
    sandbox.reconfigure(max_list_bytes=len(A))
    await bucket.put(A.encode())
    assert (await create(esa, await bucket.link())).url_count == 1
    await bucket.put(f"{A}b".encode())
    with pytest.raises(Exception, match="larger than"):
        await create(esa, await bucket.link())
    assert len(sandbox.jobs()) == 1


async def test_what_esa_reads_may_be_spoilt(bucket: Bucket, esa: Esa, sandbox: Sandbox) -> None:
    """Half of the list, or nothing of it: the job says how many lines there were."""
    await bucket.put("\n".join([A, B, C, OTHER]).encode())
    link = await bucket.link()
    counts: list[int] = []
    for kind in ("half", "error_before"):
        sandbox.reconfigure(faults=(Fault(kind=kind, operation="ReadList", first=1),))
        counts += [(await create(esa, link)).url_count, (await create(esa, link)).url_count]
    assert counts == [2, 4, 0, 4]


async def test_a_hundred_thousand_urls(bucket: Bucket, sandbox: Sandbox) -> None:
    """A list of five megabytes is one job."""
    urls = [f"https://www.example.com/images/{number:06}.webp" for number in range(100_000)]
    await bucket.put("\n".join(urls).encode())
    job = await create(Esa(client(sandbox.endpoint)), await bucket.link())
    assert (job.url_count, job.url_submitted) == (100_000, 100_000)


async def test_nobody_is_checked_when_nobody_is(http: aiohttp.ClientSession) -> None:
    """``verify_signatures`` off is of objects, too."""
    async with Sandbox(SandboxConfig(verify_signatures=False)) as sandbox:
        async with http.put(f"{sandbox.url}/lists/k", data=b"x") as reply:
            assert reply.status == 200
        async with http.get(f"{sandbox.url}/lists/k") as reply:
            assert await reply.read() == b"x"
