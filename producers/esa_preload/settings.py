"""How a daemon's settings are read from the environment: all that is wrong is named at once, and what is unknown is warned about."""

from __future__ import annotations

import difflib
import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Generic, Literal, TypeVar

from pydantic import AfterValidator, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from esa_preload.connection import SCHEMES, connect
from esa_preload.errors import SettingsError
from esa_preload.keys import Keys

if TYPE_CHECKING:
    from collections.abc import Mapping

PREFIX = "ESA_PRELOAD_"

OTHER_VARIABLES = frozenset({f"{PREFIX}TEST_REDIS", f"{PREFIX}CHAOS_SEED"})
"""What the tests read."""

Seconds = Annotated[float, Field(ge=0.05, le=30 * 86_400)]


def _namespace(value: str) -> str:
    try:
        Keys(value)
    except SettingsError as exc:
        raise ValueError(str(exc).removeprefix("ESA_PRELOAD_NAMESPACE ")) from None
    return value


class EnvironmentSettings(BaseSettings):
    """What every daemon reads from ``ESA_PRELOAD_*``."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        frozen=True,
        extra="ignore",
        str_strip_whitespace=True,
        hide_input_in_errors=True,
        allow_inf_nan=False,
    )

    secrets: ClassVar[Collection[str]] = ("redis_url",)
    """Those that may stand in a file, which ``<NAME>_FILE`` names."""

    redis_url: Annotated[SecretStr, Field(description=f"Where the queue is: {SCHEMES}. Required.")]
    namespace: Annotated[str, AfterValidator(_namespace)] = Field(
        "default", description="Separates queues on one Redis; one namespace is one ESA account and endpoint."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Lowest level that is logged."
    )
    log_format: Literal["auto", "json", "console"] = Field(
        "auto", description="auto: console on a terminal, else JSON."
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read only what :func:`read` hands over."""
        del settings_cls, env_settings, dotenv_settings, file_secret_settings
        return (init_settings,)

    @field_validator("log_level", "log_format", mode="before")
    @classmethod
    def _lower(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value

    @field_validator("redis_url")
    @classmethod
    def _redis_url(cls, value: SecretStr) -> SecretStr:
        try:
            connect(value.get_secret_value())
        except SettingsError as exc:
            raise ValueError(str(exc).removeprefix(f"{PREFIX}REDIS_URL").lstrip(": ")) from None
        return value


S = TypeVar("S", bound=EnvironmentSettings)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedSettings(Generic[S]):
    """Settings, and what is odd about the environment they came from (sentences, without values)."""

    settings: S
    warnings: tuple[str, ...]


def read(
    model: type[S], environ: Mapping[str, str] | None, *, others: Collection[str], hint: str
) -> LoadedSettings[S]:
    """
    Read the settings of *model*; a variable that is empty counts as not set.

    Args:
        environ: that of the process unless given.
        others: variables that are settings of other processes, and not warned about.
        hint: what lists all settings.

    Raises:
        SettingsError: names every variable that is missing or out of range, at once.
    """
    environ = os.environ if environ is None else environ
    values: dict[str, str] = {}
    problems: list[str] = []
    for name in model.model_fields:
        variable = variable_of(name)
        if environ.get(variable, "").strip():
            values[name] = environ[variable]
        elif f"{variable}_FILE" in environ and name in model.secrets:
            try:
                values[name] = Path(environ[f"{variable}_FILE"]).read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError) as exc:
                problems.append(f"{variable}_FILE cannot be read: {exc.__class__.__name__}")
    try:
        settings = model.model_validate(values)
    except ValidationError as exc:
        problems += [_problem(error) for error in exc.errors(include_url=False, include_input=False)]
        raise SettingsError("; ".join(problems), hint=hint) from None
    if problems:
        raise SettingsError("; ".join(problems))
    return LoadedSettings(settings=settings, warnings=tuple(_warnings(environ, variables(model), others)))


def variable_of(name: str) -> str:
    """Return the environment variable of a field."""
    return f"{PREFIX}{name.upper()}"


def variables(model: type[EnvironmentSettings]) -> list[str]:
    """Return the environment variables that *model* is read from."""
    return [
        *map(variable_of, model.model_fields),
        *(f"{variable_of(name)}_FILE" for name in model.secrets),
    ]


def _problem(error: Any) -> str:
    location = error["loc"]
    message = str(error["msg"]).removeprefix("Value error, ")
    variable = variable_of(str(location[0]))
    if error["type"] == "missing":
        return f"{variable} is not set"
    return f"{variable}: {_as_clause(message)}"


def _as_clause(sentence: str) -> str:
    """Lower the first letter, unless the first word is a name."""
    first, _, _ = sentence.partition(" ")
    return sentence if len(first) > 1 and first.isupper() else f"{sentence[:1].lower()}{sentence[1:]}"


def _warnings(environ: Mapping[str, str], known: Collection[str], others: Collection[str]) -> list[str]:
    found: list[str] = []
    for variable in sorted(environ):
        if variable.startswith(PREFIX) and variable not in {*known, *others, *OTHER_VARIABLES}:
            names = [name.removeprefix(PREFIX) for name in known]
            close = difflib.get_close_matches(variable.removeprefix(PREFIX), names, n=1)
            found.append(
                f"{variable} is not a setting" + (f"; is {PREFIX}{close[0]} meant?" if close else "")
            )
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingRow:
    """A row of the table from which the docs and the sample env file are printed."""

    variable: str
    default: str
    help: str


def table_of(model: type[EnvironmentSettings]) -> list[SettingRow]:
    """Return every setting of *model*, in order."""
    return [
        SettingRow(
            variable=variable_of(name),
            default="" if info.is_required() else _shown(info.get_default()),
            help=info.description or "",
        )
        for name, info in model.model_fields.items()
    ]


def _shown(default: object) -> str:
    if isinstance(default, bool):
        return "on" if default else "off"
    if isinstance(default, float) and default.is_integer():
        return str(int(default))
    return str(default)
