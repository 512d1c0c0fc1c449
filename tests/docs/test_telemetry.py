"""docs/reference/telemetry.md lists exactly the metrics, labels and events that the worker and the HTTP API have."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

import esa_preload.api
import esa_preload_worker
from docs.pages import after, code_spans, reference, table
from esa_preload.api.events import EVENTS as API_EVENTS
from esa_preload.api.metrics import OUTCOMES as URL_OUTCOMES
from esa_preload_worker.block_reasons import BLOCK_REASONS
from esa_preload_worker.check.environment import SERVER_CHECKS
from esa_preload_worker.decisions import REFUSAL_REASONS
from esa_preload_worker.esa.wire import OPERATIONS as CALLED
from esa_preload_worker.events import EVENTS
from esa_preload_worker.metrics import WAIT_REASONS, Metrics, Snapshot
from esa_preload_worker.submit import OPERATIONS as PACED
from metric_families import api_families, families

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PACKAGE = Path(esa_preload_worker.__file__).parent
API = Path(esa_preload.api.__file__).parent
LEVELS = ("debug", "info", "warning", "error", "critical", "exception")
PAGE = reference("telemetry.md")


def test_the_page_lists_exactly_the_metrics_that_are_registered() -> None:
    """No metric is missing, none is invented, and each has the type and the labels that a scrape shows."""
    rows = table(PAGE, "metric", "type", "labels", "from", "meaning")
    listed = {code_spans(name)[0]: (kind, frozenset(code_spans(labels))) for name, kind, labels, _, _ in rows}
    assert len(listed) == len(rows)
    assert listed == {name: (family.kind, family.labels) for name, family in families().items()}


def test_the_page_lists_exactly_the_metrics_of_the_api() -> None:
    """Likewise for the other process."""
    rows = table(PAGE, "metric of the API", "type", "labels", "meaning")
    listed = {code_spans(name)[0]: (kind, frozenset(code_spans(labels))) for name, kind, labels, _ in rows}
    assert listed == {name: (family.kind, family.labels) for name, family in api_families().items()}


def test_the_page_says_of_each_metric_whether_it_comes_from_the_ledger() -> None:
    """What the ledger's snapshot shows is called ledger, what a process counts by itself is called process."""
    rows = table(PAGE, "metric", "type", "labels", "from", "meaning")
    metrics = Metrics(version="1.2.3")
    metrics.snapshot = Snapshot(redis_up=True)
    shown = {
        f"{family.name}_total" if family.type == "counter" else family.name
        for family in metrics.ledger_families()
    }
    # Two gauges are read together with the ledger, but tell about this process.
    shown -= {"esa_preload_in_flight_batches", "esa_preload_redis_up"}
    assert {code_spans(name)[0] for name, _, _, source, _ in rows if source == "ledger"} == shown
    assert {source for _, _, _, source, _ in rows} == {"ledger", "process"}


def test_the_closed_sets_of_labels_are_those_of_the_code() -> None:
    """Reasons, outcomes and operations in the page are the ones that the code can count under, no more and no fewer."""
    sets: dict[str, set[str]] = {
        "refusal reasons": set(REFUSAL_REASONS),
        "block reasons": set(BLOCK_REASONS),
        "wait reasons": set(WAIT_REASONS),
        "server checks": set(SERVER_CHECKS),
        "outcomes": outcomes(),
        "operations": set(CALLED),
        "paced operations": set(PACED),
        "outcomes of URLs by HTTP": set(URL_OUTCOMES),
    }
    for name, expected in sets.items():
        assert set(code_spans(after(PAGE, f"set: {name}"))) == expected, name


def outcomes() -> set[str]:
    """Return every outcome that the decisions give a settlement, as their source says."""
    found: set[str] = set()
    for name in ("decisions.py", "bulk_decisions.py", "submit.py", "report.py"):
        for node in ast.walk(_parse(PACKAGE / name)):
            match node:
                case ast.keyword(arg="outcome", value=value):
                    found |= _texts(value)
                case ast.Assign(targets=[ast.Name(id="outcome")], value=value):
                    found |= _texts(value)
                case ast.Call(func=ast.Name(id="_again"), args=[_, value, *_]):
                    found |= _texts(value)
                case ast.Call(func=ast.Attribute(value=ast.Attribute(attr="batches")), args=[value]):
                    found |= _texts(value)
                case _:
                    pass
    return found


