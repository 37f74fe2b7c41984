"""The parameters of actions: what an agent sees of them, and how its calls are read."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import msgspec
import structlog

from nanoclaw_core.filenames import clean_name, media_type
from nanoclaw_core.models import UploadedFile
from nanoclaw_core.ports import Action

log = structlog.get_logger()

#: Bytes of one file.
MOST_BYTES: Final = 50 * 1024 * 1024
#: The SHA-256 of the content, and something that tells this copy of it from others.
UPLOAD: Final = re.compile(r"[0-9a-f]{64}-[0-9a-f]{16}")
_FILE: Final = f"#/$defs/{UploadedFile.__name__}"
_FILE_SCHEMA: Final = {"type": "string", "description": "The path of a file, relative to /workspace or absolute."}
_HOST_PATH: Final = "path on the host"

Json = dict[str, Any]  # Any: JSON of a format that we do not own


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """An action, and what the agent sees of it. `files` are the parameters that are files."""

    action: Action[Any]  # Any: each action has parameters of its own
    schema: Json
    files: tuple[str, ...]

    @property
    def listed(self) -> Json:
        return {"name": self.action.name, "description": self.action.description, "inputSchema": self.schema}


def tools_of(actions: Iterable[Action[Any]]) -> dict[str, Tool]:
    """Those that can be called, by name; of the others, the log says why not."""
    tools: dict[str, Tool] = {}
    for action in actions:
        try:
            tools[action.name] = tool_of(action)
        except TypeError as error:
            log.error("action.unusable", action=action.name, reason=str(error))
    return tools


def tool_of(action: Action[Any]) -> Tool:
    """Raises:
    TypeError: the type of a parameter has no JSON.
    """
    schema = schema_of(action.parameters)
    files = tuple(name for name, field in schema["properties"].items() if _holds(field, "$ref", _FILE))
    plain = _with_paths(schema)
    if _holds(plain, "format", _HOST_PATH) or _holds(plain, "$ref", _FILE):
        raise TypeError("a path on the host is no parameter, and a file is only one by itself or in a tuple")
    return Tool(action=action, schema=plain, files=files)


def schema_of(parameters: type) -> Json:
    """The JSON Schema of a dataclass as one object that needs nothing else.

    Raises:
        TypeError: a field's type has no JSON.
    """
    (reference,), components = msgspec.json.schema_components(
        [parameters], ref_template="#/$defs/{name}", schema_hook=_schema_of_path
    )
    schema = components.pop(reference["$ref"].rpartition("/")[2])
    return {**schema, "additionalProperties": False, **({"$defs": components} if components else {})}


def file_rules(actions: Iterable[Action[Any]]) -> Json:
    """What a worker's runner must know of files: which parameters are some, by the action's name, and how long one may be."""
    parameters: dict[str, list[str]] = {}
    for action in actions:
        with suppress(TypeError):  # `tools_of` says so
            if files := tool_of(action).files:
                parameters[action.name] = list(files)
    return {"parameters": parameters, "most_bytes": MOST_BYTES}


def read_arguments(action: Action[Any], arguments: object) -> object:
    """The arguments of a call as the action's own dataclass; files are those that `Handed.as_files` put in.

    Raises:
        msgspec.ValidationError: it names the field that is missing, unknown or of another type.
    """
    known = {field.name for field in dataclasses.fields(action.parameters)}
    for name in arguments if isinstance(arguments, dict) else ():
        if name not in known:
            raise msgspec.ValidationError(f"there is no field `{name:.80}`; known are {', '.join(sorted(known)) or 'none'}")
    return msgspec.convert(arguments, action.parameters, dec_hook=_path)


class Handed:
    """The files in the arguments of a call, as the runner in the container has put them there: path and upload.

    Raises:
        msgspec.ValidationError: one of them was not handed over; it says why.
    """

    def __init__(self, arguments: Json, files: Sequence[str]) -> None:
        self._arguments = arguments
        self._names = [name for name in files if arguments.get(name) is not None]
        self.uploads: list[str] = [value["upload"] for name in self._names for value in _values(name, arguments[name])]

    def as_named(self) -> Json:
        """The arguments, with what makes a file the same one when the call is made again: its path and its content."""
        return self._with(lambda value: {"path": value["path"], "sha256": value["upload"].partition("-")[0]})

    def as_files(self, folder: Path, sizes: Mapping[str, int]) -> Json:
        """The arguments, with the host's own copies, which are in `folder`."""
        return self._with(lambda value: _file(value["path"], folder / value["upload"], sizes.get(value["upload"], 0)))

    def _with(self, change: Callable[[Json], Json]) -> Json:
        changed = dict(self._arguments)
        for name in self._names:
            value = changed[name]
            changed[name] = [change(each) for each in value] if isinstance(value, list) else change(value)
        return changed


def _values(name: str, value: object) -> list[Json]:
    values: list[Any] = value if isinstance(value, list) else [value]  # Any: JSON, looked at here
    for each in values:
        match each:
            case {"path": str(), "upload": str(upload)} if UPLOAD.fullmatch(upload):
                pass
            case {"problem": str(problem)}:
                raise msgspec.ValidationError(f"{problem:.500}")
            case _:
                raise msgspec.ValidationError(f"`{name}` is a file, and the runner in the container did not hand it over")
    return values


def _file(path: str, copy: Path, size: int) -> Json:
    name = clean_name(path)
    return {"name": name, "path": str(copy), "size": size, "media_type": media_type(name)}


def _with_paths(schema: Json) -> Json:
    """What the agent sees: a file is the text of its path, where a parameter is one, or several. The action says the rest."""
    properties = {name: _with_path(field) for name, field in schema["properties"].items()}
    components = {name: part for name, part in schema.get("$defs", {}).items() if name != UploadedFile.__name__}
    plain = {name: part for name, part in schema.items() if name not in ("$defs", "title", "description")}
    return {**plain, "properties": properties, **({"$defs": components} if components else {})}


def _with_path(field: Json) -> Json:
    match field:
        case {"$ref": reference} if reference == _FILE:
            return {**_FILE_SCHEMA, **{name: value for name, value in field.items() if name != "$ref"}}
        case {"anyOf": list(kinds)}:
            return {**field, "anyOf": [_with_path(kind) for kind in kinds]}
        case {"items": dict(kind)}:
            return {**field, "items": _with_path(kind)}
        case _:
            return field


def _holds(schema: object, key: str, value: str) -> bool:
    """Whether it is in the schema, at any depth."""
    if isinstance(schema, dict):
        return schema.get(key) == value or any(_holds(part, key, value) for part in schema.values())
    return isinstance(schema, list) and any(_holds(part, key, value) for part in schema)


def _schema_of_path(kind: type) -> Json:
    if kind is Path:
        return {"format": _HOST_PATH}
    raise NotImplementedError


def _path(kind: type, value: object) -> object:
    if kind is Path:
        return Path(str(value))
    raise NotImplementedError


def text_of(arguments: object) -> str:
    """JSON that is the same for the same arguments."""
    return json.dumps(arguments, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
