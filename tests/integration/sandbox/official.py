"""The official SDK as a client of a sandbox. It has no types: what comes from it is Any."""

from __future__ import annotations

import importlib
from typing import Any

from esa_preload_worker.sandbox import DEFAULT_ACCESS_KEY_ID, DEFAULT_ACCESS_KEY_SECRET

_client: Any = importlib.import_module("alibabacloud_esa20240910.client")
_config: Any = importlib.import_module("alibabacloud_tea_openapi.utils_models")
_tea_utils: Any = importlib.import_module("alibabacloud_tea_openapi.utils")
_runtime: Any = importlib.import_module("darabonba.runtime")
_request: Any = importlib.import_module("darabonba.request")
models: Any = importlib.import_module("alibabacloud_esa20240910.models")
exceptions: Any = importlib.import_module("alibabacloud_tea_openapi.exceptions")

SITE_ID = 190007158391808


def client(
    endpoint: str,
    *,
    access_key_id: str = DEFAULT_ACCESS_KEY_ID,
    access_key_secret: str = DEFAULT_ACCESS_KEY_SECRET,
    security_token: str | None = None,
) -> Any:
    """Return a client of the sandbox at *endpoint*, configured in no other way than for the real service."""
    return _client.Client(
        _config.Config(
            access_key_id=access_key_id,
            access_key_secret=access_key_secret,
            security_token=security_token,
            endpoint=endpoint,
            protocol="http",
            region_id="cn-hangzhou",
        )
    )


class Esa:
    """The asynchronous calls of the SDK, each returning the body of its reply."""

    def __init__(self, sdk: Any) -> None:
        self._sdk = sdk

    async def call(self, name: str, request: Any) -> Any:
        """Call the SDK's operation *name*, in snake case."""
        method = getattr(self._sdk, f"{name}_with_options_async")
        return (await method(request, _runtime.RuntimeOptions())).body

    async def create(self, *urls: str, name: str = "preload-1", site_id: int = SITE_ID) -> Any:
        """Create a job of *urls*."""
        return await self.call(
            "create_scheduled_preload_job",
            models.CreateScheduledPreloadJobRequest(
                insert_way="textBox", name=name, site_id=site_id, url_list="\n".join(urls)
            ),
        )

    async def plan(self, job_id: str, **times: str) -> Any:
        """Create one plan of a job."""
        plan = models.CreateScheduledPreloadExecutionsRequestExecutions(interval=30, slice_len=10, **times)
        request = models.CreateScheduledPreloadExecutionsRequest(id=job_id, executions=[plan])
        return await self.call("create_scheduled_preload_executions", request)

    async def get(self, job_id: str) -> Any:
        """Return a job."""
        return await self.call("get_scheduled_preload_job", models.GetScheduledPreloadJobRequest(id=job_id))

    async def delete(self, job_id: str) -> Any:
        """Delete a job."""
        return await self.call(
            "delete_scheduled_preload_job", models.DeleteScheduledPreloadJobRequest(id=job_id)
        )

    async def list(self, site_id: int = SITE_ID, **window: int) -> Any:
        """List jobs."""
        request = models.ListScheduledPreloadJobsRequest(site_id=site_id, **window)
        return await self.call("list_scheduled_preload_jobs", request)


def sign(*, method: str, query: dict[str, str], headers: dict[str, str]) -> str:
    """Return the Authorization header by Alibaba's signer, for calls that the SDK itself would not send."""
    request = _request.DaraRequest()
    request.method, request.pathname, request.query, request.headers = method, "/", query, headers
    text: str = _tea_utils.Utils.get_authorization(
        request,
        "ACS3-HMAC-SHA256",
        headers["x-acs-content-sha256"],
        DEFAULT_ACCESS_KEY_ID,
        DEFAULT_ACCESS_KEY_SECRET,
    )
    return text
