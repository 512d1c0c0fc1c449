"""The sandbox's rate limits, decided from given times."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esa_preload_worker.sandbox.config import BucketLimit, WindowLimit
from esa_preload_worker.sandbox.limits import FixedWindow, Limits, TokenBucket, hint_ms

GAPS_S = st.lists(st.floats(min_value=0, max_value=30), min_size=1, max_size=200)


@pytest.mark.parametrize(
    ("rate_per_s", "burst", "times", "waits"),
    [
        (1, 1, [0, 0, 0.5, 1], [None, 1, 0.5, None]),
        (10, 3, [0, 0, 0, 0, 0.1, 0.1], [None, None, None, 0.1, None, 0.1]),
        (2, 2, [0, 0, 100, 100, 100], [None, None, None, None, 0.5]),
        (2, 1, [10, 5, 10.5], [None, 0.5, None]),
    ],
)
def test_bucket(rate_per_s: float, burst: int, times: list[float], waits: list[float | None]) -> None:
    """A bucket admits its burst, then its rate, keeps no more than the burst, and says how long to wait."""
    bucket = TokenBucket(rate_per_s=rate_per_s, burst=burst, now_s=0)
    assert [bucket.admit(at) for at in times] == [wait and pytest.approx(wait) for wait in waits]


@pytest.mark.parametrize(
    ("times", "waits"),
    [
        ([100, 101, 102, 159], [None, None, 58, 1]),
        ([100, 101, 160, 161, 162], [None, None, None, None, 58]),
        ([100, 400, 401, 402], [None, None, None, 58]),
        ([90, 91, 92], [None, None, 68]),
    ],
)
def test_window(times: list[float], waits: list[float | None]) -> None:
    """A window admits its calls, refuses the rest until its end, and begins where the limit came into force."""
    window = FixedWindow(calls=2, window_s=60, now_s=100)
    assert [window.admit(at) for at in times] == [wait and pytest.approx(wait) for wait in waits]


@given(gaps_s=GAPS_S, rate_per_s=st.floats(min_value=0.1, max_value=100), burst=st.integers(1, 50))
def test_bucket_never_exceeds_its_rate(gaps_s: list[float], rate_per_s: float, burst: int) -> None:
    """Whatever the arrivals, no stretch of t seconds holds more than burst + rate x t calls."""
    bucket = TokenBucket(rate_per_s=rate_per_s, burst=burst, now_s=0)
    admitted: list[float] = []
    now_s = 0.0
    for gap_s in gaps_s:
        now_s += gap_s
        if bucket.admit(now_s) is None:
            admitted.append(now_s)
    for first, since in enumerate(admitted):
        for last in range(first, len(admitted)):
            assert last - first + 1 <= burst + rate_per_s * (admitted[last] - since + 1e-5)


@given(gaps_s=GAPS_S, calls=st.integers(1, 20), window_s=st.floats(min_value=0.5, max_value=60))
def test_window_never_exceeds_its_calls(gaps_s: list[float], calls: int, window_s: float) -> None:
    """Whatever the arrivals, no window holds more than its calls, and none waits longer than a window."""
    window = FixedWindow(calls=calls, window_s=window_s, now_s=0)
    admitted: dict[int, int] = {}
    now_s = 0.0
    for gap_s in gaps_s:
        now_s += gap_s
        wait_s = window.admit(now_s)
        if wait_s is None:
            number = int((now_s + 1e-6) / window_s)
            admitted[number] = admitted.get(number, 0) + 1
        else:
            assert 0 < wait_s <= window_s + 1e-6
    assert max(admitted.values()) <= calls


@given(
    limit=st.one_of(
        st.builds(BucketLimit, rate_per_s=st.floats(min_value=0.01, max_value=1000), burst=st.integers(1, 5)),
        st.builds(WindowLimit, calls=st.integers(1, 5), window_s=st.floats(min_value=0.01, max_value=600)),
    ),
    start_s=st.floats(min_value=0, max_value=2e9),
)
def test_waiting_for_the_hint_is_enough(limit: BucketLimit | WindowLimit, start_s: float) -> None:
    """Who waits as long as the hint says is admitted, whatever was lost in rounding."""
    limits = Limits({"*": limit})
    wait_s = None
    while wait_s is None:
        wait_s = limits.admit("op", start_s)
    assert limits.admit("op", start_s + hint_ms(wait_s) / 1000) is None


@pytest.mark.parametrize(("wait_s", "ms"), [(0.0, 1), (0.0001, 1), (0.1, 100), (0.1001, 101), (60, 60_000)])
def test_hint_is_whole_milliseconds(wait_s: float, ms: int) -> None:
    """The hint is a positive whole number: the official SDK ignores any other."""
    assert hint_ms(wait_s) == ms


def test_operations_are_counted_apart() -> None:
    """Under the limit for every operation each still has its own count; a named one has its own limit or none."""
    limits = Limits({"*": WindowLimit(calls=1, window_s=60), "free": None})
    assert [limits.admit(name, 0) for name in ("a", "b", "free", "free")] == [None] * 4
    assert limits.admit("a", 0) == 60


def test_a_change_restarts_only_what_changed() -> None:
    """A limit that stays the same keeps its count through a change of the others."""
    limits = Limits({"a": WindowLimit(calls=1, window_s=60), "b": WindowLimit(calls=1, window_s=60)})
    assert limits.admit("a", 0) is None
    assert limits.admit("b", 0) is None
    changed = {"a": WindowLimit(calls=1, window_s=60), "b": WindowLimit(calls=2, window_s=60)}
    limits.change(changed, ("a", "b"), 30)
    assert limits.admit("a", 30) == 30
    assert [limits.admit("b", 30) for _ in range(3)] == [None, None, 60]


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (BucketLimit, {"rate_per_s": 0, "burst": 1}),
        (BucketLimit, {"rate_per_s": float("nan"), "burst": 1}),
        (BucketLimit, {"rate_per_s": 1, "burst": 0}),
        (WindowLimit, {"calls": 0, "window_s": 1}),
        (WindowLimit, {"calls": 1, "window_s": float("inf")}),
    ],
)
def test_senseless_limits_are_refused(
    kind: type[BucketLimit | WindowLimit], values: dict[str, float]
) -> None:
    """A limit that admits nothing, or everything, is a mistake."""
    with pytest.raises(ValueError, match="must be"):
        kind(**values)  # type: ignore[arg-type]  # wrong on purpose
