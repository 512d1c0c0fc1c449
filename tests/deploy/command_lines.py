"""Commands that files of deploy/ give to a container or a unit: that they are ours, and that their arguments are understood."""

from __future__ import annotations

from typing import TYPE_CHECKING

from esa_preload.commands import cli as producers_cli
from esa_preload_worker.commands import cli as worker_cli

if TYPE_CHECKING:
    from collections.abc import Sequence

CLIS = {"esa-preload": producers_cli, "esa-preload-worker": worker_cli}


def parse(words: Sequence[str]) -> None:
    """Parse a command as its command line would; raises when it does not know it."""
    program, name, *arguments = words
    CLIS[program].commands[name].make_context(name, arguments).close()
