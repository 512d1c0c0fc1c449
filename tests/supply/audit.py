"""
Look at what this project brings along: known vulnerabilities of the locked releases, and the licences of what runs in production.

Run by ``make audit``. Ends with 0: all was looked up, and nothing is wrong; 1: something is wrong; 3: the database of advisories did not
know some or all of the releases, or could not be reached, so nothing can be said of these.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

BIN = Path(sys.executable).parent
LOCKS = Path(__file__).resolve().parents[2] / "deploy" / "requirements"
PRODUCTION = LOCKS / "image.txt"
EXIT_WRONG, EXIT_UNKNOWN = 1, 3
TIMEOUT_S = 600

ALLOWED = frozenset(
    {"0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "CC0-1.0", "ISC", "MIT", "MIT-0", "PSF-2.0", "Unlicense", "Zlib"}
    | {"MPL-2.0"}  # of a file, not of what uses it: certifi's list of authorities
)  # fmt: skip
SPELLINGS = {
    "3-Clause BSD License": "BSD-3-Clause",
    "Apache": "Apache-2.0",
    "Apache License 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "BSD": "BSD-3-Clause",
    "BSD License": "BSD-3-Clause",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
}
"""As classifiers and older metadata write it."""
READ_BY_HAND = {"httpx-aiohttp": "BSD-3-Clause"}
"""The text itself stands where a name should."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What pip-audit found: advisories by release, and the releases that it could not look up."""

    looked_up: int
    vulnerable: dict[str, list[str]]
    unknown: list[str]


def findings(document: Any) -> Findings:
    """Read pip-audit's JSON."""
    vulnerable: dict[str, list[str]] = {}
    unknown: list[str] = []
    entries = cast("list[dict[str, Any]]", document["dependencies"])
    for entry in entries:
        if "skip_reason" in entry:
            unknown.append(entry["name"])
        elif entry["vulns"]:
            release = f"{entry['name']} {entry['version']}"
            vulnerable[release] = [advisory["id"] for advisory in entry["vulns"]]
    return Findings(looked_up=len(entries) - len(unknown), vulnerable=vulnerable, unknown=unknown)


def licences(text: str) -> set[str]:
    """Return the licences that hold together, of an expression or a list; of alternatives the first that is allowed."""
    found: set[str] = set()
    for part in re.split(r" AND |; ", text):
        choices = [SPELLINGS.get(choice, choice) for choice in part.split(" OR ")]
        found.add(next((choice for choice in choices if choice in ALLOWED), choices[0]))
    return found


def not_allowed(packages: list[dict[str, str]]) -> dict[str, str]:
    """Return the packages with a licence that is not on the list, and which."""
    named = {package["Name"]: READ_BY_HAND.get(package["Name"], package["License"]) for package in packages}
    return {name: text[:60] for name, text in named.items() if licences(text) - ALLOWED}


def locked_names(lock: str) -> list[str]:
    """Return the projects of a lock, without their extras."""
    return re.findall(r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==", lock, re.MULTILINE)


def main() -> int:
    """Audit, and say what was found."""
    packages = _licences_of(locked_names(PRODUCTION.read_text(encoding="utf-8")))
    wrong = not_allowed(packages)
    for name, text in wrong.items():
        print(f"licence: {name}: {text!r} is not on the list of tests/supply/audit.py")
    print(
        f"licences: {len(packages)} packages run in production, {len(wrong)} with a licence that is not allowed"
    )
    code = EXIT_WRONG if wrong else 0
    for lock in sorted(LOCKS.glob("*.txt")):
        code = _worse(code, _audit(lock))
    return code


def _worse(one: int, other: int) -> int:
    """Return the one that matters more: what is wrong before what is not known."""
    return EXIT_WRONG if EXIT_WRONG in (one, other) else max(one, other)


def _licences_of(names: list[str]) -> list[dict[str, str]]:
    done = _run("pip-licenses", f"--python={sys.executable}", "--format=json", "--packages", *names)
    return cast("list[dict[str, str]]", json.loads(done.stdout))


def _audit(lock: Path) -> int:
    done = _run("pip-audit", "--require-hashes", "--disable-pip", "--format=json", f"--requirement={lock}")
    try:
        found = findings(json.loads(done.stdout))
    except ValueError:
        said = done.stderr.strip().splitlines()
        print(f"{lock.name}: NOT AUDITED, pip-audit failed: {said[-1] if said else 'without a word'}")
        return EXIT_UNKNOWN
    for release, ids in found.vulnerable.items():
        print(f"{lock.name}: {release}: {', '.join(ids)}")
    print(f"{lock.name}: {found.looked_up} releases looked up, {len(found.vulnerable)} of them vulnerable")
    if found.unknown:
        print(f"{lock.name}: NOT AUDITED: {len(found.unknown)} releases that the database did not answer for")
    return EXIT_WRONG if found.vulnerable else EXIT_UNKNOWN if found.unknown else 0


def _run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(BIN / program), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)


if __name__ == "__main__":
    sys.exit(main())
