"""Invariant 8 on the real thing: secrets of every kind go in, everything that comes out is searched for them."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import httpx
import pytest

from esa_preload.client import PreloadClient
from esa_preload.connection import connect
from esa_preload.scripts import as_text, command
from esa_preload_worker.esa import ChainCredentials, EsaClient, StaticCredentials
from esa_preload_worker.esa.endpoint import Proxies
from esa_preload_worker.sandbox import Fault, Sandbox, SandboxConfig
from esa_preload_worker.sandbox.config import Credential
from esa_preload_worker.settings import load
from integration.esa.loopback import raw_server
from integration.security.canaries import (
    ACCESS_KEY_SECRET,
    ENDPOINT_PASSWORD,
    LOGIN,
    PROXY_PASSWORD,
    QUERY,
    REDIS_PASSWORD,
    SECURITY_TOKEN,
    SENTINEL_PASSWORD,
    URI_TOKEN,
    found_in,
    spellings,
)
from integration.security.servers import SecureServer, secure_server
from ports import free_port
from processes import environment, finish, started
from waiting import wait_until, wait_until_async

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from processes import Finished, Running

SITE = 190007158391808
KNOWN = Credential(access_key_id="known", access_key_secret=ACCESS_KEY_SECRET, security_token=SECURITY_TOKEN)
USER = "operator"
PROXY = f"http://proxy-user:{quote(PROXY_PASSWORD, safe='')}@127.0.0.1"


@dataclass
class Evidence:
    """Everything that came out, under the name of where; searched at once."""

    seen: dict[str, str] = field(default_factory=dict[str, str])

    def add(self, where: str, text: str, *, may_show_urls: bool = False) -> None:
        """Keep *text*, and search it."""
        self.seen[where] = text
        assert not found_in(text), f"{where} shows {found_in(text)}: {text}"
        assert may_show_urls or QUERY not in text, f"{where} shows a URL's query: {text}"

    async def run(
        self, *arguments: str, env: dict[str, str], codes: tuple[int, ...], may_show_urls: bool = False
    ) -> Finished:
        """Run a command that ends with one of *codes*; what it prints is searched."""
        ended = await finish(*arguments, env=env)
        self.add(f"{arguments} out", ended.out, may_show_urls=may_show_urls)
        self.add(f"{arguments} err", ended.err)
        assert ended.code in codes, (arguments, ended)
        assert "Traceback" not in ended.err, ended.err
        return ended

    async def watch(self, worker: Running) -> None:
        """Search what a running worker shows: its pages, its title."""
        ops_url = (await wait_until(lambda: worker.events("worker.started")))[0]["ops_url"]
        async with httpx.AsyncClient(trust_env=False) as http:
            for page in ("metrics", "readyz", "livez"):
                self.add(page, (await http.get(f"{ops_url}/{page}")).text)
        process = Path(f"/proc/{worker.process.pid}")
        for name in ("cmdline", "comm", "status"):
            self.add(name, (process / name).read_bytes().decode(errors="replace"))


@dataclass(kw_only=True)
class Place:
    """A queue behind a password, a sandbox that wants a session token, and the environment of whoever uses them."""

    server: SecureServer
    sandbox: Sandbox
    redis_url: str
    env: dict[str, str]
    evidence: Evidence = field(default_factory=Evidence)


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    """The secrets are in the environment, in a file, and where each is used."""
    async with (
        secure_server("valkey") as server,
        Sandbox(SandboxConfig(credentials=(KNOWN,), sites={SITE: ("example.com",)})) as sandbox,
    ):
        await server.admin("ACL", "SETUSER", USER, "on", f">{REDIS_PASSWORD}", "~*", "&*", "+@all")
        await server.admin("CONFIG", "SET", "requirepass", REDIS_PASSWORD)
        redis_url = server.url(USER, quote(REDIS_PASSWORD, safe=""))
        secret = server.directory / "redis-url"
        secret.write_text(redis_url + "\n")
        env = environment(
            ESA_PRELOAD_REDIS_URL_FILE=str(secret),
            ESA_PRELOAD_ENDPOINT=sandbox.url,
            ESA_PRELOAD_OPS_PORT="0",
            ESA_PRELOAD_LOG_LEVEL="debug",
            ESA_PRELOAD_LOG_FORMAT="json",
            ESA_PRELOAD_BATCH_QUIET="0.1",
            ESA_PRELOAD_RATE_INITIAL="100",
            ESA_PRELOAD_LEASE="2",  # a start waits for half of it
            ALIBABA_CLOUD_ACCESS_KEY_ID=KNOWN.access_key_id,
            ALIBABA_CLOUD_ACCESS_KEY_SECRET=ACCESS_KEY_SECRET,
            ALIBABA_CLOUD_SECURITY_TOKEN=SECURITY_TOKEN,
            HTTPS_PROXY=f"{PROXY}:1",
        )
        yield Place(server=server, sandbox=sandbox, redis_url=redis_url, env=env)


@asynccontextmanager
async def worker_of(place: Place, **variables: str) -> AsyncGenerator[Running]:
    """Run a worker while inside; its log is searched at the end."""
    async with started("esa-preload-worker", "run", env=place.env | variables) as worker:
        yield worker
        if worker.process.returncode is None:
            worker.process.terminate()
            assert await worker.ended() == 0
    place.evidence.add(f"log {sorted(variables)}", "\n".join(worker.lines))


def urls(count: int, *, host: str = "www.example.com") -> list[str]:
    """Return *count* URLs that hold a secret of whoever will fetch them."""
    return [f"https://{host}/{i}.js?token={QUERY}" for i in range(count)]


async def stored(place: Place) -> dict[str, str]:
    """Return every key with its value, whatever its type."""
    client = connect(place.redis_url)
    readers: dict[str, list[Any]] = {
        "string": ["GET"],
        "hash": ["HGETALL"],
        "list": ["LRANGE", 0, -1],
        "zset": ["ZRANGE", 0, -1],
        "set": ["SMEMBERS"],
        "stream": ["XRANGE", "-", "+"],
    }
    try:
        found: dict[str, str] = {}
        for raw in await command(client, "KEYS", "*"):
            name, *bounds = readers[as_text(await command(client, "TYPE", raw))]
            found[as_text(raw)] = repr(await command(client, name, raw, *bounds))
        return found
    finally:
        await client.aclose()


async def search_redis(place: Place) -> None:
    """Search every key, every value, and every byte of the append-only file."""
    held = await stored(place)
    assert held
    for key, value in held.items():
        place.evidence.add("a key's name", key)
        place.evidence.add(key, value, may_show_urls=True)
    assert QUERY in "".join(held.values()), "the search would find what is there"
    files = [path for path in place.server.directory.rglob("*") if "aof" in path.name and path.is_file()]
    written = b"".join(path.read_bytes() for path in files)
    assert QUERY.encode() in written
    place.evidence.add("the append-only file", written.decode(errors="replace"), may_show_urls=True)


async def test_a_queue_that_works_and_then_does_not(place: Place) -> None:
    """Submitted, refused, blocked for a bad signature and for an expired token: no secret in any output, nor in Redis."""
    evidence, site = place.evidence, ["--site", str(SITE)]
    producer = {**place.env, "ESA_PRELOAD_REDIS_URL": place.redis_url}
    odd = [f"ftp://x/?{QUERY}", f"https://user:{QUERY}@www.example.com/"]
    given = [*urls(5), *urls(2, host="x.example.net"), *odd]
    enqueued = await evidence.run("esa-preload", "enqueue", *site, "--json", *given, env=producer, codes=(1,), may_show_urls=True)  # fmt: skip
    request_id = enqueued.json()["request_id"]
    async with worker_of(place) as worker, PreloadClient(place.redis_url) as client:
        assert (await client.wait(request_id, timeout=30)).submitted == 5
        await evidence.watch(worker)
        other = Credential(access_key_id="known", access_key_secret="another", security_token=SECURITY_TOKEN)
        place.sandbox.reconfigure(credentials=(other,))
        await client.enqueue(SITE, urls(6))
        await wait_until(lambda: worker.events("site.blocked"))
        await evidence.watch(worker)
        place.sandbox.reconfigure(credentials=(KNOWN,))
        await client.resume(None)

        async def all_went() -> bool:
            return (await client.sites())[0].pending == 0

        await wait_until_async(all_went)
        expired = Credential(
            access_key_id="known",
            access_key_secret=ACCESS_KEY_SECRET,
            security_token=SECURITY_TOKEN,
            expires_at_s=time.time() - 1,
        )
        place.sandbox.reconfigure(credentials=(expired,))
        await client.enqueue(SITE, urls(7))
        await wait_until(lambda: len(worker.events("site.blocked")) > 1)
        await evidence.watch(worker)
        held = connect(place.redis_url)
        for shown in (client, held, place.sandbox, place.sandbox.config):
            evidence.add(type(shown).__name__, f"{shown!r} {shown}")
        evidence.add("stats", f"{place.sandbox.stats()}", may_show_urls=True)
        await held.aclose()
    assert {"signature", "credentials"} <= {
        str(event.get("reason")) for event in worker.events("site.blocked")
    }
    for arguments in (["status", request_id], ["sites"], ["failures"], ["resume", str(SITE)]):
        await evidence.run("esa-preload", *arguments, env=producer, codes=(0, 1), may_show_urls=arguments[0] == "failures")  # fmt: skip
    await search_redis(place)


async def test_lists_in_a_bucket(place: Place) -> None:
    """A link to a list holds a signature and a token: submitted, not readable, refused; neither gets out, nor into Redis."""
    bucket = {"ESA_PRELOAD_OSS_BUCKET": "lists", "ESA_PRELOAD_OSS_ENDPOINT": place.sandbox.url}
    refuse = Fault(kind="refuse", operation="PutObject", first=1, status=403, code="AccessDenied")
    faults = ((), (Fault(kind="error_before", operation="ReadList", first=1),), (refuse,))
    place.sandbox.reconfigure(sites={})
    async with (
        # One batch at a time: a second one would gather what the first gives back, into a list that no fault strikes.
        worker_of(place, **bucket, ESA_PRELOAD_OSS_MIN_URLS="100", ESA_PRELOAD_MAX_JOBS="1") as worker,
        PreloadClient(place.redis_url) as client,
    ):
        for site, some in enumerate(faults, SITE):
            place.sandbox.reconfigure(faults=some)
            receipt = await client.enqueue(site, urls(300))
            assert (await client.wait(receipt.request_id, timeout=30)).submitted == 300
        await place.evidence.watch(worker)
    ways = [(job["site_id"] - SITE, job["insert_way"]) for job in place.sandbox.jobs() if job["plans_made"]]
    assert set(ways) == {(0, "oss"), (1, "textBox"), (2, "textBox")}
    codes = [event["code"] for event in worker.events("bulk.put_back")]
    assert codes == ["list_misread", "AccessDenied"]
    await place.evidence.run("esa-preload-worker", "check", env=place.env | bucket, codes=(0,))
    async with PreloadClient(place.redis_url) as client:
        await client.enqueue(SITE, urls(3))
    await search_redis(place)
    assert not any("x-oss-" in text for text in place.evidence.seen.values())


async def test_looking_without_running(place: Place) -> None:
    """Every form of check, and the settings in every form, say what is wrong without saying what is secret."""
    async with PreloadClient(place.redis_url) as client:
        await client.enqueue(SITE, urls(3))
    for options in ([], ["--json"], ["--ledger"], ["--ledger", "--repair"]):
        await place.evidence.run("esa-preload-worker", "check", *options, env=place.env, codes=(0, 1))
    live = place.env | {"ESA_PRELOAD_OPS_PORT": str(free_port())}
    await place.evidence.run("esa-preload-worker", "check", "--live", env=live, codes=(1,))
    for options in ([], ["--env"], ["--json"], ["--markdown"]):
        await place.evidence.run("esa-preload-worker", "settings", *options, env=place.env, codes=(0,))


async def echo_login(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Be a proxy that refuses, and says whom."""
    head = await reader.readuntil(b"\r\n\r\n")
    login = head.lower().split(b"proxy-authorization: ")[1].split(b"\r\n")[0]
    assert login == f"Basic {LOGIN}".lower().encode()
    writer.write(b"HTTP/1.1 407 %b\r\nContent-Length: %d\r\n\r\n%b" % (login, len(login), login))


