"""What a run is made of: everything in it is drawn from its seed, and everything that it should hold is in it."""

from __future__ import annotations

import json
from random import Random

from chaos.options import Options, faults_of, sandbox_config
from chaos.producers import requests_of
from chaos.troubles import KINDS as TROUBLES
from chaos.troubles import troubles_of
from esa_preload_worker.sandbox.control import changes_of
from esa_preload_worker.sandbox.faults import KINDS


def test_a_seed_draws_the_same_run() -> None:
    """Two runs of one seed enqueue the same and break the same, at the same times."""
    drawn = [
        (
            requests_of(dice, urls=500, seconds=10, longest=50),
            troubles_of(dice, seconds=10, most=3, every_s=1),
        )
        for dice in (Random(7), Random(7), Random(8))
    ]
    assert drawn[0] == drawn[1] != drawn[2]


def test_every_kind_of_trouble() -> None:
    """A short run has each kind of trouble at least once, but for those left out; no URL is in two requests."""
    troubles = troubles_of(Random(1), seconds=9, most=3, every_s=0.6)
    assert {trouble.kind for trouble in troubles} == set(TROUBLES)
    mild = troubles_of(Random(1), seconds=60, most=3, every_s=0.6, but=frozenset({"kill_valkey"}))
    assert {trouble.kind for trouble in mild} == {*TROUBLES} - {"kill_valkey"}
    assert all(0 <= trouble.at_s <= 9 and trouble.which < 3 for trouble in troubles)
    urls = [
        url for request in requests_of(Random(1), urls=500, seconds=1, longest=50) for url in request.urls
    ]
    assert len(urls) == len(set(urls)) == 500


def test_every_kind_of_fault() -> None:
    """The sandbox takes the configuration, and every kind of fault is in it; none when the rate is 0."""
    document = sandbox_config(Options())
    assert {fault["kind"] for fault in document["faults"]} == set(KINDS)
    assert changes_of(json.dumps(document).encode())
    assert faults_of(Options(fault_rate=0)) == []
