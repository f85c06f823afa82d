"""What the sections of a config are made of: documented fields, read from a mapping and checked."""

from __future__ import annotations

from dataclasses import MISSING, Field, field, fields
from typing import Any, ClassVar

from segkd.errors import UserError, nearest
from segkd.training.values import Check, dictionary


def key(doc: str, default: Any = MISSING, *, unit: str = "", check: Check | None = None) -> Any:
    """A key of the config: what it is, its default (none: it must be given), its unit, and how it is checked."""
    return field(default=default, metadata={"doc": doc, "unit": unit, "check": check})


class Section:
    """What all sections can do: be read from a mapping, and written as one."""

    name: ClassVar[str] = ""

    @classmethod
    def read(cls, given: Any) -> Any:
        """The section of a mapping; a UserError for a key that is unknown, missing, or of a wrong value."""
        content = cls.known(given)
        known = {one.name: one for one in fields(cls)}  # type: ignore[arg-type]
        found = {name: cls._checked(known[name], value) for name, value in content.items()}
        for name, one in known.items():
            if one.default is MISSING and found.get(name) is None:
                raise UserError(f"the config has no {cls._full(name)}: {one.metadata['doc']}")
        return cls(**found)

    @classmethod
    def known(cls, given: Any) -> Any:
        """The mapping itself; a UserError if it is none, or holds a key that means nothing."""
        content = dictionary(given, cls.name or "the config")
        known = {one.name for one in fields(cls)}  # type: ignore[arg-type]
        for name in sorted(set(map(str, content)) - known):
            raise UserError(f"the config sets {cls._full(name)}, which means nothing; {nearest(name, known)}")
        return content

    def to_dict(self) -> dict[str, Any]:
        """The keys that differ from their defaults, as a mapping that ``read`` takes."""
        found = {one.name: getattr(self, one.name) for one in fields(self)}  # type: ignore[arg-type]
        differing = {one.name for one in fields(self) if found[one.name] is not one.default}  # type: ignore[arg-type]
        return {k: v.to_dict() if isinstance(v, Section) else v for k, v in found.items() if k in differing}

    @classmethod
    def _full(cls, name: str) -> str:
        return f"{cls.name}.{name}" if cls.name else name

    @classmethod
    def _checked(cls, one: Field[Any], value: Any) -> Any:
        """The value of a key in its own type; None means what the default means."""
        if value is None and one.default is not MISSING:
            return one.default
        check = one.metadata["check"]
        return check(value, cls._full(one.name)) if check else value
