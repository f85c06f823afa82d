"""Time what one worker gives a training, beside decoding alone: writes datasets/loader_speed.json.

    python tools/loader_speed.py [--root FOLDER] [--crops 48] [--json FILE]

Crops of 512x1024 from PNGs of 2048x1024: the images/ and labels/ of FOLDER, or scenes that are drawn for this. The
limit is ``cv2.imread`` of an image and its label. Each kind has a worker of its own; they take turns, a few crops
each. The numbers are the CPU milliseconds of the worker for a crop, all it does counted, the sending too; so they hold
on a busy machine. Files lie in the page cache.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)  # the checkout, in place of this folder
import cv2  # noqa: E402
import psutil  # noqa: E402
from torch.utils.data import DataLoader, Dataset  # noqa: E402

from segkd.datasets.files import FilePairs  # noqa: E402
from segkd.datasets.folder import FolderDataset  # noqa: E402
from segkd.datasets.image_cache import Cached, ImageCache, fill  # noqa: E402
from segkd.datasets.loading import loader_options, train_loader  # noqa: E402
from segkd.datasets.synthetic import SyntheticStreets  # noqa: E402
from segkd.datasets.transforms import TrainTransform  # noqa: E402
from segkd.evaluation.speed import hardware  # noqa: E402
from segkd.memory import keep_freed_memory  # noqa: E402
from segkd.report.tables import write_json  # noqa: E402
from segkd.training.environment import git_commit  # noqa: E402

TABLE = ROOT / "datasets" / "loader_speed.json"
SIZE, CROP = (1024, 2048), (512, 1024)
TURN = 4  # crops


class Decoded(Dataset[int]):
    """What decoding alone takes: image and label by OpenCV, and nothing sent."""

    def __init__(self, data: FilePairs) -> None:
        self.data = data

    def __len__(self) -> int:
        return 1 << 20

    def __getitem__(self, index: int) -> int:
        pair = self.data.pairs[index % len(self.data)]
        image, label = cv2.imread(str(pair.image)), cv2.imread(str(pair.label), cv2.IMREAD_UNCHANGED)
        return int(image.shape[0] == label.shape[0])


def draw(folder: Path, count: int = 8, size: tuple[int, int] = SIZE) -> Path:
    """Scenes as PNGs."""
    for kind in ("images", "labels"):
        (folder / kind).mkdir(parents=True)
    for index, (image, label) in ((k, SyntheticStreets(length=count, size=size)[k]) for k in range(count)):
        cv2.imwrite(str(folder / "images" / f"{index}.png"), image[..., ::-1])
        cv2.imwrite(str(folder / "labels" / f"{index}.png"), label)
    return folder


def kinds(data: FolderDataset, kept: Path, crop: tuple[int, int]) -> dict[str, DataLoader[Any]]:
    """A loader of one worker for each, by name."""
    cache = ImageCache(data, kept)
    list(fill(cache, cache.missing()))
    options = loader_options(1) | dict(collate_fn=_same)
    found: dict[str, DataLoader[Any]] = {"decoding alone": DataLoader(Decoded(data), batch_size=None, **options)}
    for colours in (False, True):
        for name, source in (("crops", data), ("crops of kept images", Cached(data, cache))):
            transform = TrainTransform(crop, photometric=colours)
            loader = train_loader(source, transform, 1, 1 << 20, seed=0, workers=1)
            found[name + (", colours varied" if colours else "")] = loader
    return found


def _same(found: Any) -> Any:
    return found


def measure(root: Path, kept: Path, crops: int = 48, crop: tuple[int, int] = CROP) -> dict[str, float]:
    """CPU milliseconds of a worker for each crop, by kind."""
    keep_freed_memory()
    names = [str(k) for k in range(200)]
    workers: dict[str, tuple[Iterator[Any], psutil.Process]] = {}
    loaders = kinds(FolderDataset(root / "images", root / "labels", names), kept, crop)
    for name, loader in loaders.items():
        before = {child.pid for child in psutil.Process().children()}
        batches = iter(loader)
        next(batches)
        (worker,) = (child for child in psutil.Process().children() if child.pid not in before)
        workers[name] = batches, worker
    began = {name: used(worker) for name, (_, worker) in workers.items()}
    for _ in range(0, crops, TURN):
        for batches, _worker in workers.values():
            for _ in range(TURN):
                next(batches)
    found = {name: 1e3 * (used(worker) - began[name]) / crops for name, (_, worker) in workers.items()}
    for loader in loaders.values():
        stop: Callable[[], None] | None = getattr(loader, "close", None)
        if stop is not None:
            stop()
    return found


def used(process: psutil.Process) -> float:
    """CPU seconds that a process has used."""
    times = process.cpu_times()
    return float(times.user + times.system)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path)
    parser.add_argument("--crops", type=int, default=48)
    parser.add_argument("--json", type=Path, default=TABLE)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = args.root or draw(Path(folder) / "scenes")
        found = measure(root, Path(folder) / "kept", args.crops)
    limit = found["decoding alone"]
    rows = [dict(kind=kind, cpu_ms=round(ms, 2), of_the_limit=round(limit / ms, 3)) for kind, ms in found.items()]
    for row in rows:
        print("{kind:40} {cpu_ms:7.2f} ms of CPU a crop, {of_the_limit:6.3f} of the limit".format(**row))
    about = dict(size=SIZE, crop=CROP, crops=args.crops, opencv=cv2.__version__, date=str(date.today()))
    write_json(args.json, {"rows": rows, **about, "hardware": hardware(), "git_commit": git_commit()})
    print(json.dumps(about))


if __name__ == "__main__":
    main()
