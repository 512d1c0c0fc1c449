"""The metrics of the HTTP API before anything happened."""

from __future__ import annotations

from esa_preload.api.metrics import OUTCOMES, Metrics


def test_a_server_that_nobody_called_has_what_its_absence_is_told_by() -> None:
    """URLs are counted from 0: else the first ones have no increase, and an idle server looks like none."""
    value = Metrics(version="1").registry.get_sample_value
    assert [value("esa_preload_http_urls_total", {"outcome": outcome}) for outcome in OUTCOMES] == [0] * 4
