"""deploy/ram/policy.json allows what a worker calls, and nothing else."""

from __future__ import annotations

import json

from docs.pages import ROOT, blocks, reference
from esa_preload_worker.esa.wire import DELETE_PLAN, GET_JOB, OPERATIONS

POLICY = ROOT / "deploy" / "ram" / "policy.json"
NEVER_CALLED = {GET_JOB: "get_job", DELETE_PLAN: "delete_plan"}
"""What the client of ESA could do, and no worker does."""
PACKAGE = ROOT / "worker" / "esa_preload_worker"


def test_the_policy_allows_each_operation_that_is_called_and_no_other() -> None:
    """One action an operation of the client of ESA: none is missing, none is there for nothing."""
    [statement] = json.loads(POLICY.read_text(encoding="utf-8"))["Statement"]
    assert statement["Effect"] == "Allow"
    assert set(statement["Action"]) == {f"esa:{name}" for name in set(OPERATIONS) - set(NEVER_CALLED)}
    callers = [path for path in PACKAGE.rglob("*.py") if not {"esa", "sandbox"} & {*path.parts}]
    for path in callers:
        text = path.read_text(encoding="utf-8")
        assert not [name for name in NEVER_CALLED.values() if f".{name}(" in text], path


def test_the_page_shows_the_file() -> None:
    """The policy on the page of ESA is the file, to the letter."""
    _, _, section = reference("esa.md").partition("## Minimal RAM policy\n")
    [shown] = [block.text for block in blocks(section) if block.language == "json"]
    assert shown == POLICY.read_text(encoding="utf-8")
