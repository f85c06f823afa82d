"""Names for classes, and building objects from config dictionaries.

A registry knows one package (``segkd.losses``, ...) or one plain module. Every module in a package is imported the
first time a name is asked for, so a new loss, network or data set is one new file: nothing else lists it.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar, cast

from segkd.errors import UserError, nearest

T = TypeVar("T")
C = TypeVar("C", bound=type)


class Registry(Generic[T]):
    """snake_case name -> class, for one kind of thing.

    Args:
        kind: what the things are called in messages ("loss", "network", "data set").
        package: dotted name of the package whose modules register them.
    """

    def __init__(self, kind: str, package: str) -> None:
        self.kind = kind
        self.package = package
        self._classes: dict[str, type[T]] = {}
        self._loaded = False

    def register(self, name: str) -> Callable[[C], C]:
        """Class decorator that makes the class known by ``name``."""

        def add(cls: C) -> C:
            known = self._classes.get(name)
            if known is not None and known.__qualname__ != cls.__qualname__:
                raise ValueError(f"{self.kind} {name!r} is registered twice: {known} and {cls}")
            self._classes[name] = cls
            return cls

        return add

    def names(self) -> list[str]:
        """All names, sorted."""
        self._load()
        return sorted(self._classes)

    def get(self, name: str) -> type[T]:
        """The class called ``name``; a UserError with its nearest neighbours if there is none."""
        self._load()
        if name not in self._classes:
            raise UserError(f"unknown {self.kind} {name!r}; {nearest(name, self._classes)}")
        return self._classes[name]

    def create(self, name: str, /, **kwargs: Any) -> T:
        """An instance of the class called ``name``."""
        return cast(T, construct(self.get(name), kwargs))

    def build(self, cfg: Any) -> T:
        """An instance from a config ``dict(type=..., **arguments)``; a built object passes through."""
        if cfg is None or isinstance(cfg, str | int | float | list | tuple):
            raise UserError(f"a {self.kind} is given as dict(type=...), got {cfg!r}")
        if inspect.isclass(cfg):
            raise UserError(f"a {self.kind} is given as dict(type={cfg.__name__}), got the class alone")
        if not isinstance(cfg, Mapping):
            return cast(T, cfg)
        arguments = dict(cfg)
        if "type" not in arguments:
            raise UserError(f"a {self.kind} needs a `type`; got the keys {sorted(map(str, arguments))}")
        return cast(T, construct(self.resolve(arguments.pop("type")), arguments))

    def resolve(self, target: Any) -> Any:
        """A class from itself, a dotted path, or a registered name."""
        if isinstance(target, str) and "." not in target:
            return self.get(target)
        return resolve(target, self.kind)

    def _load(self) -> None:
        if self._loaded:
            return
        self._loaded = True
        package = importlib.import_module(self.package)
        for module in pkgutil.iter_modules(getattr(package, "__path__", [])):
            importlib.import_module(f"{self.package}.{module.name}")


def resolve(target: Any, kind: str = "class") -> Any:
    """A class or function from itself or from its dotted path (``"package.module.Name"``)."""
    if not isinstance(target, str):
        return target
    module_name, _, attribute = target.rpartition(".")
    if not module_name:
        raise UserError(f"{kind} {target!r} is no class; give its dotted path (package.module.Class)")
    try:
        module = importlib.import_module(module_name)
    except (ImportError, ValueError, TypeError) as error:
        raise UserError(f"{kind} {target!r}: cannot import {module_name!r} ({error})") from error
    if not hasattr(module, attribute):
        raise UserError(f"{kind} {target!r}: {module_name} has no {attribute!r}; {nearest(attribute, dir(module))}")
    return getattr(module, attribute)


def build(cfg: Any, kind: str = "class") -> Any:
    """Build ``dict(type=class or dotted path, **arguments)``; anything without ``type`` passes through."""
    if not isinstance(cfg, Mapping) or "type" not in cfg:
        return cfg
    arguments = dict(cfg)
    return construct(resolve(arguments.pop("type"), kind), arguments)


def construct(cls: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
    """Call ``cls(**arguments)``; arguments that it does not take, lacks or cannot use are a UserError that says so."""
    try:
        signature = inspect.signature(cls)
    except (TypeError, ValueError):
        return cls(**arguments)
    parameters = signature.parameters
    name = getattr(cls, "__name__", str(cls))
    if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        for key in arguments:
            if key not in parameters:
                raise UserError(f"{name} has no argument {key!r}; {nearest(key, parameters)}")
    try:
        signature.bind(**arguments)
    except TypeError as error:
        raise UserError(f"{name}: {error}") from error
    try:
        return cls(**arguments)
    except (TypeError, ValueError, OverflowError) as error:  # a value of another kind than the class can use
        given = ", ".join(f"{key}={_short(value)}" for key, value in arguments.items())
        raise UserError(f"{name} cannot be built of {given or 'no arguments'}: {_short(str(error))}") from error


def _short(value: Any) -> str:
    """A value's text on one line, cut."""
    line = " ".join((value if isinstance(value, str) and len(value) > 40 else repr(value)).split())
    return line if len(line) <= 120 else line[:117] + "..."