async def test_every_start_that_fails(place: Place) -> None:
    """Wrong passwords, addresses, certificates and settings, of a worker and of a producer."""
    directory = place.server.directory
    wrong = place.server.url(USER, quote(REDIS_PASSWORD + "x", safe=""))
    plain = place.redis_url.replace("rediss:", "redis:").partition("?")[0]
    sentinel = f"redis+sentinel://u:{quote(REDIS_PASSWORD, safe='')}@127.0.0.1:1/q?sentinel_password={SENTINEL_PASSWORD}"
    starts = {
        "a wrong password": {"ESA_PRELOAD_REDIS_URL": wrong},
        "no TLS": {"ESA_PRELOAD_REDIS_URL": plain},
        "no server": {"ESA_PRELOAD_REDIS_URL": place.redis_url.replace(str(place.server.port), "1")},
        "no authority": {"ESA_PRELOAD_REDIS_URL": place.redis_url.replace("ca.pem", f"{directory.name}.pem")},
        "a password that is not encoded": {
            "ESA_PRELOAD_REDIS_URL": f"redis://{USER}:{REDIS_PASSWORD}@127.0.0.1/0"
        },
        "a parameter that is none": {"ESA_PRELOAD_REDIS_URL": f"{place.redis_url}&x={SENTINEL_PASSWORD}"},
        "no sentinel": {"ESA_PRELOAD_REDIS_URL": sentinel},
        "an endpoint with a password": {"ESA_PRELOAD_ENDPOINT": f"https://u:{ENDPOINT_PASSWORD}@esa.invalid"},
        "a proxy that is none": {
            "ESA_PRELOAD_ENDPOINT": "https://esa.invalid",
            "HTTPS_PROXY": f"socks5://u:{quote(PROXY_PASSWORD, safe='')}@h:1",
        },
    }
    for number, variables in enumerate(starts.values()):
        env = place.env | variables
        # Each is a process: the worker always, the others in turn.
        other = ["esa-preload-worker", "check"] if number % 2 else ["esa-preload", "sites"]
        commands = [["esa-preload-worker", "run", "--burst"], other]
        runs = (place.evidence.run(*arguments, env=env, codes=(0, 1, 2, 3)) for arguments in commands)
        await asyncio.gather(*runs)


