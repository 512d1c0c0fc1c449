"""What a hostile, broken or careless writer makes of ESA's replies."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast

from hypothesis import strategies as st

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

JOB: dict[str, object] = {
    "RequestId": "15C66C7B-671A-4297-9187-2C4477247B78",
    "CreatedAt": "2023-06-05T10:04:20+0800",
    "ErrorInfo": "InvalidDomain",
    "FailedFileOss": "https://bucket.oss-cn-hangzhou.aliyuncs.com/9d91",
    "Id": "665d3af3621bccf3fe29e1a4",
    "Name": "example",
    "SiteId": 190007158391808,
    "TaskSubmitted": 1,
    "UrlCount": 2,
    "UrlSubmitted": 1,
    "ExecutionCount": 1,
}
PLAN: dict[str, object] = {"Id": "665d3af3621bccf3fe29e1a5", "JobId": JOB["Id"], "Status": "waiting"}
REPLIES: dict[str, dict[str, object]] = {
    "job": JOB,
    "job_page": {"Jobs": [JOB, JOB], "TotalCount": "2", "RequestId": "r"},
    "plans_created": {
        "SuccessExecutions": [PLAN],
        "FailedExecutions": [PLAN],
        "FailedMessages": ["the end has passed"],
        "TotalCount": 2,
        "SuccessCount": 1,
        "RequestId": "r",
    },
    "plans": {"Executions": [PLAN], "TotalCount": 1, "RequestId": "r"},
    "site_page": {"Sites": [{"SiteId": 7, "SiteName": "a.com", "Status": "active"}], "TotalCount": 1},
    "error": {
        "Code": "Forbidden.RAM",
        "Message": "no",
        "RequestId": "r",
        "HostId": "h",
        "AccessDeniedDetail": {"Resource": "acs:esa:*:1:site/17"},
    },
}
"""A reply of each kind, as documented, with every field that is read."""

INJECTION = 'x"}\r\n{"event":"batch.submitted"}\x1b[2J\x1b]0;t\x07\u2028\u202e\ud800 https://a/b?token=canary'
DEPTH = 100_000
DEEP = "<deep>"  # written as nesting, which no dumper of JSON would write
_EMPTY: list[object] = []
_NOTHING: dict[str, object] = {}
_LONG_NUMBER = int("1" + "0" * 4_000)
ODD: tuple[object, ...] = (
    *(None, True, False, _EMPTY, _NOTHING, [_EMPTY], [None], [_NOTHING], {"Id": 1}),
    *("", " ", "0", "-1", "1e3", "٣", "NaN", "9" * 5_000, "2" * 19),
    *(0, -1, 1.5, 2**31, 2**63, _LONG_NUMBER, 1e308, float("nan"), float("inf")),
    *(INJECTION, [INJECTION], {INJECTION: INJECTION}, "\ud800" * 100, "x" * 500_000, ["x"] * 5_000, DEEP),
)
"""What a field may hold instead of what belongs there."""


def fields(value: object, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Return the path of everything inside *value*."""
    inside: list[tuple[str | int, object]] = []
    if isinstance(value, dict):
        inside = list(cast("dict[str | int, object]", value).items())
    elif isinstance(value, list):
        inside = list(enumerate(cast("list[object]", value)))
    return [deep for key, held in inside for deep in [(*path, key), *fields(held, (*path, key))]]


MATRIX = [(kind, path) for kind, reply in REPLIES.items() for path in fields(reply)]
"""Each field of each reply."""


def replaced(kind: str, path: tuple[str | int, ...], odd: object) -> dict[str, object]:
    """Return the reply of *kind* with *odd* at *path*."""
    reply: Any = json.loads(json.dumps(REPLIES[kind]))
    place: Any = reply
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = odd
    return cast("dict[str, object]", reply)


def written(reply: object) -> bytes:
    """Write *reply* as a careless writer does: NaN, numbers of any length, half characters as they are."""
    text = _dumps(reply).replace(json.dumps(DEEP), "[" * DEPTH + "]" * DEPTH)
    return text.encode("utf-8", "surrogatepass")


def _dumps(value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        # As digits: the interpreter itself writes no number that long.
        return f"{value:d}" if abs(value) < 10**300 else "1" + "0" * 4_500
    if isinstance(value, dict):
        held = cast("dict[str, object]", value).items()
        return (
            "{"
            + ",".join(f"{json.dumps(key, ensure_ascii=False)}:{_dumps(each)}" for key, each in held)
            + "}"
        )
    if isinstance(value, list):
        return "[" + ",".join(map(_dumps, cast("list[object]", value))) + "]"
    return json.dumps(value, ensure_ascii=isinstance(value, str) and "\ud800" in value)


_leaves: SearchStrategy[object] = st.one_of(
    st.sampled_from(ODD[:-3]), st.text(), st.sampled_from([INJECTION, "\ud800"]), st.integers(), st.floats()
)


def _grown(inner: SearchStrategy[object]) -> SearchStrategy[object]:
    return st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3))


def _spoilt(where: tuple[str, tuple[str | int, ...]], odd: object) -> dict[str, object]:
    return replaced(*where, odd)


def spoilt_replies() -> SearchStrategy[dict[str, object]]:
    """A documented reply with any value in any place."""
    return st.builds(_spoilt, st.sampled_from(MATRIX), st.recursive(_leaves, _grown, max_leaves=8))


def _broken(kind: str, how: str, place: float, junk: bytes) -> bytes:
    raw = json.dumps(REPLIES[kind]).encode()
    at = round(place * len(raw))
    match how:
        case "overwrite":
            return raw[:at] + junk + raw[at + 1 :]
        case "cut":
            return raw[:at]
        case "start again":
            return raw[:at] + raw
        case "say twice":
            return raw[:-1] + b"," + json.dumps(REPLIES["job"]).encode()[1:]
        case _:
            return raw.decode().encode(how)


_HOW = ("overwrite", "cut", "start again", "say twice", "utf-16", "utf-32", "utf-7", "utf-8-sig")


def broken_bytes() -> SearchStrategy[bytes]:
    """A documented reply with bytes changed, cut off, doubled, in another encoding, or no JSON at all."""
    kinds, places = st.sampled_from(sorted(REPLIES)), st.floats(0, 1)
    broken = st.builds(_broken, kinds, st.sampled_from(_HOW), places, st.binary(max_size=4))
    return st.one_of(st.binary(max_size=200), broken)
