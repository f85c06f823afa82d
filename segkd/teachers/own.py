"""Teachers of the user's own code: a class or function of a module that can be imported, with a file of its weights."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from torch import nn

from segkd.errors import UserError, first_line, nearest
from segkd.models import Network, Preprocess
from segkd.models.base import apply_weights
from segkd.models.own import OwnNetwork, logits_of
from segkd.models.statedict import named_as_in, read_state_dict
from segkd.registry import construct
from segkd.teachers.fitting import outputs_by_trial, probed_outputs


def load(
    name: str | None, file: Path | None, *, num_classes: int | None, preprocess: Preprocess | None, download: bool
) -> Network:
    """A network of the user's, whose logits may be of any size and lie in a dict, tuple or list (``OwnNetwork``).

    Args:
        name: ``module:Class`` or ``module.Class``, importable from the working directory or a config's folder; a
            function that makes the network, or the network itself, may stand for the class.
        file: its state dict. Only a class needs one: what a function makes may hold its weights already.
        num_classes: given to a class or function that takes it; else read off the file or off what it gives.
        preprocess: by default that of a segkd network's own, else ImageNet's mean and std.
        download: not used.
    """
    if name is None:
        raise UserError("say which network that is, module:Class@FILE")
    target = found(name)
    if inspect.isclass(target) and file is None:
        raise UserError(
            f"{name} is a class, so what it makes is untrained: name its weights, {name}@FILE, or a function that "
            "returns the trained network"
        )
    tensors = None if file is None else read_state_dict(file)
    takes = _takes_classes(target)
    if takes and num_classes is None and tensors is not None:
        num_classes = outputs_by_trial(lambda count: _made(target, name, count), tensors)
    if takes and num_classes is None:
        raise UserError(f"{name} is made for a number of classes, and no tensor tells it: give num_classes")
    module = _made(target, name, num_classes if takes else None)
    if tensors is not None:
        apply_weights(module, named_as_in(tensors, module), str(file))
    network = module if isinstance(module, Network) else _wrapped(module, num_classes, preprocess)
    if preprocess is not None:
        network.preprocess = preprocess
    names = getattr(module, "class_names", None)
    network.class_names = list(names) if names is not None else None
    return network


def found(name: str) -> Any:
    """What ``module:Class`` or ``module.Class`` names."""
    module, _, attribute = name.rpartition(":") if ":" in name else name.rpartition(".")
    sys.path.extend([] if os.getcwd() in sys.path or "" in sys.path else [os.getcwd()])  # where it shadows nothing
    try:
        content = import_module(module)
    except Exception as error:  # whatever the user's code raises
        raise UserError(
            f"teacher {name}: cannot import {module!r} ({type(error).__name__}: {first_line(error)})"
        ) from error
    if not hasattr(content, attribute):
        raise UserError(f"teacher {name}: {module} has no {attribute!r}; {nearest(attribute, dir(content))}")
    return getattr(content, attribute)


def _takes_classes(target: Any) -> bool:
    return (
        not isinstance(target, nn.Module) and callable(target) and "num_classes" in inspect.signature(target).parameters
    )


def _made(target: Callable[..., Any] | nn.Module, name: str, num_classes: int | None) -> nn.Module:
    """The network that a class or function makes."""
    if isinstance(target, nn.Module):
        return target
    if not callable(target):
        raise UserError(f"teacher {name} is neither a class, a function nor a torch module: {target!r}")
    made = construct(target, {} if num_classes is None else {"num_classes": num_classes})
    if not isinstance(made, nn.Module):
        raise UserError(f"teacher {name} makes no torch module but {type(made).__name__}")
    return made


def _wrapped(module: nn.Module, num_classes: int | None, preprocess: Preprocess | None) -> Network:
    count = probed_outputs(module, lambda x: logits_of(module(x), type(module).__name__))
    if num_classes is not None and count != num_classes:
        raise UserError(
            f"{type(module).__name__} gives {count} classes, not {num_classes}; say by classes= which of its outputs "
            "are the data's"
        )
    return OwnNetwork(module, count, preprocess)
