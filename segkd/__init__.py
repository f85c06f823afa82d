"""segkd: light semantic-segmentation networks, taught by heavy ones and shipped as int8."""

from __future__ import annotations

__version__ = "0.1.0"

TYPE_CHECKING = False  # typing's own takes 10 ms to import
if TYPE_CHECKING:
    from segkd.binding import Bind
    from segkd.distiller import Distiller
    from segkd.face import data
    from segkd.face.advising import advise, check
    from segkd.face.choosing import ship
    from segkd.face.comparing import compare
    from segkd.face.predicting import predict
    from segkd.face.shipping import bench, cache, evaluate, export, label, load, quantize
    from segkd.face.training import distill, train
    from segkd.segmentor import Segmentor
    from segkd.taps import tap

#: name -> the module that has it, imported when it is first used
_HOMES = {
    **dict.fromkeys(("train", "distill"), "segkd.face.training"),
    **dict.fromkeys(("load", "evaluate", "bench", "export", "quantize"), "segkd.face.shipping"),
    **dict.fromkeys(("label", "cache"), "segkd.face.shipping"),
    "predict": "segkd.face.predicting",
    **dict.fromkeys(("check", "advise"), "segkd.face.advising"),
    "compare": "segkd.face.comparing",
    "ship": "segkd.face.choosing",
    "data": "segkd.face.data",  # a module itself
    "Distiller": "segkd.distiller",
    "Segmentor": "segkd.segmentor",
    "Bind": "segkd.binding",
    "tap": "segkd.taps",
}
__all__ = [
    "Bind",
    "Distiller",
    "Segmentor",
    "advise",
    "bench",
    "cache",
    "check",
    "compare",
    "data",
    "distill",
    "evaluate",
    "export",
    "label",
    "load",
    "predict",
    "quantize",
    "ship",
    "tap",
    "train",
]


if not TYPE_CHECKING:  # a type checker must see a misspelt name

    def __getattr__(name):
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        home = import_module(_HOMES[name])
        found = globals()[name] = getattr(home, name, home)
        return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
