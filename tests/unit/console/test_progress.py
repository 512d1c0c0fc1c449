"""How far a request has come."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from esa_preload.api.console.progress import BAR_WIDTH, ended_percent, parts_of, said
from esa_preload.model import RequestStatus

counts = st.fixed_dictionaries(
    dict.fromkeys(
        ("pending", "in_flight", "submitted", "refused", "expired", "cancelled", "unknown"),
        st.integers(0, 10**7),
    )
)


def status_of(**states: int) -> RequestStatus:
    """Return the status of a request with so many URLs in each state."""
    is_active = states.get("pending", 0) + states.get("in_flight", 0) > 0
    return RequestStatus(
        request_id="r",
        site_id=1,
        state="active" if is_active else "done",
        accepted=sum(states.values()),
        **states,
    )


@given(counts)
def test_the_parts_of_the_bar_lie_end_to_end_and_fill_it(states: dict[str, int]) -> None:
    """No gap, no overlap, no part of nothing: whatever the counts are."""
    status = status_of(**states)
    parts = parts_of(status)
    at = 0
    for part in parts:
        assert part.x == at
        at += part.width
    assert at == (BAR_WIDTH if status.accepted else 0)
    assert sum(part.count for part in parts) == status.accepted
    assert {part.name for part in parts} >= {name for name, count in states.items() if count}


@given(counts)
def test_it_is_at_100_percent_when_all_have_ended_and_not_before(states: dict[str, int]) -> None:
    """One URL of ten million that is pending is enough."""
    status = status_of(**states)
    assert (ended_percent(status) == 100) == (status.state == "done")
    assert 0 <= ended_percent(status) <= 100


def test_a_list_that_esa_has_not_counted_yet_is_at_0_percent() -> None:
    """It has no URLs to divide by."""
    assert ended_percent(RequestStatus(request_id="r", site_id=1, state="active")) == 0


def test_what_is_said_aloud_changes_with_every_tenth() -> None:
    """Not with every look: who listens to the page could not hear anything else."""
    sentences = {said(status_of(pending=1_000 - n, submitted=n)) for n in range(1_001)}
    assert len(sentences) == 11
    assert said(status_of(submitted=9, refused=1)) == "Done: 9 of 10 URLs submitted"
