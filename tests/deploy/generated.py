"""
The files of deploy/ that are printed from others.

Run this file to write them: ``.venv/bin/python tests/deploy/generated.py``.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import yaml
from click.testing import CliRunner

from esa_preload.commands import cli as producers_cli
from esa_preload_worker.commands import cli as worker_cli

if TYPE_CHECKING:
    import click

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
RULES = DEPLOY / "prometheus" / "rules"


def files() -> dict[str, str]:
    """Return the path of each file below deploy/, with its text."""
    return {
        "kubernetes/components/monitoring/prometheus-rule.yaml": prometheus_rule(),
        "compose/sandbox/users.acl": sandbox_users(),
        "systemd/worker.env": _printed(worker_cli, "settings", "--env"),
        "systemd/api.env": _printed(producers_cli, "serve", "--settings", "env"),
    }


def prometheus_rule() -> str:
    """Return the rules of deploy/prometheus as one resource of the Prometheus operator."""
    groups = [
        group
        for path in sorted(RULES.glob("*.yml"))
        for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]
    ]
    resource = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "esa-preload", "labels": {"app.kubernetes.io/name": "esa-preload"}},
        "spec": {"groups": groups},
    }
    head = "# Written from deploy/prometheus/rules by tests/deploy/generated.py: change them there.\n"
    return head + yaml.safe_dump(  # pyright: ignore[reportUnknownMemberType] - a gap in the stubs
        resource, sort_keys=False, width=1_000, allow_unicode=True
    )


def sandbox_users() -> str:
    """Return the users of deploy/redis, each with the password of the sandbox; nobody administers that."""
    lines = (DEPLOY / "redis" / "users.acl").read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if not line.startswith("user admin ")]
    return "".join(line.replace(" on ", " on >sandbox-only ", 1) + "\n" for line in kept)


def _printed(cli: click.Group, *arguments: str) -> str:
    """Return what a command prints, without blank lines at the end."""
    printed = CliRunner().invoke(cli, arguments, catch_exceptions=False).output
    return f"{printed.rstrip()}\n"


def main() -> None:
    """Write every file."""
    for name, text in files().items():
        (DEPLOY / name).write_text(text, encoding="utf-8")
        sys.stdout.write(f"deploy/{name}\n")


if __name__ == "__main__":
    main()