def _texts(node: ast.expr) -> set[str]:
    """Return the texts that an expression may come to: a constant's, or those of both arms of a condition."""
    match node:
        case ast.Constant(value=str() as text):
            return {text}
        case ast.IfExp(body=body, orelse=orelse):
            return _texts(body) | _texts(orelse)
        case _:
            return set()


def _parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


@pytest.mark.parametrize(("header", "events"), [("event", EVENTS), ("event of the API", API_EVENTS)])
def test_the_page_lists_exactly_the_events(header: str, events: Sequence[str]) -> None:
    """The table of events and those of the code are the same, in the same order."""
    listed = [code_spans(event)[0] for event, *_ in table(PAGE, header, "level", "keys", "meaning")]
    assert listed == list(events)


@pytest.mark.parametrize(("header", "package"), [("event", PACKAGE), ("event of the API", API)])
def test_every_log_call_uses_a_listed_event_with_its_level_and_keys(header: str, package: Path) -> None:
    """No call invents an event, a level or a key, and no listed level or key is without a call that uses it."""
    levels: defaultdict[str, set[str]] = defaultdict(set)
    keys: defaultdict[str, set[str]] = defaultdict(set)
    for event, level, used in _log_calls(package):
        levels[event].add(level)
        keys[event] |= used
    batch_keys = set(code_spans(after(PAGE, "set: batch keys")))
    for event, listed_levels, listed_keys, _ in table(PAGE, header, "level", "keys", "meaning"):
        name = code_spans(event)[0]
        assert set(listed_levels.split(", ")) == levels.pop(name), name
        listed = set(code_spans(listed_keys))
        if "*batch*" in listed_keys:
            listed |= batch_keys
        assert listed == keys.pop(name), name
    assert not levels


def _log_calls(package: Path) -> Iterator[tuple[str, str, set[str]]]:
    """Yield event, level and keys of every `log.<level>(event, …)` of a package's source."""
    for path in sorted(package.rglob("*.py")):
        tree = _parse(path)
        functions = [n for n in ast.walk(tree) if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))]
        for function in functions:
            for node in ast.walk(function):
                if _is_log_call(node):
                    call = cast("ast.Call", node)
                    method = cast("ast.Attribute", call.func).attr
                    event = call.args[0]
                    assert isinstance(event, ast.Constant), f"{path}:{call.lineno}: the event is no constant"
                    assert len(call.args) == 1, f"{path}:{call.lineno}: facts are keys"
                    # `exception` logs at error, with the traceback under that name.
                    keys = _keys_of(call, function, functions)
                    if method == "exception":
                        yield str(event.value), "error", keys | {"exception"}
                    else:
                        yield str(event.value), method, keys


def _is_log_call(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in LEVELS
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "log"
    )


Function = ast.FunctionDef | ast.AsyncFunctionDef


def _keys_of(call: ast.Call, function: Function, functions: Sequence[Function]) -> set[str]:
    """Return the keys of a call; `**facts` stands for each constant key of a dict that is put into `facts` there."""
    found = {keyword.arg for keyword in call.keywords if keyword.arg is not None}
    for keyword in call.keywords:
        if keyword.arg is None:
            assert isinstance(keyword.value, ast.Name)
            assert keyword.value.id == "facts"
            found |= _facts(function, functions)
    return found


def _facts(function: Function, functions: Sequence[Function]) -> set[str]:
    """Return the keys of `facts` in *function*, with those of the one of the same module that made them."""
    values: list[ast.expr] = []
    for node in ast.walk(function):
        targets: list[ast.expr] = []
        if isinstance(node, ast.Assign):
            targets = node.targets
        elif isinstance(node, (ast.AnnAssign, ast.AugAssign)):
            targets = [node.target]
        else:
            continue
        if any(isinstance(target, ast.Name) and target.id == "facts" for target in targets) and node.value:
            values.append(node.value)
    makers = {
        value.func.id for value in values if isinstance(value, ast.Call) and isinstance(value.func, ast.Name)
    }
    made = {key for maker in functions if maker.name in makers for key in _facts(maker, functions)}
    dicts = [node for value in values for node in ast.walk(value) if isinstance(node, ast.Dict)]
    return made | {
        key.value
        for found in dicts
        for key in found.keys
        if isinstance(key, ast.Constant) and isinstance(key.value, str)
    }
