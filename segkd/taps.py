"""Taps: read what any named layer of any network gives, or takes, while the network runs.

    with tap(network, ["encoder.layer4", "encoder.layer1.0.relu@input#-1"]) as features:
        logits = network(x)
    loss = features["encoder.layer4"].square().mean()

A tap is written ``path[:item][@input][#call]``:

- ``path``    the layer's name in ``network.named_modules()``; the empty path is the network itself (its logits).
- ``:item``   picks from a tuple or list (``:0``, ``:-1``) or from a dict (``:aux``); needed exactly where the layer
  gives (with ``@input``: takes) several things. Several arguments are numbered, keyword arguments have their names.
- ``@input``  what goes into the layer instead of what comes out of it (the pre-activation: ``relu@input``).
- ``#call``   which call, of a layer that runs several times: from 0, or from the end (``#-1``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from segkd.errors import UserError, nearest

GRAMMAR = "path[:item][@input][#call]"
_PATTERN = re.compile(r"(?P<path>[^:@#\s]*)(:(?P<item>[^:@#\s]+))?(?P<input>@input)?(#(?P<call>-?\d+))?")
Shapes = dict[str, tuple[int, ...]]


class TapPath(NamedTuple):
    """A tap, taken apart."""

    path: str
    item: str | None = None
    input: bool = False
    call: int | None = None

    @classmethod
    def parse(cls, text: str) -> TapPath:
        """Take ``text`` apart; what does not follow the grammar is a UserError."""
        match = _PATTERN.fullmatch(text)
        if match is None:
            raise UserError(
                f"tap {text!r} is malformed; a tap is {GRAMMAR}, "
                "for example 'layer1', 'layer1.0.relu#1', 'decoder:0', 'relu@input#-1'"
            )
        call = match["call"]
        return cls(match["path"], match["item"], match["input"] is not None, None if call is None else int(call))

    def __str__(self) -> str:
        item = "" if self.item is None else f":{self.item}"
        call = "" if self.call is None else f"#{self.call}"
        return f"{self.path}{item}{'@input' if self.input else ''}{call}"

    def module(self, model: nn.Module) -> nn.Module:
        """The tapped layer of ``model``; a UserError with the nearest names if there is none of that name."""
        try:
            return model.get_submodule(self.path)
        except AttributeError as error:
            names = [name for name, _ in model.named_modules(remove_duplicate=False) if name]
            problem = f"{type(model).__name__} has no layer {self.path!r}; {nearest(self.path, names)}"
            raise UserError(problem) from error


class Features(Mapping[str, Tensor]):
    """Tap -> tensor, in the order asked for; filled by the forward passes inside the ``with``, readable after it.

    Reading raises a UserError for a layer that never ran, ran several times without ``#call``, or gave no tensor.
    """

    def __init__(self, model: nn.Module, taps: Sequence[str]) -> None:
        if isinstance(taps, str):
            raise UserError(f"taps are a list of paths, got the string {taps!r}; write [{taps!r}]")
        self._recorders = {text: _Recorder(text, model) for text in taps}
        self._started = False

    def __getitem__(self, text: str) -> Tensor:
        if text not in self._recorders:
            raise KeyError(f"{text!r} is not tapped; {nearest(text, self._recorders)}")
        return self._recorders[text].read(self._started)

    def __contains__(self, text: object) -> bool:
        return text in self._recorders

    def __iter__(self) -> Iterator[str]:
        return iter(self._recorders)

    def __len__(self) -> int:
        return len(self._recorders)

    def attach(self, model: nn.Module) -> Iterator[RemovableHandle]:
        """Register all hooks, one by one; the first forgets the last pass when a new one begins."""
        yield model.register_forward_pre_hook(self._begin)
        for recorder in self._recorders.values():
            yield recorder.attach(model)

    def _begin(self, module: nn.Module, args: Any) -> None:
        self._started = True
        for recorder in self._recorders.values():
            recorder.clear()


@contextmanager
def tap(model: nn.Module, taps: Sequence[str]) -> Iterator[Features]:
    """Record ``taps`` (see the module's docstring) during the forward passes of ``model`` inside the ``with``.

    What is recorded is a copy in the autograd graph: whatever the network later does in place to the tensor itself (a
    ReLU with ``inplace=True``, ``out += identity``) does not reach it, the network computes exactly what it computes
    without taps, and gradients flow through it to everything before the tap. Only tapped layers are copied.

    A new forward pass of ``model`` replaces what the last one recorded. Calls of its parts alone, outside its forward,
    are added as further calls.

    Raises:
        UserError: at once for a malformed tap or an unknown layer; the rest when the tap is read (see ``Features``).
    """
    features = Features(model, taps)
    with attached(features, model):
        yield features


@contextmanager
def attached(features: Features, model: nn.Module) -> Iterator[None]:
    """The hooks of taps are on ``model`` inside."""
    handles: list[RemovableHandle] = []
    try:
        for handle in features.attach(model):
            handles.append(handle)
        yield
    finally:
        for handle in handles:
            handle.remove()


class CompiledForward:
    """A network's forward pass with taps, compiled by ``torch.compile`` on its first call with images of a size.

    What the taps read are outputs of the compiled graph, like the logits. Random numbers (dropout) are drawn as
    without compiling.

    Args:
        model: the network.
        run: its forward pass, from an image to the logits.
        taps: what is read.
    """

    def __init__(self, model: nn.Module, run: Callable[[Tensor], Tensor], taps: Sequence[str]) -> None:
        self.model, self.run, self.features = model, run, Features(model, taps)
        self.compiled = torch.compile(self._run, dynamic=False, options={"fallback_random": True})

    def __call__(self, image: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The logits and what each tap read."""
        with attached(self.features, self.model):  # else they would be in every other forward pass of the network
            logits, features = self.compiled(image)
        return logits, features

    def _run(self, image: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        logits = self.run(image)
        return logits, dict(self.features)


def read_taps(model: nn.Module, taps: Sequence[str], x: Tensor) -> dict[str, Tensor]:
    """What ``taps`` give for the input ``x``, in eval mode and without gradient; ``model`` is left as it was."""
    with eval_mode(model), tap(model, taps) as features:
        model(x)
        return dict(features)


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """A context of eval mode without gradient; after it every module has its own train flag back."""
    flags = [(module, module.training) for module in model.modules()]
    try:
        model.eval()
        with torch.no_grad():
            yield
    finally:
        for module, flag in flags:
            module.training = flag


def tensors_in(value: object) -> dict[str, Tensor]:
    """The tensors that a tap can pick: ``{"": value}`` for a tensor, else one per item of a tuple, list or dict."""
    if isinstance(value, Tensor):
        return {"": value}
    items: Any = ()
    if isinstance(value, Mapping):
        items = value.items()
    elif isinstance(value, tuple | list):
        items = enumerate(value)
    return {str(key): item for key, item in items if isinstance(item, Tensor)}


class _Recorder:
    """What one tap saw since the last forward pass began: the shapes of every call, and a copy of the one asked for."""

    def __init__(self, text: str, model: nn.Module) -> None:
        self.text = text
        self.tap = TapPath.parse(text)
        module = self.tap.module(model)
        self.layer = f"layer {self.tap.path!r} ({type(module).__name__})" if self.tap.path else "the network itself"
        # These two hold layers but are never called.
        held = isinstance(module, nn.ModuleList | nn.ModuleDict)
        self.children = [f"{self.tap.path}.{name}" for name, _ in module.named_children()] if held else []
        self.clear()

    def clear(self) -> None:
        self.calls: list[Shapes] = []
        self.kept: dict[int, Tensor] = {}

    def attach(self, model: nn.Module) -> RemovableHandle:
        module = self.tap.module(model)
        if self.tap.input:
            return module.register_forward_pre_hook(self._before, with_kwargs=True)
        return module.register_forward_hook(self._after)

    def _before(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if len(args) + len(kwargs) == 1:
            self._record(next(iter((*args, *kwargs.values()))))
        else:
            self._record({**{str(i): value for i, value in enumerate(args)}, **kwargs})

    def _after(self, module: nn.Module, args: Any, output: Any) -> None:
        self._record(output)

    def _record(self, value: object) -> None:
        index, tensors = len(self.calls), tensors_in(value)
        self.calls.append({key: tuple(tensor.shape) for key, tensor in tensors.items()})
        item = self.tap.item or ""
        if isinstance(value, tuple | list) and re.fullmatch(r"-\d+", item):
            item = str(len(value) + int(item))
        call = self.tap.call
        if call is None and index > 0:
            self.kept.clear()  # ambiguous: reading is an error, so hold no memory for it
        elif item in tensors and (call is None or call < 0 or call == index):
            self.kept[index] = tensors[item].clone()
        if call is not None and call < 0:
            self.kept.pop(index + call, None)

    def read(self, started: bool) -> Tensor:
        if not self.calls:
            raise UserError(f"tap {self.text!r}: {self._why_never(started)}")
        index = self._index()
        if index not in self.kept:
            raise UserError(f"tap {self.text!r}: {self._choices(self.calls[index])}")
        return self.kept[index]

    def _why_never(self, started: bool) -> str:
        if not started:
            return "no forward pass of the network ran inside the `with`"
        if self.children:
            return f"{self.layer} only holds layers and never runs itself; tap one of {', '.join(self.children)}"
        return f"{self.layer} never ran in the forward pass: the network does not call it, or only other methods of it"

    def _index(self) -> int:
        count, call = len(self.calls), self.tap.call
        if call is None and count == 1:
            return 0
        if call is not None and -count <= call < count:
            return call % count
        shapes = [_show(self.tap._replace(call=i), shapes) for i, shapes in enumerate(self.calls)]
        problem = "say which one" if call is None else f"there is no call #{call}"
        times = "once" if count == 1 else f"{count} times"
        raise UserError(f"tap {self.text!r}: {self.layer} ran {times}, {problem}: {', '.join(shapes)}")

    def _choices(self, shapes: Shapes) -> str:
        verb = "takes" if self.tap.input else "gives"
        if not shapes:
            return f"{self.layer} {verb} no tensor"
        if "" in shapes:
            return f"{self.layer} {verb} one tensor {shapes['']}; leave out ':{self.tap.item}'"
        choices = ", ".join(f"'{self.tap._replace(item=key)}' {shape}" for key, shape in shapes.items())
        problem = "several things" if self.tap.item is None else f"no tensor {self.tap.item!r}"
        return f"{self.layer} {verb} {problem}, pick one of {choices}"


def _show(path: TapPath, shapes: Shapes) -> str:
    """``'relu#0' (1, 64, 8, 8)``; the shapes of all items where the tap picks none."""
    shape = shapes.get(path.item or "", tuple(shapes.values()))
    return f"'{path}' {shape if shape else 'no tensor'}"
