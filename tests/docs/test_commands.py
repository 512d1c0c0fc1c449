"""Every command and every JSON document in the docs is one that the command lines know."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
import shlex
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast, get_args

import click
import pytest

from docs.pages import ROOT, after, blocks, code_spans, pages, read, reference, without_blocks
from esa_preload import (
    Explanation,
    Failure,
    OperationLimit,
    Plan,
    Reason,
    Receipt,
    RequestInfo,
    RequestStatus,
    SiteStatus,
)
from esa_preload.commands import cli as producers_cli
from esa_preload.commands.documents import explanation_document, request_document
from esa_preload.explanation import ReasonCode
from esa_preload.shell import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_REDIS, EXIT_TIMEOUT, EXIT_USAGE
from esa_preload_worker.commands import cli as worker_cli

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CLIS: dict[str, click.Group] = {"esa-preload": producers_cli, "esa-preload-worker": worker_cli}
_ASSIGNMENT = re.compile(r"[A-Z_a-z]+=")


def _makefile() -> str:
    return (ROOT / "Makefile").read_text(encoding="utf-8")


def _commands(script: str) -> Iterator[list[str]]:
    """Yield the words of each command of a shell *script*, without assignments, redirections and comments."""
    lexer = shlex.shlex(
        script.replace("\\\n", " ").replace("\n", " ; "), posix=True, punctuation_chars="|&;<>"
    )
    lexer.whitespace_split = True
    lexer.commenters = ""
    words: list[str] = []
    for word in [*lexer, ";"]:
        if set(word) <= set("|&;"):
            if words:
                yield _redirected(words)
            words = []
        elif words or not _ASSIGNMENT.match(word):
            words.append(word)


def _redirected(words: list[str]) -> list[str]:
    """Leave redirections out."""
    kept: list[str] = []
    skip = False
    for word in words:
        if set(word) <= set("<>"):
            skip = True
        elif skip:
            skip = False
        else:
            kept.append(word)
    return kept


def _scripts(page: Path) -> list[str]:
    """Return the shell blocks of a page without comments."""
    return [
        re.sub(r"(^|\s)#.*$", "", block.text, flags=re.MULTILINE)
        for block in blocks(read(page))
        if block.language == "sh"
    ]


def _check(words: list[str]) -> None:
    """Parse *words* as their command line would, without running anything."""
    name = words[0].rsplit("/", 1)[-1]
    if name in CLIS:
        _check_cli(CLIS[name], words[1:])
    elif name == "make":
        makefile = _makefile()
        for word in words[1:]:
            variable, is_assignment, _ = word.partition("=")
            wanted = rf"^{variable} *\?=" if is_assignment else rf"^{re.escape(word)}:"
            assert re.search(wanted, makefile, re.MULTILINE), f"make knows no {word}"


def _check_cli(cli: click.Group, arguments: list[str]) -> None:
    if not arguments or arguments[0].startswith("-"):
        return
    assert arguments[0] in cli.commands, f"no command {arguments[0]}"
    if isinstance(below := cli.commands[arguments[0]], click.Group):
        _check_cli(below, arguments[1:])
        return
    with contextlib.suppress(click.exceptions.Exit):  # --help
        cli.commands[arguments[0]].make_context(arguments[0], arguments[1:]).close()


@pytest.mark.parametrize("page", pages(), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_command_in_a_shell_block_is_accepted_by_its_command_line(page: Path) -> None:
    """Commands, options, their values and make's targets in the docs exist; nothing is run."""
    for script in _scripts(page):
        for words in _commands(script):
            _check(words)


@pytest.mark.parametrize("page", pages(), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_command_in_a_sentence_exists_with_its_options(page: Path) -> None:
    """A command between backquotes exists, and so does each option that is written with it."""
    for span in code_spans(without_blocks(read(page))):
        name, *arguments = span.split()
        if name == "make":
            _check(span.split())
        if name not in CLIS or not arguments or arguments[0].startswith("-"):
            continue
        command: click.Command = CLIS[name]
        while isinstance(command, click.Group) and arguments:
            assert arguments[0] in command.commands, span
            command = command.commands[arguments.pop(0)]
        known = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in arguments if word.startswith("--")} <= known, span


def test_the_check_of_commands_finds_what_does_not_exist() -> None:
    """The two tests above can fail: an unknown command, option, value and target each are found."""
    with pytest.raises(AssertionError):
        _check(["esa-preload", "enqeue"])
    with pytest.raises(AssertionError):
        _check(["make", "tea"])
    for words in (["enqueue", "--sight", "1"], ["enqueue", "--site", "1", "--priority", "higher"]):
        with pytest.raises(click.UsageError):
            _check(["esa-preload", *words])
    script = "A=1 esa-preload sites | less\nmake test && make \\\n  lint > out"
    assert list(_commands(script)) == [["esa-preload", "sites"], ["less"], ["make", "test"], ["make", "lint"]]


@pytest.mark.parametrize("kind", [Receipt, RequestStatus, SiteStatus, Failure, OperationLimit])
def test_a_json_document_on_the_page_has_the_fields_that_are_printed(kind: type[Any]) -> None:
    """The example of each document has the fields of the value that is printed, in their order."""
    block = blocks(after(reference("commands.md"), f"json: {kind.__name__}") + "\n")[0]
    document = json.loads(block.text)
    example = cast("dict[str, object]", document[0] if isinstance(document, list) else document)
    assert list(example) == [field.name for field in dataclasses.fields(kind)]


def test_the_list_of_requests_on_the_page_is_as_it_is_printed() -> None:
    """The example has the fields that the command prints, in their order."""
    block = blocks(after(reference("commands.md"), "json: requests") + "\n")[0]
    status = RequestStatus(request_id="r", site_id=1, state="done")
    now = datetime.now(UTC)
    info = RequestInfo(status=status, created_at=now, source="", actor="", priority="low", plan=Plan())
    (example,) = json.loads(block.text)
    document = request_document(info)
    assert list(example) == list(document)
    assert list(example["plan"]) == list(document["plan"])


def test_the_explanation_on_the_page_is_as_it_is_printed() -> None:
    """The example has the fields that the command prints, in their order; so has each of its reasons."""
    block = blocks(after(reference("commands.md"), "json: Explanation") + "\n")[0]
    example = json.loads(block.text)
    found = Explanation(site_id=1, url="u", state="pending", reasons=(Reason(code="quota", text="x"),))
    document = explanation_document(found)
    assert list(example) == list(document)
    assert list(example["reasons"][0]) == list(document["reasons"][0])


def test_each_reason_of_an_explanation_is_on_its_page() -> None:
    """The table of the how-to has a row for each code of the closed set, and no other."""
    page = read(ROOT / "docs" / "how-to" / "read-a-status.md")
    _, _, rest = page.partition("## Each reason")
    table = rest.partition("\n## ")[0]
    listed = re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)
    assert sorted(listed) == sorted(get_args(ReasonCode))


def test_the_exit_codes_on_the_page_are_the_shell_s() -> None:
    """The table of exit codes names each code that the command lines end with."""
    listed = re.findall(r"^\| (\d+) \|", reference("commands.md"), re.MULTILINE)
    codes = [0, EXIT_FAILED, EXIT_USAGE, EXIT_REDIS, EXIT_TIMEOUT, EXIT_INTERRUPTED]
    assert [int(code) for code in listed] == codes
