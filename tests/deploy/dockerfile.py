"""Read a Dockerfile, and carry its steps out without an engine: each stage in a root of its own (see :mod:`deploy.clean_root`)."""

from __future__ import annotations

import fnmatch
import json
import re
import shlex
import shutil
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from deploy.clean_root import CleanRoot

_VARIABLE = re.compile(r"\$\{?(\w+)\}?")


@dataclass(frozen=True, slots=True)
class Step:
    """An instruction and what follows it."""

    instruction: str
    rest: str

    def words(self) -> list[str]:
        """Return what follows: the list of a JSON form, or the words of a plain one."""
        return json.loads(self.rest) if self.rest.startswith("[") else shlex.split(self.rest)


@dataclass(slots=True)
class Stage:
    """What begins with FROM."""

    image: str
    name: str
    steps: list[Step] = field(default_factory=list[Step])

    def last(self, instruction: str) -> Step:
        """Return the instruction that counts: the last of its kind."""
        return [step for step in self.steps if step.instruction == instruction][-1]

    def environment(self) -> dict[str, str]:
        """Return what ENV sets, with ``$PATH`` as it is in the base."""
        found = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
        for step in self.steps:
            if step.instruction == "ENV":
                pairs = dict(word.split("=", 1) for word in shlex.split(step.rest))
                found |= {name: _substituted(value, found) for name, value in pairs.items()}
        return found


def steps_of(text: str) -> Iterator[Step]:
    """Yield the instructions of a Dockerfile, continued lines joined, comments left out."""
    lines = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    for line in lines.replace("\\\n", " ").splitlines():
        if line.strip():
            instruction, _, rest = line.strip().partition(" ")
            yield Step(instruction, rest.strip())


def stages_of(text: str) -> list[Stage]:
    """Return the stages, with the defaults of the global ARGs put in."""
    arguments: dict[str, str] = {}
    stages: list[Stage] = []
    for step in steps_of(text):
        if step.instruction == "FROM":
            image, _, name = _substituted(step.rest, arguments).partition(" AS ")
            stages.append(Stage(image, name))
        elif not stages:
            name, _, default = step.rest.partition("=")
            arguments[name] = default
        else:
            stages[-1].steps.append(step)
    return stages


def _substituted(text: str, values: dict[str, str]) -> str:
    return _VARIABLE.sub(lambda match: values.get(match[1], ""), text)


@dataclass(frozen=True, slots=True)
class Ignored:
    """The patterns of a ``.dockerignore``; the last one that matches a path, or a folder it is in, decides."""

    patterns: tuple[str, ...]

    @classmethod
    def read(cls, path: Path) -> Ignored:
        """Read a file of patterns."""
        lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
        return cls(tuple(line for line in lines if line and not line.startswith("#")))

    def leaves_out(self, path: PurePosixPath) -> bool:
        """Tell whether the file at *path*, relative to the context, is not sent to the engine."""
        names = [str(parent) for parent in (path, *path.parents) if str(parent) != "."]
        is_out = False
        for pattern in self.patterns:
            plain = pattern.removeprefix("!")
            if any(_matches(name, plain) for name in names):
                is_out = not pattern.startswith("!")
        return is_out


def _matches(name: str, pattern: str) -> bool:
    if pattern.startswith("**/"):
        return fnmatch.fnmatch(name.rpartition("/")[2], pattern[3:])
    return fnmatch.fnmatch(name, pattern) and name.count("/") == pattern.count("/")


def context_of(root: Path, ignored: Ignored, to: Path) -> None:
    """Copy to *to* what an engine would be sent of *root*."""
    for path in sorted(root.rglob("*")):
        relative = path.relative_to(root)
        if relative.parts[0] in (".git", ".venv") or not path.is_file():
            continue
        if not ignored.leaves_out(PurePosixPath(relative)):
            (to / relative).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, to / relative)


def build(stages: list[Stage], context: Path, base: Callable[[str], CleanRoot]) -> CleanRoot:
    """Carry out every stage; returns the root of the last. *base* makes the root of an image."""
    built: dict[str, CleanRoot] = {}
    root = None
    for stage in stages:
        root = base(stage.image)
        _carry_out(stage, root, context, built)
        built[stage.name] = root
    assert root is not None
    return root


def _carry_out(stage: Stage, root: CleanRoot, context: Path, built: dict[str, CleanRoot]) -> None:
    directory = PurePosixPath("/")
    for step in stage.steps:
        match step.instruction:
            case "WORKDIR":
                directory /= step.rest
                root.path(directory).mkdir(parents=True, exist_ok=True)
            case "COPY":
                words = step.words()
                source = (
                    built[words.pop(0).removeprefix("--from=")].root if "--from=" in words[0] else context
                )
                for name in words[:-1]:
                    _copy(source / name.lstrip("/"), root.path(directory / words[-1]), into=words[-1])
            case "RUN":
                root.run(["/bin/sh", "-c", step.rest], env=stage.environment(), cwd=str(directory))
            case _:
                pass


def _copy(source: Path, target: Path, *, into: str) -> None:
    if source.is_dir():
        shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True)
    else:
        folder = target if into.endswith("/") else target.parent
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, folder / source.name if into.endswith("/") else target)
