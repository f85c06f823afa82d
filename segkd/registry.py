"""Names for classes, and building objects from config dictionaries.

A registry knows one package (``segkd.losses``, ...) or one plain module. Which module of a package registers a name is
read from the modules' text, and only that one is imported when the name is asked for. So a new loss, network or data
set is one new file that nothing else lists, and what no one asks for costs no time.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

from segkd.errors import UserError, nearest

T = TypeVar("T")
C = TypeVar("C", bound=type)
#: a line of a module by which its name is known without importing it
DECORATOR = re.compile(r"""^@[\w.]+\.register\(\s*["'](\w+)["'],?\s*\)""", re.MULTILINE)


class Registry(Generic[T]):
    """snake_case name -> class, for one kind of thing.

    Args:
        kind: what the things are called in messages ("loss", "network", "data set").
        package: dotted name of the package whose modules register them, each by ``@REGISTRY.register("name")``; a
            module that calls ``register`` in another way works too, and is imported to learn its names.
    """

    def __init__(self, kind: str, package: str) -> None:
        self.kind = kind
        self.package = package
        self._classes: dict[str, type[T]] = {}

    def register(self, name: str) -> Callable[[C], C]:
        """Class decorator that makes the class known by ``name``."""

        def add(cls: C) -> C:
            if not f"{cls.__module__}.".startswith(f"{self.package}."):
                self._import(name)  # a class from elsewhere must not take the name of one of the package
            known = self._classes.get(name)
            if known is not None and known.__qualname__ != cls.__qualname__:
                raise ValueError(f"{self.kind} {name!r} is registered twice: {known} and {cls}")
            self._classes[name] = cls
            return cls

        return add

    def names(self) -> list[str]:
        """All names, sorted."""
        return sorted({*self._modules, *self._classes})

    def get(self, name: str) -> type[T]:
        """The class called ``name``; a UserError with its nearest neighbours if there is none."""
        self._import(name)
        if name not in self._classes:
            raise UserError(f"unknown {self.kind} {name!r}; {nearest(name, self.names())}")
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

    def _import(self, name: str) -> None:
        """Import the module of the package that registers ``name``, if there is one and it has not been yet."""
        if name not in self._classes and name in self._modules:
            importlib.import_module(self._modules[name])

    @cached_property
    def _modules(self) -> dict[str, str]:
        """name -> the module of the package that registers it; modules whose text does not tell are imported."""
        found: dict[str, str] = {}
        for module, text in _texts(self.package):
            own = DECORATOR.findall(text)
            if not text or text.count(".register(") > len(own):
                importlib.import_module(module)
            for name in own:
                if name in found:
                    raise ValueError(f"{self.kind} {name!r} is registered twice: in {found[name]} and {module}")
                found[name] = module
        return found


def _texts(package: str) -> Iterator[tuple[str, str]]:
    """Each module of a package, or a plain module itself, and its source; "" where there is no source to read."""
    spec = find_spec(package)
    if spec is None or spec.submodule_search_locations is None:
        yield package, ""
        return
    for folder in spec.submodule_search_locations:
        for module in pkgutil.iter_modules([folder]):
            file = Path(folder, module.name, "__init__.py") if module.ispkg else Path(folder, f"{module.name}.py")
            yield f"{package}.{module.name}", file.read_text(encoding="utf-8") if file.is_file() else ""


class Described:
    """Remembers the arguments that it was made of, so that a config can hold it: see ``description``."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "__init__" in vars(cls):
            cls.__init__ = _remembering(cls.__init__)  # type: ignore[method-assign]


def _remembering(init: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(init)
    def remembered(self: Any, *args: Any, **kwargs: Any) -> None:
        vars(self).setdefault("_made_of", (args, kwargs))  # the outermost class's, which is called first
        init(self, *args, **kwargs)

    return remembered


def description(made: Any) -> dict[str, Any] | None:
    """``dict(type=class, **arguments)`` that ``build`` makes such an object of; None where that is not known.

    It is of a ``Described`` object, and of one that takes no arguments and holds nothing. What was changed after the
    object was made (weights that were trained) is not in it.
    """
    if "_made_of" not in getattr(made, "__dict__", {"_made_of": None}):
        bare = type(made).__init__ is object.__init__ and not vars(made)
        return {"type": type(made)} if bare else None
    if not isinstance(made, Described):
        return None
    args, kwargs = vars(made)["_made_of"]
    parameters = inspect.signature(type(made)).parameters.values()
    if len(args) > sum(p.kind is p.POSITIONAL_OR_KEYWORD for p in parameters):
        return None
    return {"type": type(made), **dict(zip((p.name for p in parameters), args, strict=False)), **kwargs}


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
