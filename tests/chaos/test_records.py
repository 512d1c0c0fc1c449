"""What must outlive a SIGKILL does: ESA's books, and what producers were told."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from chaos.esa import KeptAccount, KeptObjects
from chaos.producers import Record
from esa_preload_worker.sandbox import SandboxConfig
from esa_preload_worker.sandbox.bucket import StoredObject
from esa_preload_worker.sandbox.control import jobs_document, stats_document
from esa_preload_worker.sandbox.plans import Order

if TYPE_CHECKING:
    from pathlib import Path

CONFIG = SandboxConfig(sites={1: ("a.example",)}, seed=3)
ORDER = Order(start=None, end=None, start_s=None, end_s=None, interval_s=30, slice_len=10)


def test_the_sandbox_remembers(tmp_path: Path) -> None:
    """Jobs, their refused URLs, plans and deletions are those of the life before; new ids are new."""
    journal = tmp_path / "journal"
    first = KeptAccount(CONFIG, time.time, journal)
    urls = "https://a.example/1\nhttps://b.example/2"
    jobs = [
        first.create_job(site_id=1, name=name, insert_way="textBox", url_text=urls) for name in ("x", "y")
    ]
    first.create_plans(jobs[0].job_id, [ORDER])
    first.delete_job(jobs[1].job_id)
    second = KeptAccount(CONFIG, time.time, journal)
    assert jobs_document(second) == jobs_document(first)
    assert stats_document(second, {}, {}) == stats_document(first, {}, {})
    more = second.create_job(site_id=1, name="z", insert_way="textBox", url_text=urls)
    assert more.job_id not in {job.job_id for job in jobs}
    assert len(jobs_document(KeptAccount(CONFIG, time.time, journal))) == 3


def test_the_sandbox_keeps_its_objects(tmp_path: Path) -> None:
    """Those of the life before, as they were put last; what was deleted stays so."""
    first = KeptObjects(CONFIG, time.time, tmp_path / "objects")
    for key, body in (("a/1.txt", b"old"), ("a/1.txt", "\u00fc".encode()), ("gone", b"x")):
        stored = StoredObject(body=body, content_type="text/plain", is_public=True, stored_s=7.5)
        first.store("lists", key, stored)
    first.drop("lists", "gone")
    second = KeptObjects(CONFIG, time.time, tmp_path / "objects")
    assert second.names == first.names == ["lists/a/1.txt"]
    assert second.run("GET", "/lists/a/1.txt", {}) == first.run("GET", "/lists/a/1.txt", {})


def test_the_sandbox_forgets_what_it_was_killed_at(tmp_path: Path) -> None:
    """A call whose line is torn was not answered, and is not committed."""
    journal = tmp_path / "journal"
    KeptAccount(CONFIG, time.time, journal).create_job(
        site_id=1, name="x", insert_way="textBox", url_text="https://a.example/1"
    )
    with journal.open("ab") as file:
        file.write(b'["job", {"job_')
    for _ in range(2):
        assert [job["name"] for job in jobs_document(KeptAccount(CONFIG, time.time, journal))] == ["x"]


@pytest.mark.parametrize("torn", ["", '["r2", ', '["r1", nul'])
def test_producers_remember(tmp_path: Path, torn: str) -> None:
    """Calls are counted, receipts kept; a torn line takes no other along."""
    record = Record(tmp_path / "record")
    assert record.read() == ({}, {})
    record.write("r1")
    with record.path.open("a") as file:
        file.write(f"\n{torn}")
    record.write("r1")
    record.write("r1", 7)
    assert record.read() == ({"r1": 2}, {"r1": 7})
