"""The store of lists against the simulated OSS, over HTTP: what it stores, repeats, and says when it fails."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import traceback
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from esa_preload_worker import oss
from esa_preload_worker.esa import BlockedError, EsaClient
from esa_preload_worker.esa.credentials import Credential
from esa_preload_worker.oss import ListStore, OssError, list_store, object_name
from esa_preload_worker.sandbox import Credential as Known
from esa_preload_worker.sandbox import Fault, Sandbox, SandboxConfig
from esa_preload_worker.settings import Settings, load
from integration.esa.loopback import Source, raw_server, read_request
from ports import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

SECRET = "canary/key+secret=1"
TOKEN = "canary/security+token==2"
SITE = 190007158391808
LINES = b"https://www.example.com/a\nhttps://www.example.com/b\n"


def settings_of(endpoint: str, **variables: str) -> Settings:
    """Return settings with a bucket at *endpoint*; calls take a second at most."""
    given = {"REDIS_URL": "redis://h", "OSS_BUCKET": "lists", "OSS_ENDPOINT": endpoint, "CALL_TIMEOUT": "1"}
    return load({f"ESA_PRELOAD_{name}": value for name, value in (given | variables).items()}).settings


@contextlib.asynccontextmanager
async def store_of(settings: Settings, *credentials: Credential, **environ: str) -> AsyncGenerator[ListStore]:
    """Open the store of *settings*."""
    store = list_store(settings, Source(*(credentials or (key(),))), environ)
    assert store is not None
    async with store:
        yield store


def key(*, secret: str = SECRET, token: str = TOKEN) -> Credential:
    """Return the credential that the sandbox knows, unless said otherwise."""
    return Credential(access_key_id="k", access_key_secret=secret, security_token=token)


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    """A simulated ESA and OSS with one access key."""
    known = Known(access_key_id="k", access_key_secret=SECRET, security_token=TOKEN)
    async with Sandbox(SandboxConfig(credentials=(known,))) as running:
        yield running


@pytest.fixture
def settings(sandbox: Sandbox) -> Settings:
    """Settings with a bucket of the sandbox."""
    return settings_of(sandbox.url)


@pytest.fixture
async def store(settings: Settings) -> AsyncIterator[ListStore]:
    """The store of that bucket."""
    async with store_of(settings) as opened:
        yield opened


async def failure_of(call: Any, *others: object) -> OssError:
    """Return what *call* raises: no secret is in it, nor behind it."""
    with pytest.raises(OssError) as caught:
        await call
    exc = caught.value
    shown = (
        "".join(traceback.format_exception(exc)) + f"{exc!r}{vars(exc)!r}{exc.__context__!r}{exc.__cause__!r}"
    )
    shown += "".join(f"{other!r}{other}" for other in others)
    assert "canary" not in shown
    assert "signature=" not in shown.lower()
    return exc


def test_no_bucket_no_store() -> None:
    """And nothing of the library is asked for."""
    assert list_store(load({"ESA_PRELOAD_REDIS_URL": "redis://h"}).settings, Source(), {}) is None


def test_an_object_is_named_after_its_batch(settings: Settings) -> None:
    """Below prefix and namespace: one rule of a policy or of a lifecycle covers them."""
    assert object_name(settings, "b1") == "esa-preload/default/b1.txt"
    other = settings_of("http://127.0.0.1:1", OSS_PREFIX="lists", NAMESPACE="blue")
    assert object_name(other, "b1") == "listsblue/b1.txt"


def test_nothing_is_loaded_without_a_bucket() -> None:
    """A worker without one pays neither the time nor the memory of the library."""
    program = (
        "import sys, esa_preload_worker.service, esa_preload_worker.check.run\n"
        "print(*{'alibabacloud_oss_v2', 'requests', 'crcmod', 'Crypto'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "", "")


async def test_a_list_is_put_linked_and_deleted(
    store: ListStore, settings: Settings, sandbox: Sandbox
) -> None:
    """Text that is private in a public bucket, too; ESA reads it by the link alone; putting and deleting are safe to repeat."""
    sandbox.reconfigure(oss_is_public=True)
    name = object_name(settings, "b1")
    for lines in (b"old", LINES, LINES):
        await store.put(name, lines)
    assert await store.get(name) == LINES
    link = await store.link(name)
    async with aiohttp.ClientSession() as http:
        async with http.get(link) as reply:
            assert (reply.status, await reply.read()) == (200, LINES)
            assert reply.headers["Content-Type"] == "text/plain; charset=utf-8"
        async with http.get(link.partition("?")[0]) as reply:
            assert reply.status == 403
        for _ in range(2):
            await store.delete(name)
        async with http.get(link) as reply:
            assert reply.status == 404
    assert sandbox.objects.names == []
    await store.put(name, b"")
    assert await store.get(name) == b""


async def test_esa_reads_what_the_link_names(store: ListStore, settings: Settings, sandbox: Sandbox) -> None:
    """The client of ESA makes a job of it; ten megabytes too, and the loop is not held up meanwhile."""
    name = object_name(settings, "b1")
    urls = [f"https://www.example.com/{number:0300}" for number in range(30_000)]
    beats = 0

    async def beat() -> None:
        nonlocal beats
        while True:
            beats += 1
            await asyncio.sleep(0)

    beating = asyncio.create_task(beat())
    await store.put(name, "\n".join(urls).encode())
    beating.cancel()
    assert beats > 20
    async with EsaClient(sandbox.url, Source(key()), 5) as esa:
        job = await esa.create_job_from_list(
            site_id=SITE, name="preload-default-b1", oss_url=await store.link(name)
        )
    assert (job.url_count, job.url_submitted) == (30_000, 30_000)


async def test_a_plain_link_is_an_address(sandbox: Sandbox) -> None:
    """No signature, no credential: a policy of the bucket must let ESA read."""
    for endpoint, host in (
        (sandbox.url, f"{sandbox.url}/lists/"),
        ("https://oss-cn-hangzhou-internal.aliyuncs.com", "https://lists.oss-cn-hangzhou.aliyuncs.com/"),
        ("https://lists.example.com", "https://lists.example.com/"),
    ):
        async with store_of(settings_of(endpoint, OSS_LINK="plain")) as store:
            assert await store.link("a/b c.txt") == f"{host}a/b%20c.txt"


@pytest.mark.parametrize(
    ("endpoint", "begins", "region"),
    [
        ("https://oss-cn-shanghai-internal.aliyuncs.com", "https://lists.oss-cn-shanghai.aliyuncs.com/a.txt?", "cn-shanghai"),
        ("https://lists.example.com", "https://lists.example.com/a.txt?", "cn-hangzhou"),
        ("", "https://lists.oss-cn-hangzhou.aliyuncs.com/a.txt?", "cn-hangzhou"),
    ],
)  # fmt: skip
async def test_a_signed_link_is_for_who_is_outside(endpoint: str, begins: str, region: str) -> None:
    """ESA is in no VPC of ours; the link holds for a day and names the region of the bucket."""
    async with store_of(settings_of(endpoint)) as store:
        link = await store.link("a.txt")
    assert link.startswith(begins)
    assert f"%2F{region}%2Foss%2Faliyun_v4_request" in link
    (expires,) = (part.partition("=")[2] for part in link.split("&") if part.startswith("x-oss-expires="))
    assert 86_390 <= int(expires) <= 86_400


@pytest.mark.parametrize("kind", ["error_before", "error_after", "lost_before", "reset_after", "slow_after"])
async def test_passing_trouble_is_repeated(
    store: ListStore, settings: Settings, sandbox: Sandbox, kind: Any
) -> None:
    """Twice in a row, on a connection that was used before too: the list is there, whole, and nobody hears of it."""
    name, lines = object_name(settings, "b1"), LINES * 5_000
    await store.put(name, b"before")
    sandbox.reconfigure(faults=(Fault(kind=kind, operation="PutObject", first=2, delay_s=1.5),))
    await store.put(name, lines)
    assert await store.get(name) == lines


async def test_trouble_that_lasts_is_told(store: ListStore, sandbox: Sandbox) -> None:
    """After three attempts; it may pass."""
    sandbox.reconfigure(faults=(Fault(kind="error_before", operation="PutObject", probability=1),))
    exc = await failure_of(store.put("a", LINES), store)
    assert (exc.code, exc.is_passing) == ("ServiceUnavailable", True)
    assert sandbox.stats()["faults"] == {"error_before": 3}


@pytest.mark.parametrize("operation", ["PutObject", "DeleteObject", "GetObject"])
async def test_a_missing_permission_is_named(store: ListStore, sandbox: Sandbox, operation: str) -> None:
    """With what to grant, and on what; asking again would change nothing."""
    refuse = Fault(kind="refuse", operation=operation, probability=1, status=403, code="AccessDenied")
    sandbox.reconfigure(faults=(refuse,))
    calls = {
        "PutObject": store.put("a", LINES),
        "DeleteObject": store.delete("a"),
        "GetObject": store.get("a"),
    }
    exc = await failure_of(calls.pop(operation), store)
    for call in calls.values():
        call.close()
    assert (exc.code, exc.is_passing) == ("AccessDenied", False)
    assert f"grant oss:{operation} " in exc.hint
    assert "on acs:oss:*:*:lists/esa-preload/*" in exc.hint
    assert sandbox.stats()["faults"] == {"refuse": 1}


async def test_a_rotated_key_is_fetched_once(settings: Settings) -> None:
    """A key that OSS does not take any more is renewed, and the call made again; one that stays wrong is told."""
    old, new = key(secret="canary-old"), key()
    known = Known(access_key_id="k", access_key_secret=SECRET, security_token=TOKEN)
    async with Sandbox(SandboxConfig(credentials=(known,))) as sandbox:
        there = settings_of(sandbox.url)
        async with store_of(there, old, new) as store:
            await store.put("a", LINES)
            await store.put("b", LINES)
        assert sandbox.stats()["calls"]["PutObject"] == {"SignatureDoesNotMatch": 1, "OK": 2}
        async with store_of(there, key(token="canary-other"), old) as store:
            exc = await failure_of(store.put("a", LINES), store)
        assert (exc.code, exc.is_passing) == ("SignatureDoesNotMatch", False)


async def test_without_credentials_nothing_is_sent(settings: Settings) -> None:
    """What is missing is said as it is for ESA."""

    class Nobody:
        async def get(self) -> Credential:
            raise BlockedError("none", scope="account", code="no_credentials", hint="set them")

        refresh = get

    store = list_store(settings, Nobody(), {})
    assert store is not None
    async with store:
        exc = await failure_of(store.put("a", LINES))
        assert (exc.code, exc.hint, exc.is_passing) == ("no_credentials", "set them", False)
        await failure_of(store.link("a"))


async def test_nobody_there(settings: Settings) -> None:
    """Refused, or silent: it may pass, and nothing hangs."""
    async with store_of(settings_of(f"http://127.0.0.1:{free_port()}")) as store:
        exc = await failure_of(store.put("a", LINES), store)
    assert (exc.code, exc.is_passing) == ("oss.not_reached", True)


async def test_a_call_has_an_end(
    settings: Settings, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reply that drips in keeps every single read going: the whole is bounded, too."""
    monkeypatch.setattr(oss, "TOTAL_S", 0.3)
    sandbox.reconfigure(faults=(Fault(kind="drip", operation="GetObject", probability=1, delay_s=0.05),))
    async with store_of(settings) as store:
        await store.put("a", LINES)
        exc = await failure_of(store.get("a"), store)
    assert (exc.code, exc.is_passing) == ("oss.timeout", True)


