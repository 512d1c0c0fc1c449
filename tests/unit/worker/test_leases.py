"""Claims end by the clock alone, whoever else is away."""

from __future__ import annotations

import pytest

from esa_preload_worker.leases import Leases, LostClaimError
from unit.worker.clock import Clock
from unit.worker.test_decisions import batch_of


@pytest.fixture
def clock() -> Clock:
    """A clock of the test's own."""
    return Clock()


@pytest.fixture
def leases(clock: Clock) -> Leases:
    """Leases of 10 s."""
    return Leases(10, clock=clock)


def test_a_claim_holds_for_a_lease_from_when_it_was_asked_for(leases: Leases, clock: Clock) -> None:
    """Not from when the reply came: the ledger counted from before that."""
    batch = batch_of()
    leases.hold(batch, since=clock.now_s - 4)
    clock.now_s += 5.9
    leases.check(batch)
    clock.now_s += 0.1
    with pytest.raises(LostClaimError):
        leases.check(batch)


def test_a_renewal_counts_from_when_it_was_asked_for_and_never_back(leases: Leases, clock: Clock) -> None:
    """A late reply to an early renewal shortens nothing."""
    batch = batch_of()
    leases.hold(batch, since=clock.now_s)
    clock.now_s += 8
    leases.renewed(leases.claims(), set(), since=clock.now_s)
    leases.renewed(leases.claims(), set(), since=clock.now_s - 7)
    clock.now_s += 9.9
    leases.check(batch)


def test_a_lost_claim_is_lost_at_once(leases: Leases, clock: Clock) -> None:
    """The ledger says that it is another's: the clock does not matter."""
    batch = batch_of()
    leases.hold(batch, since=clock.now_s)
    leases.renewed(leases.claims(), {"b"}, since=clock.now_s)
    with pytest.raises(LostClaimError):
        leases.check(batch)
    assert len(leases) == 0


def test_a_claim_is_known_by_its_token(leases: Leases, clock: Clock) -> None:
    """The same batch claimed again is another claim: the old one can be neither checked, renewed nor released by mistake."""
    old, new = batch_of(token="old"), batch_of(token="new")
    leases.hold(old, since=clock.now_s)
    asked = leases.claims()
    leases.hold(new, since=clock.now_s)
    leases.renewed(asked, {"b"}, since=clock.now_s)
    leases.release(old)
    leases.check(new)
    with pytest.raises(LostClaimError):
        leases.check(old)
    leases.release(new)
    assert leases.claims() == {}
