"""The sandbox over HTTP: one endpoint as ESA has it, the failed files, the buckets, and the control routes."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import json
import re
import time
from collections import Counter
from dataclasses import dataclass
from email.utils import formatdate
from random import Random
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from aiohttp import web

from esa_preload.addresses import is_loopback
from esa_preload_worker.sandbox import control, oss_replies, replies
from esa_preload_worker.sandbox.bucket import OSS_OPERATIONS, Objects, is_object_path
from esa_preload_worker.sandbox.config import ForeignJob, SandboxConfig
from esa_preload_worker.sandbox.faults import FAILED_FILE, READ_LIST, Fault, Faults
from esa_preload_worker.sandbox.forms import decode_pairs
from esa_preload_worker.sandbox.limits import Limits, hint_ms
from esa_preload_worker.sandbox.operations import (
    OPERATIONS,
    Call,
    Operation,
    decode_parameters,
    failed_file_text,
    operation_of,
)
from esa_preload_worker.sandbox.received import read, receive
from esa_preload_worker.sandbox.replies import ApiError, Body
from esa_preload_worker.sandbox.spoil import spoiled
from esa_preload_worker.sandbox.state import Account
from esa_preload_worker.sandbox.verify import Verifier

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from esa_preload_worker.sandbox.received import Received

_CONTROL = "/_sandbox/"
_FAILED_FILE = re.compile(r"/failed/([0-9a-f]{24})\.txt")
# A reply that drips or lingers must not hold up the end.
_SHUTDOWN_S = 1.0
_ELSEWHERE = "https://files.example"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Outcome:
    """What a call came to: it is committed, and the reply is still to be sent."""

    status: int
    body: Body
    retry_after_ms: int | None = None


class Sandbox:
    """
    A simulated ESA endpoint, for the length of an ``async with``.

    Attributes:
        account: the jobs and plans it holds, for tests in the same process.
        objects: what was put into its buckets.
    """

    def __init__(
        self,
        config: SandboxConfig | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """
        Prepare a sandbox; entering it starts to listen.

        Args:
            host: control routes are served on a loopback address only.
            port: 0 for a free one.
            clock: UNIX seconds; of limits as it is, of plans, signatures and creation times with the configured offset.
        """
        self._config = config or SandboxConfig()
        self._host = host
        self._port = port
        self._clock = clock
        self._has_control = is_loopback(host)
        self._limits = Limits(self._config.limits)
        self._verifier = Verifier(self._config.credentials)
        self._calls: dict[str, Counter[str]] = {}
        self._jitter = Random(self._config.seed)  # noqa: S311 - a simulation, reproducible
        self._faults = Faults(self._config.faults, Random(self._config.seed).random)  # noqa: S311 - see above
        self._struck: Counter[str] = Counter()
        self._runner: web.ServerRunner | None = None
        self.account = Account(self._config, clock)
        self.objects = Objects(self._config, self.account.now_s)

    async def __aenter__(self) -> Self:
        """Listen; on return calls are answered."""
        self._runner = web.ServerRunner(
            web.Server(self._handle, access_log=None), handle_signals=False, shutdown_timeout=_SHUTDOWN_S
        )
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self._host, self._port, backlog=1024).start()
        except BaseException:
            await self._runner.cleanup()
            raise
        self._port = int(self._runner.addresses[0][1])
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop listening and close every connection."""
        if self._runner is not None:
            await self._runner.cleanup()

    @property
    def endpoint(self) -> str:
        """Host and port, as the official SDK takes them in ``endpoint``; with ``protocol="http"``."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{host}:{self._port}"

    @property
    def url(self) -> str:
        """The address to call, without a slash at the end."""
        return f"http://{self.endpoint}"

    @property
    def config(self) -> SandboxConfig:
        """The configuration in force."""
        return self._config

    def reconfigure(self, **changes: Any) -> None:
        """
        Change fields of the configuration from the next call on.

        A new limit starts full; a new quota starts a new period; a new fault counts calls from now on. ``seed`` and
        ``foreign_jobs`` only matter at the start.

        Raises:
            ValueError: a value is out of range; nothing was changed.
        """
        config = dataclasses.replace(self._config, **changes)
        self._limits.change(config.limits, tuple(OPERATIONS), self._clock())
        self._faults.change(config.faults)
        self._verifier.change(config.credentials)
        self.account.change(config)
        self.objects.change(config)
        self._config = config

    def add_foreign_job(self, job: ForeignJob) -> str:
        """Add a job that somebody else made; return its id."""
        return self.account.add_foreign_job(job).job_id

    def jobs(self) -> list[Body]:
        """Return what ``GET /_sandbox/jobs`` returns."""
        return control.jobs_document(self.account)

    def stats(self) -> Body:
        """Return what ``GET /_sandbox/stats`` returns."""
        objects = {"objects": len(self.objects), "object_bytes": self.objects.size}
        return control.stats_document(self.account, self._calls, self._struck) | objects

    # -- a call: receive, decide and commit, reply ------------------------------------------------------------------------

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        path = request.raw_path.partition("?")[0]
        if path == "/":
            return await self._handle_call(request)
        if path.startswith(_CONTROL) and self._has_control:
            return await self._handle_control(request, path)
        if request.method == "GET" and (match := _FAILED_FILE.fullmatch(path)):
            return await self._handle_failed_file(request, match[1])
        if request.method in OSS_OPERATIONS and is_object_path(path):
            return await self._handle_object(request)
        return self._respond(_refusal(_not_served(), request.host))

    async def _handle_call(self, request: web.BaseRequest) -> web.StreamResponse:
        half_latency_s = self._latency_s() / 2
        try:
            received = await receive(request, self._config.max_body_bytes)
        except ApiError as error:
            return self._respond(_refusal(error, request.host))
        return await self._answer(
            request,
            received.operation,
            half_latency_s,
            commit=lambda fault: self._respond(self._commit(received, fault)),
            broken=lambda fault: self._respond(_broken(fault)),
        )

    async def _handle_object(self, request: web.BaseRequest) -> web.StreamResponse:
        half_latency_s = self._latency_s() / 2
        try:
            received = await receive(request, self._config.max_object_bytes)
        except ApiError as error:
            return self._object_failure(request.method, error)
        return await self._answer(
            request,
            OSS_OPERATIONS[received.method],
            half_latency_s,
            commit=lambda _: self._commit_object(received),
            broken=lambda fault: self._object_failure(received.method, _error_of(fault)),
        )

    async def _answer(
        self,
        request: web.BaseRequest,
        operation: str,
        half_latency_s: float,
        *,
        commit: Callable[[Fault | None], web.Response],
        broken: Callable[[Fault], web.Response],
    ) -> web.StreamResponse:
        """
        Answer one call.

        The steps stand apart so that a fault can come between them: nothing is decided before the call was received,
        everything is committed when *commit* has returned, and only then is there a reply to send, to delay or to lose.
        Which fault strikes is asked here, once a call.
        """
        fault = self._strike(operation)
        if before_s := half_latency_s + _delay_before_s(fault):
            await asyncio.sleep(before_s)
        reply = commit(fault) if fault is None or fault.commits else broken(fault)
        if half_latency_s:
            await asyncio.sleep(half_latency_s)
        if fault is None:
            return reply
        if fault.kind == "error_after":
            reply = broken(fault)
        return await spoiled(request, reply, fault)

    def _strike(self, operation: str) -> Fault | None:
        fault = self._faults.next(operation)
        if fault is not None:
            self._struck[fault.kind] += 1
        return fault

    def _commit(self, received: Received, fault: Fault | None) -> _Outcome:
        """Decide a call and do what it asks, at once: nothing here awaits."""
        codes = self._calls.setdefault(received.operation, Counter())
        try:
            body = self._run(received, fault)
        except ApiError as error:
            codes[error.code] += 1
            return _refusal(error, received.headers.get("host", ""))
        codes["OK"] += 1
        return _Outcome(status=200, body={"RequestId": replies.new_request_id()} | body)

    def _run(self, received: Received, fault: Fault | None) -> Body:
        operation = self._admit(received)
        query = received.target.partition("?")[2].encode("utf-8", "surrogateescape")
        call = Call(
            query=decode_parameters(decode_pairs(query)),
            form=decode_parameters(decode_pairs(received.body)),
            base_url=_ELSEWHERE if fault and fault.kind == "file_elsewhere" else received.base_url,
            most_plans=0 if fault and fault.kind == "plan_failed" else None,
            read_list=self._read_list,
        )
        return operation.run(self.account, call)

    def _read_list(self, address: str) -> bytes | None:
        """Return what ESA finds behind *address*: in the configuration, or among the objects that were put here."""
        fault = self._strike(READ_LIST)
        if fault is not None and fault.kind != "half":
            return None
        if (text := self._config.oss_objects.get(address)) is not None:
            content: bytes | None = text.encode()
        else:
            content = self.objects.read(address) if _port_of(address) == self._port else None
        if fault is None or content is None:
            return content
        lines = content.splitlines(keepends=True)
        return b"".join(lines[: len(lines) // 2])

    def _commit_object(self, received: Received) -> web.Response:
        codes = self._calls.setdefault(OSS_OPERATIONS[received.method], Counter())
        try:
            stored = self.objects.run(received.method, received.target, received.headers, received.body)
        except ApiError as error:
            codes[error.code] += 1
            return self._object_failure(received.method, error)
        codes["OK"] += 1
        return oss_replies.success(received.method, stored, now_s=self.account.now_s())

    def _object_failure(self, method: str, error: ApiError) -> web.Response:
        return oss_replies.failure(method, error, host=self.endpoint, now_s=self.account.now_s())

    def _admit(self, received: Received) -> Operation:
        if self._config.verify_signatures:
            self._verifier.verify(
                method=received.method,
                target=received.target,
                headers=received.headers,
                body=received.body,
                now_s=self.account.now_s(),
            )
        version = received.headers.get("x-acs-version", "")
        operation = operation_of(received.action, version=version, method=received.method)
        wait_s = self._limits.admit(received.action, self._clock())
        if wait_s is not None:
            raise replies.too_many_requests(
                retry_after_ms=hint_ms(wait_s) if self._config.send_hint else None
            )
        return operation

    def _respond(self, outcome: _Outcome) -> web.Response:
        headers = {
            "Content-Type": "application/json;charset=utf-8",
            # By the sandbox's clock: a client whose clock is off learns from it by how much.
            "Date": _http_date(int(self.account.now_s())),
            "x-acs-request-id": outcome.body["RequestId"],
        }
        if outcome.retry_after_ms is not None:
            headers["x-acs-retry-after"] = str(outcome.retry_after_ms)
        body = json.dumps(outcome.body, separators=(",", ":")).encode()
        return web.Response(status=outcome.status, headers=headers, body=body)

    def _latency_s(self) -> float:
        if not self._config.jitter_s:
            return self._config.latency_s
        return self._config.latency_s + self._jitter.uniform(0, self._config.jitter_s)

    # -- beside the API -----------------------------------------------------------------------------------------------------

    async def _handle_failed_file(self, request: web.BaseRequest, job_id: str) -> web.StreamResponse:
        fault = self._strike(FAILED_FILE)
        if fault is None:
            return self._failed_file(job_id)
        await asyncio.sleep(_delay_before_s(fault))
        if fault.kind in {"error_before", "error_after", "refuse"}:
            return web.Response(status=fault.http_status, text="No such file.\n")
        return await spoiled(request, self._failed_file(job_id), fault)

    def _failed_file(self, job_id: str) -> web.Response:
        job = self.account.known_job(job_id)
        if job is None or not job.refused:
            return web.Response(status=404, text="No such file.\n")
        return web.Response(text=failed_file_text(job))

    async def _handle_control(self, request: web.BaseRequest, path: str) -> web.Response:
        try:
            raw = await read(request, self._config.max_body_bytes)
            document = self._control(request.method, path.removeprefix(_CONTROL), raw)
        except (control.ControlError, ValueError) as error:
            return web.json_response({"error": str(error)}, status=400)
        except ApiError as error:
            return web.json_response({"error": error.message}, status=error.status)
        return web.json_response(document)

    def _control(self, method: str, name: str, raw: bytes) -> object:
        match method, name:
            case "GET", "jobs":
                return self.jobs()
            case "POST", "jobs":
                return {"id": self.add_foreign_job(control.foreign_job_of(raw))}
            case "GET", "stats":
                return self.stats()
            case "GET", "config":
                return control.config_document(self._config)
            case "PUT", "config":
                self.reconfigure(**control.changes_of(raw))
                return control.config_document(self._config)
            case _:
                raise _not_served()


async def serve(
    config: SandboxConfig, host: str, port: int, ready: Callable[[str], None] = lambda _: None
) -> None:
    """Run a sandbox until cancelled; *ready* gets its address once calls are answered."""
    async with Sandbox(config, host=host, port=port) as sandbox:
        ready(sandbox.url)
        await asyncio.Event().wait()


def _refusal(error: ApiError, host: str) -> _Outcome:
    return _Outcome(
        status=error.status,
        body={
            "RequestId": replies.new_request_id(),
            "HostId": host,
            "Code": error.code,
            "Message": error.message,
        },
        retry_after_ms=error.retry_after_ms,
    )


def _broken(fault: Fault) -> _Outcome:
    """Return the reply that *fault* puts in the place of ESA's."""
    return _refusal(_error_of(fault), "")


def _error_of(fault: Fault) -> ApiError:
    return ApiError(fault.http_status, fault.error_code, "A fault of the sandbox.")


def _port_of(address: str) -> int | None:
    try:
        return urlsplit(address).port
    except ValueError:
        return None


def _delay_before_s(fault: Fault | None) -> float:
    return fault.delay_s if fault is not None and fault.kind == "slow_before" else 0.0


@functools.lru_cache(maxsize=4)
def _http_date(at_s: int) -> str:
    return formatdate(at_s, usegmt=True)


def _not_served() -> ApiError:
    return ApiError(
        404, "InvalidAction.NotFound", "Specified api is not found, please check your url and method."
    )
