"""schemathesis against the OpenAPI document that a server serves: every check, as each role and as nobody."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from acceptance.serving import serving
from esa_preload.api.tokens import ROLES
from esa_preload.client import PreloadClient
from processes import api_environment, environment, finish

if TYPE_CHECKING:
    from redis.asyncio import Redis

HERE = Path(__file__).parent
SEED = "1"
"""A change is held to what it changes: the same calls each time, however fast the machine is. Another seed looks elsewhere."""
BOUNDS = {
    "quick": ("--phases", "coverage", "--max-examples", "2", "--seed", SEED),
    "long": ("--max-examples", "100", "--seed", SEED),
}


def what_failed(report: str) -> str:
    """Return the part of a report that tells of failures: the rest hides them where only its end is kept."""
    failures = report.partition(" FAILURES ")[2].partition(" WARNINGS ")[0]
    return "\n".join(line[:500] for line in (failures or report).splitlines())


@pytest.mark.parametrize(
    ("role", "bound"),
    [
        *((role, "quick") for role in (*ROLES, "nobody")),
        *(pytest.param(role, "long", marks=pytest.mark.slow) for role in ("operator", "nobody")),
    ],
)
async def test_every_answer_is_a_documented_one(
    redis: Redis, redis_url: str, tmp_path: Path, role: str, bound: str
) -> None:
    """No 5xx, no status, header, type or form that the document does not name, nothing wrong accepted, no way around the token."""
    del redis
    async with PreloadClient(redis_url) as queue:
        # What the made-up calls ask for first.
        await queue.enqueue(1, ["https://www.example.com/a"], request_id="0")
    env = api_environment(redis_url, ESA_PRELOAD_TOKENS_FILE=str(tmp_path / "tokens.json"))
    new = ("token", "new", "--name", "x", "--role", role.replace("nobody", "viewer"), "--site", "*")
    secret = (await finish("esa-preload", *new, env=env)).out.strip()
    headers = () if role == "nobody" else ("--header", f"Authorization: Bearer {secret}")
    async with serving(env) as (server, http, _):
        ended = await finish(
            "schemathesis",
            *("--config-file", str(HERE / "schemathesis.toml")),
            *(
                "run",
                f"{http.base_url}/openapi.json",
                "--checks",
                "all",
                "--exclude-checks",
                "use_after_free",  # DELETE of a request cancels it: what became of it is told all the same
                "--continue-on-failure",
                "--no-color",
            ),
            *(*headers, *BOUNDS[bound]),
            env=environment(SCHEMATHESIS_HOOKS="acceptance.schemathesis_lines", PYTHONPATH=str(HERE.parent)),
            timeout_s=900,
        )
    assert ended.code == 0, what_failed(ended.out)
    assert not server.events("http.error")
    assert len(server.events("http.request")) > 200
