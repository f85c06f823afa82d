"""SKD's critic and its losses as one would write them down, in the published order, on named parameters."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

Parameters = dict[str, Tensor]


def hashed(count: int, shift: float) -> Tensor:
    """``frac(sin(12.9898 * (i + 1) + shift) * 4375.85453) - 0.5`` for i = 0 .. count - 1."""
    x = torch.sin(12.9898 * torch.arange(1, count + 1, dtype=torch.float64) + shift) * 4375.85453
    return x - x.floor() - 0.5


def shape_of(name: str, in_channels: int, conv_dim: int) -> tuple[int, ...]:
    """The shape of a parameter by its published name."""
    part, rest = name.split(".", 1)
    if part == "preprocess_additional":
        return (in_channels,)
    if part == "last":
        return (1, 8 * conv_dim, 4, 4) if rest == "0.weight" else (1,)
    if part.startswith("attn"):
        channels = conv_dim * {"attn1": 4, "attn2": 8}[part]
        out = channels if rest.startswith("value") else channels // 8
        return (1,) if rest == "gamma" else ((out, channels, 1, 1) if rest.endswith("weight") else (out,))
    k = int(part[1]) - 1
    before, out = (in_channels if k == 0 else conv_dim * 2 ** (k - 1)), conv_dim * 2**k
    shapes = {"bias": (out,), "weight_u": (out,), "weight_v": (before * 16,), "weight_bar": (out, before, 4, 4)}
    return shapes[rest.rsplit(".", 1)[1]]


def ruled(names: list[str], in_channels: int, conv_dim: int) -> Parameters:
    """The parameters of the golden case, by its rule."""
    found = {}
    for j, name in enumerate(names):
        shape = shape_of(name, in_channels, conv_dim)
        value = hashed(math.prod(shape), 78.233 * (j + 1)).reshape(shape)
        if name.endswith(("_u", "_v")):
            value = value / value.norm()
        elif name.endswith("gamma"):
            value = torch.full(shape, 0.1, dtype=torch.float64)
        elif name == "preprocess_additional.weight":
            value = torch.ones(shape, dtype=torch.float64)
        else:
            value = 0.05 * value
        found[name] = value
    return found


def whitened(x: Tensor, p: Parameters) -> Tensor:
    """BatchNorm in training mode, which the later published critic begins with."""
    return F.batch_norm(x, None, None, p["preprocess_additional.weight"], p["preprocess_additional.bias"], True)


def power_iteration(p: Parameters) -> None:
    """One for each of the four convolutions, in place."""
    for k in range(1, 5):
        w = p[f"l{k}.0.module.weight_bar"].detach().flatten(1)
        v = w.T @ p[f"l{k}.0.module.weight_u"]
        p[f"l{k}.0.module.weight_v"] = v / v.norm()
        u = w @ p[f"l{k}.0.module.weight_v"]
        p[f"l{k}.0.module.weight_u"] = u / u.norm()


def critic(x: Tensor, p: Parameters) -> Tensor:
    """(N, C, H, W), at least 64 x 64, -> scores (N, 1, h, w); u and v stay."""
    for k in range(1, 5):
        w = p[f"l{k}.0.module.weight_bar"]
        sigma = p[f"l{k}.0.module.weight_u"].dot(w.flatten(1).mv(p[f"l{k}.0.module.weight_v"]))
        x = F.conv2d(x, w / sigma, p[f"l{k}.0.module.bias"], stride=2, padding=1)
        x = torch.where(x > 0, x, 0.1 * x)
        if k > 2:
            x = attention(x, p, f"attn{k - 2}")
    return F.conv2d(x, p["last.0.weight"], p["last.0.bias"])


def attention(x: Tensor, p: Parameters, name: str) -> Tensor:
    query, key, value = (
        F.conv2d(x, p[f"{name}.{part}_conv.weight"], p[f"{name}.{part}_conv.bias"]).flatten(2)
        for part in ("query", "key", "value")
    )
    weight = torch.softmax(torch.einsum("nci,ncj->nij", query, key), dim=2)
    return x + p[f"{name}.gamma"] * torch.einsum("ncj,nij->nci", value, weight).reshape(x.shape)


def critic_term(student: Tensor, teacher: Tensor, kind: str) -> Tensor:
    """The published order: the teacher's part, then the student's."""
    if kind == "hinge":
        return F.relu(1.0 - teacher).mean() + F.relu(1.0 + student).mean()
    return -teacher.mean() + student.mean()


def penalty(score: Callable[[Tensor], Tensor], student: Tensor, teacher: Tensor, alpha: Tensor) -> Tensor:
    """``score`` gives any map; published, the gradient is of its sum, which ones for each entry make."""
    x = (alpha * teacher + (1 - alpha) * student).detach().requires_grad_()
    out = score(x)
    grad = torch.autograd.grad(out, x, torch.ones_like(out), create_graph=True)[0].reshape(x.shape[0], -1)
    return ((torch.sqrt((grad**2).sum(1)) - 1) ** 2).mean()
