"""Teachers of transformers: folders of ``save_pretrained`` and names on its hub (extra ``segkd[hf]``)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from segkd.errors import UserError, first_line
from segkd.models import Network, Preprocess
from segkd.models.base import resize_to
from segkd.models.info import FeatureInfo
from segkd.teachers.hf_sizes import Sizes, find_sizes, sizes_of
from segkd.teachers.hf_taps import watch

#: masks of so many queries are upsampled at a time: all at once are gigabytes on a large image
QUERIES = 16
#: universal models that do not go by the image alone
WITH_TEXT = {"oneformer": "a text that names its task"}


def load(
    name: str | None, file: Path | None, *, num_classes: int | None, preprocess: Preprocess | None, download: bool
) -> Network:
    """A semantic or universal segmentation model of transformers as a network; see ``HfModel``.

    Nothing is fetched without ``download``, and code that comes with a model is never run.

    Args:
        name: a name on the hub (``nvidia/segformer-b0-finetuned-ade-512-512``), used where no folder is given.
        file: a folder with config.json, weights and the image processor's preprocessor_config.json.
        num_classes: how many outputs it must have; None for any number.
        preprocess: in the place of the image processor's mean, std, scale and channel order.
        download: allow a name on the hub.

    Raises:
        UserError: transformers is missing; no such folder, or one of another task; no image processor and no
            ``preprocess``; another number of outputs.
    """
    transformers = library()
    place = _place(name, file, download)
    only_local = file is not None
    with quiet(transformers):
        config = _opened("config", place, transformers.AutoConfig, only_local)
        auto, universal = _task(transformers, config, place)
        processor = _processor(transformers, place, only_local, preprocess is not None)
        model, about = _opened(
            "weights", place, auto, only_local, config=config, dtype=torch.float32, output_loading_info=True
        )
    lacking = sorted(map(str, about["missing_keys"])) + sorted(str(key) for key in about.get("mismatched_keys", ()))
    if lacking:
        raise UserError(f"{place} holds no weights of {type(model).__name__}: {lacking[0]!r} and {len(lacking)} in all")
    if num_classes is not None and config.num_labels != num_classes:
        raise UserError(
            f"{place} has {config.num_labels} classes, not {num_classes}; say by classes= which of them are the data's"
        )
    return HfModel(model.eval(), preprocess or preprocess_of(processor), processor, universal).eval()


class HfModel(Network):
    """A segmentation model of transformers; its layers are under their own paths behind ``model.``.

    Input (N, 3, H, W), logits (N, K, H, W), for any H and W from 32 up. A model whose position table knows one size
    alone gets the image resized to it (antialiased, by the processor's filter; in float, where the processor rounds to
    uint8), and its scores are resized back; EoMT takes it as its processor says, in windows or padded. Any other gets
    the image at its own size, whatever its processor resizes to, padded to a multiple only where the processor says so
    or the model would leave out pixels at the edges.

    The logits of a semantic model are its own, resized. Those of a universal one (Mask2Former, MaskFormer, EoMT) are
    ``log s``, ``s[k] = sum over queries of p(k) * sigmoid(mask)``, masks upsampled first; p is the softmax over the
    classes and "no object", which is then left out. So argmax is that of s, as in the papers, and softmax is s over its
    sum, a distribution; softmax of s itself, whose values are small and close, would be nearly uniform.

    Outputs are those that ``id2label`` names (``class_names``), a background or void class among them if there is one.
    ``do_reduce_labels`` of a processor is about label files alone, whose 0 becomes void: it changes no output.

    Args:
        model: of the library, in eval.
        preprocess: what turns a uint8 RGB image into its input.
        processor: the library's image processor, or None; says sizes.
        universal: masks and classes of queries in place of logits.
    """

    def __init__(self, model: Any, preprocess: Preprocess, processor: Any, universal: bool) -> None:
        super().__init__(int(model.config.num_labels), preprocess)
        self.class_names = [str(model.config.id2label[i]) for i in range(self.num_classes)]
        if getattr(model, "auxiliary_head", None) is not None:
            model.auxiliary_head = None  # it only trains
        self.model: nn.Module = model
        self.universal = universal
        self.roles: dict[str, str | Sequence[str]] = {"classifier": (), "head": ()}
        with torch.no_grad():
            self.sizes: Sizes = find_sizes(self.scores, model, processor)
            self._describe()

    def forward(self, x: Tensor) -> Tensor:
        scores = self.sizes.apply(self.scores, x, self.preprocess.mean.neg() / self.preprocess.std)
        return scores.clamp_min(torch.finfo(scores.dtype).tiny).log() if self.universal else scores

    def scores(self, x: Tensor) -> Tensor:
        """(N, 3, h, w) of a size that the model takes -> its logits, or of a universal model s at (h, w)."""
        out = self.model(pixel_values=x)
        if self.universal:
            return per_pixel(out.class_queries_logits, out.masks_queries_logits, x.shape[-2:])
        logits: Tensor = out.logits
        return logits

    def _describe(self) -> None:
        """Find out taps and roles by running the model once."""
        size = self.sizes.size if self.sizes.kind != "any" else sizes_of(max(self.sizes.multiple, 32))[0]
        seen = watch(self, size, self.scores)
        stages = seen.stages()
        classifier = None if self.universal else seen.classifier(self.num_classes)
        if stages:
            self.roles |= {"backbone": stages[-1][0], "stages": tuple(path for path, _ in stages)}
        taps = [*stages]
        if classifier is not None:
            self.roles |= {"classifier": classifier[0], "head": f"{classifier[0]}@input"}
            taps.append(classifier)
        self.feature_info = tuple(FeatureInfo(p, m.shape[1], round(size[0] / m.shape[2])) for p, m in taps)


def per_pixel(classes: Tensor, masks: Tensor, size: Sequence[int]) -> Tensor:
    """Scores (N, K, H, W) of queries' class logits (N, Q, K + 1), the last for no object, and masks (N, Q, h, w)."""
    weights = classes.softmax(-1)[..., :-1]
    total: Tensor | None = None
    for weight, mask in zip(torch.split(weights, QUERIES, 1), torch.split(masks, QUERIES, 1), strict=True):
        part = torch.einsum("nqk,nqhw->nkhw", weight, resize_to(mask, size).sigmoid())
        total = part if total is None else total + part
    assert total is not None  # there are queries
    return total