async def test_what_oss_echoes_goes_no_further(settings: Settings) -> None:
    """An error page may hold what was signed, or be of somebody else."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        body = f"<Error><Code>{TOKEN}</Code><Message>{SECRET}</Message><RequestId>{TOKEN}</RequestId></Error>"
        writer.write(
            f"HTTP/1.1 403 x\r\nDate: Tue, 24 Nov 2026 04:32:46 GMT\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
        )
        await writer.drain()

    async with raw_server(answer) as port, store_of(settings_of(f"http://127.0.0.1:{port}")) as store:
        exc = await failure_of(store.delete("a"), store)
    assert exc.code == "HTTP403"


async def test_a_proxy_is_told_who_we_are() -> None:
    """HTTPS_PROXY is honoured with its login; NO_PROXY too; what it answers is not shown."""
    heads: list[bytes] = []

    async def deny(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 407 canary\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()

    async with raw_server(deny) as port:
        proxy = f"http://u:canary@127.0.0.1:{port}"
        settings = settings_of("https://lists.invalid")
        async with store_of(settings, HTTPS_PROXY=proxy) as store:
            exc = await failure_of(store.put("a", LINES), store)
            assert await store.link("a")
        assert (exc.code, exc.is_passing) == ("oss.not_reached", True)
        assert heads[0].startswith(b"CONNECT lists.invalid:443 ")
        assert b"proxy-authorization: basic dtpjyw5hcnk=" in heads[0].lower()
        count = len(heads)
        async with store_of(settings, HTTPS_PROXY=proxy, NO_PROXY="lists.invalid") as store:
            assert (await failure_of(store.put("a", LINES), store)).code == "oss.not_reached"
        assert len(heads) == count
