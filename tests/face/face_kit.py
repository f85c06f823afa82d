"""What the tests of the functions of ``import segkd`` share."""

from __future__ import annotations

from typing import Any

SCENES = dict(type="synthetic", size=(64, 96), length=4)
TINY: dict[str, Any] = dict(steps=2, batch=2, preflight=False, progress=False)