def preprocess_of(processor: Any) -> Preprocess:
    """The normalisation that an image processor of the library does, channel order included; None there is no."""
    normalises = getattr(processor, "do_normalize", True)
    return Preprocess(
        _three(processor.image_mean) if normalises else (0.0,) * 3,
        _three(processor.image_std) if normalises else (1.0,) * 3,
        float(processor.rescale_factor) if getattr(processor, "do_rescale", True) else 1.0,
        "BGR" if getattr(processor, "do_flip_channel_order", False) else "RGB",
    )


def _three(value: Any) -> tuple[float, ...]:
    return (float(value),) * 3 if isinstance(value, int | float) else tuple(float(v) for v in value)


def library() -> Any:
    """transformers; a UserError that says how to install it."""
    try:
        import transformers
    except ImportError as error:
        raise UserError('teachers of transformers need it: pip install "segkd[hf]"') from error
    return transformers


@contextmanager
def quiet(transformers: Any) -> Iterator[None]:
    """A context without the library's warnings and progress bars about a folder; what matters of them is checked."""
    logging = transformers.utils.logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _place(name: str | None, file: Path | None, download: bool) -> str:
    """The folder, or the name on the hub."""
    if file is not None:
        folder = file if file.is_dir() else file.parent
        if not file.exists() or not (folder / "config.json").is_file():
            raise UserError(f"no model of transformers at {file}: save_pretrained makes a folder with a config.json")
        return str(folder)
    if name is None:
        raise UserError("hf: takes a folder of save_pretrained, or a name on the hub with download=True")
    if not download:
        raise UserError(f"no folder {name}; if it is a name on the hub, it needs download=True")
    return name


def _opened(what: str, place: str, auto: Any, only_local: bool, **options: Any) -> Any:
    try:
        return auto.from_pretrained(place, local_files_only=only_local, trust_remote_code=False, **options)
    except Exception as error:  # of the library's many kinds: no file, no such model, own code, no network
        raise UserError(
            f"transformers cannot open the {what} of {place} ({type(error).__name__}: {first_line(error)})"
        ) from error


def _processor(transformers: Any, place: str, only_local: bool, optional: bool) -> Any:
    """The image processor; None where there is none and it may lack."""
    try:
        return _opened("image processor", place, transformers.AutoImageProcessor, only_local)
    except UserError as error:
        if optional:
            return None
        raise UserError(
            f"{place} says not how its images are normalised: no image processor could be opened; give "
            "preprocess=dict(mean=..., std=..., scale=1/255, channels='RGB')"
        ) from error


def _task(transformers: Any, config: Any, place: str) -> tuple[Any, bool]:
    """The library's class that opens the model, and whether it is a universal one; refuses other tasks."""
    semantic = transformers.MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING
    universal = transformers.MODEL_FOR_UNIVERSAL_SEGMENTATION_MAPPING
    kind, known = type(config), (semantic, universal)
    made = (config.architectures or [""])[0]
    fitting = [mapping for mapping in known if kind in mapping]
    if config.model_type in WITH_TEXT:
        raise UserError(f"{place} holds {made or config.model_type}, which needs {WITH_TEXT[config.model_type]}")
    if not fitting or (made and made != fitting[0][kind].__name__):
        raise UserError(f"{place} holds {made or config.model_type}, which is no model of semantic segmentation")
    if fitting[0] is semantic:
        return transformers.AutoModelForSemanticSegmentation, False
    return transformers.AutoModelForUniversalSegmentation, True
