"""Calls of torch's functions while a network runs, each by a name that does not depend on the image's size.

A name is ``path:function:number``: the module that is running, the function, and how many calls of it that module made
before; ``path:function:number:item`` for one of several things that a call gives. ``INPUT`` is what the network takes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

INPUT = ":input"
#: functions with weights as their second argument
WEIGHTED = ("conv2d", "conv_transpose2d", "linear")


class Calls(TorchFunctionMode):
    """Names every call inside of ``around``, and lets ``call`` make it."""

    def __init__(self) -> None:
        super().__init__()
        self._paths = [""]
        self._counts: Counter[tuple[str, str]] = Counter()

    @contextmanager
    def around(self, network: nn.Module) -> Iterator[None]:
        """The calls of ``network`` are named inside of the ``with``."""
        with ExitStack() as stack:
            for path, module in network.named_modules():
                if path:
                    stack.callback(module.register_forward_pre_hook(self._entering(path), prepend=True).remove)
                    stack.callback(module.register_forward_hook(self._leaving).remove)
            with self:
                yield

    def _entering(self, path: str) -> Callable[[nn.Module, Any], None]:
        def enter(module: nn.Module, args: Any) -> None:
            self._paths.append(path)

        return enter

    def _leaving(self, module: nn.Module, args: Any, output: Any) -> None:
        self._paths.pop()

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        place = self._paths[-1], getattr(func, "__name__", "")
        number = self._counts[place]
        self._counts[place] += 1
        return self.call(f"{place[0]}:{place[1]}:{number}", func, args, kwargs or {})

    def call(self, name: str, func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """What the call gives."""
        return func(*args, **kwargs)


def items_of(name: str, given: Any) -> Iterator[tuple[str, Tensor]]:
    """What a call gave, by name: a tensor, or those of a tuple or list."""
    if isinstance(given, Tensor):
        yield name, given
    elif isinstance(given, tuple | list):
        for number, item in enumerate(given):
            if isinstance(item, Tensor):
                yield f"{name}:{number}", item


def function_of(name: str) -> str:
    """The function of a call's name."""
    return name.split(":")[1]
