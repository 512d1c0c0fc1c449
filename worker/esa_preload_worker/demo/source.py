"""The URLs of a demo: the bundled sample, or a list of the caller's own."""

from __future__ import annotations

import contextlib
import itertools
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from esa_preload.errors import InvalidRequestError
from esa_preload.lines import read_lines

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

SAMPLE = "sample-urls.txt"


@contextlib.contextmanager
def open_urls(file: str | None) -> Generator[Iterator[str]]:
    """
    Yield the lines of *file*, or of the sample, as they are read; the first has been.

    Raises:
        InvalidRequestError: it cannot be read, or holds no URL.
    """
    path = Path(file) if file is not None else files("esa_preload_worker.demo") / SAMPLE
    with contextlib.ExitStack() as stack:
        try:
            lines = read_lines(stack.enter_context(path.open("rb")))
            first = next(lines, None)
        except OSError as exc:
            raise InvalidRequestError(f"{path} cannot be read: {exc.strerror}") from exc
        if first is None:
            raise InvalidRequestError(f"{path} is empty: there is no URL in it")
        yield itertools.chain([first], lines)
