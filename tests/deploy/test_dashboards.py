"""Grafana's dashboards are those of the code, ask for what a worker has, and show all of it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast

import pytest

from deploy.dashboards import DASHBOARDS, DATASOURCE, GRAFANA_DIR, files
from deploy.panels import ledger, selector
from deploy.promql import faults, names
from deploy.rule_files import load
from metric_families import api_families, families, series

if TYPE_CHECKING:
    from deploy.panels import Dashboard

PAGES = list(DASHBOARDS.values())


def placed(name: str) -> list[dict[str, Any]]:
    """Return the panels of a committed file."""
    document = json.loads((GRAFANA_DIR / "dashboards" / name).read_text(encoding="utf-8"))
    return cast("list[dict[str, Any]]", document["panels"])


def test_the_committed_files_are_what_the_code_prints() -> None:
    """None was edited by hand, none is left over: run tests/deploy/dashboards.py."""
    committed = {path: path.read_text(encoding="utf-8") for path in (GRAFANA_DIR / "dashboards").iterdir()}
    assert committed == files()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.uid)
def test_a_page_asks_only_for_what_a_worker_has(page: Dashboard) -> None:
    """Each query names metrics and labels that exist, and each panel says what it shows."""
    for panel in page.panels:
        assert panel.title
        assert panel.description.endswith(".")
        for asked in panel.queries:
            assert names(asked.expr), panel.title
            assert faults(asked.expr, series(), {}) == [], panel.title
    titles = [panel.title for panel in page.panels]
    assert len(set(titles)) == len(titles)


def test_what_a_worker_and_the_api_have_is_shown() -> None:
    """Every metric is on a page."""
    shown = {name for page in PAGES for panel in page.panels for q in panel.queries for name in names(q.expr)}
    missing = [name for name in families() | api_families() if not any(one.startswith(name) for one in shown)]
    assert missing == []


def test_a_query_for_what_does_not_exist_cannot_be_built() -> None:
    """A metric or a label that a worker has not got stops the generator."""
    with pytest.raises(LookupError):
        selector("pendign_urls")
    with pytest.raises(LookupError):
        selector("pending_urls", sight="1")
    with pytest.raises(LookupError):
        ledger("pending_urls", "sight")


@pytest.mark.parametrize("name", DASHBOARDS)
def test_panels_have_numbers_of_their_own_and_do_not_overlap(name: str) -> None:
    """Each has a place within 24 columns that no other takes."""
    panels = placed(name)
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert max(x for x, _ in cells) < 24
        assert not cells & taken, panel["title"]
        taken |= cells


def test_what_is_provisioned_fits_together() -> None:
    """The panels' datasource is the one that is provisioned, and pages cannot be changed where the change would be lost."""
    (source,) = load(GRAFANA_DIR / "provisioning" / "datasources" / "prometheus.yml")["datasources"]
    assert {"type": source["type"], "uid": source["uid"]} == DATASOURCE
    (provider,) = load(GRAFANA_DIR / "provisioning" / "dashboards" / "esa-preload.yml")["providers"]
    assert provider["allowUiUpdates"] is False
    assert provider["options"]["path"] == "/etc/grafana/dashboards"