async def test_every_call_that_fails(place: Place) -> None:
    """A proxy that repeats its password, a dead one, no TLS where some should be, and nobody there; in both forms of the log."""
    async with raw_server(echo_login) as proxy, raw_server(_answer_plainly) as no_tls:
        dead = free_port()
        for number, (endpoint, proxy_url) in enumerate(
            [
                ("https://esa.invalid", f"{PROXY}:{proxy}"),
                ("https://esa.invalid", f"{PROXY}:{dead}"),
                (f"https://127.0.0.1:{no_tls}", ""),
                (f"https://127.0.0.1:{dead}", ""),
            ]
        ):
            variables = {
                "ESA_PRELOAD_NAMESPACE": f"n{number}",
                "ESA_PRELOAD_ENDPOINT": endpoint,
                "ESA_PRELOAD_LOG_FORMAT": "console" if number % 2 else "json",
                "HTTPS_PROXY": proxy_url,
            }
            async with PreloadClient(place.redis_url, namespace=f"n{number}") as client:
                await client.enqueue(SITE, urls(1))
            async with worker_of(place, **variables) as worker:
                await wait_until(partial(said, worker, "not_sent."))
    await search_redis(place)


def said(worker: Running, word: str) -> bool:
    """Tell whether a worker's log holds *word*."""
    return any(word in line for line in worker.lines)


async def _answer_plainly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1)
    writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")


@pytest.mark.parametrize("does_answer", [True, False])
async def test_credentials_from_a_uri(place: Place, does_answer: bool) -> None:
    """The library's own errors quote the URI and the reply: neither gets through, and credentials that come so work."""
    body = (
        f'{{"Code":"{"Success" if does_answer else "No"}","AccessKeyId":"known","AccessKeySecret":"{ACCESS_KEY_SECRET}",'
        f'"SecurityToken":"{SECURITY_TOKEN}","Expiration":"2199-01-01T00:00:00Z"}}'
    )

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(
            b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b"
            % (len(body), body.encode())
        )

    kept = {
        name: value for name, value in place.env.items() if "ACCESS_KEY" not in name and "TOKEN" not in name
    }
    async with raw_server(answer) as port:
        env = kept | {"ALIBABA_CLOUD_CREDENTIALS_URI": f"http://127.0.0.1:{port}/c?token={URI_TOKEN}"}
        checked = await place.evidence.run(
            "esa-preload-worker", "check", env=env, codes=(0,) if does_answer else (1,)
        )
        assert "credentials" in checked.out
        ended = await place.evidence.run("esa-preload-worker", "run", "--burst", env=env, codes=(0, 1, 2))
    del ended


async def test_what_a_debugger_would_print(place: Place) -> None:
    """The repr of everything that holds a secret shows none."""
    env = {name: value for name, value in place.env.items() if name != "ESA_PRELOAD_REDIS_URL_FILE"}
    loaded = load(env | {"ESA_PRELOAD_REDIS_URL": place.redis_url})
    static = StaticCredentials(env)
    credential = await static.get()

    def chain() -> Any:
        return lambda: credential

    asked = ChainCredentials(connect=chain)
    assert await asked.get() == credential
    proxies = Proxies({"HTTPS_PROXY": f"{PROXY}:1"})
    redis = connect(place.redis_url)
    await command(redis, "PING")
    sentinel = connect(f"redis+sentinel://u:canary@h/q?sentinel_password={SENTINEL_PASSWORD}")
    client = PreloadClient(place.redis_url)
    esa = EsaClient("https://esa.invalid", static, 1.0, environ={"HTTPS_PROXY": f"{PROXY}:1"})
    holders: tuple[object, ...] = (
        *(loaded, loaded.settings, static, credential, asked, proxies, redis, sentinel, client, esa, KNOWN),
        *(redis.connection_pool, proxies.proxy_for("https://esa.invalid"), place.sandbox),
    )
    for holder in holders:
        place.evidence.add(type(holder).__name__, f"{holder!r} {holder}")
    place.evidence.add(
        "dumped settings", f"{loaded.settings.model_dump()} {loaded.settings.model_dump_json()}"
    )
    await redis.aclose()
    await sentinel.aclose()
    await client.aclose()


def test_the_search_finds_what_it_looks_for() -> None:
    """Each secret is found in each of its spellings, in capitals too, and nothing where there is none."""
    for secret in (ACCESS_KEY_SECRET, REDIS_PASSWORD, PROXY_PASSWORD):
        for spelling in spellings(secret):
            assert secret in found_in(f"x {spelling.upper()} y")
            assert secret in found_in(f"x {spelling} y".encode())
    assert PROXY_PASSWORD in found_in(f"Basic {LOGIN}")
    assert found_in("no canary here") == []
