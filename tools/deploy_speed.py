"""Time labels from each kind of file, of several networks: writes models/deploy_speed.json and prints it as Markdown.

    python tools/deploy_speed.py [--networks fast_scnn,linknet] [--size 512x1024] [--repeats 30] [--json FILE]

One image, two threads, uint8 RGB in, class ids out; weights as they were initialised, which changes no time. "full" is
the float32 file of ONNX Runtime with logits of the image's size, whose strongest class is taken on the host. The others
take it in the graph: at a half or a quarter of the image's size, or that of the network's own logits. The files of one
network take turns in one process; each network has its own. The JSON has all tails, the table the best of half, quarter
and native (of LinkNet, whose own logits are of the image's size, the one in the graph); compare ratios, not
milliseconds, between machines.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)  # the checkout, in place of this folder
import onnx  # noqa: E402
import psutil  # noqa: E402
import torch  # noqa: E402

from segkd.cli.common import parse_size  # noqa: E402
from segkd.datasets.synthetic import SyntheticStreets  # noqa: E402
from segkd.deploy.formats import open_file  # noqa: E402
from segkd.deploy.onnx import export_onnx  # noqa: E402
from segkd.deploy.openvino import has_bf16  # noqa: E402
from segkd.deploy.routes import Choices, find_route  # noqa: E402
from segkd.deploy.runtimes import Runtime  # noqa: E402
from segkd.deploy.tail import make_labels, tails_of  # noqa: E402
from segkd.evaluation.speed import compare_latency, hardware  # noqa: E402
from segkd.models import create  # noqa: E402
from segkd.models.catalogue import entry  # noqa: E402
from segkd.report.tables import write_json  # noqa: E402
from segkd.training.environment import git_commit  # noqa: E402

TABLE = ROOT / "models" / "deploy_speed.json"
NETWORKS = (
    "fast_scnn",
    "linknet",
    "swiftnet_rn18",
    "pidnet_s",
    "bisenetv2",
    "light_fpn_mobilenetv4_conv_small",
    "segformer_b0",
)
IMAGES = 4  # for calibration
COLUMNS = ("onnxruntime", "onnxruntime int8", "onnxruntime int8 conv", "openvino", "openvino bf16", "openvino int8")


def files_of(name: str, size: tuple[int, int], folder: Path) -> Iterator[tuple[str, str]]:
    """(what it is, how it is opened) of each file of a network, made on the way."""
    found = entry(name)
    torch.manual_seed(0)
    network = create(found.name, num_classes=19, **found.options)
    with torch.no_grad():  # statistics of real activations, so that ranges are sane
        for scene in SyntheticStreets(length=2, size=size):
            network.train()(network.preprocess(torch.from_numpy(scene.image).permute(2, 0, 1)[None].repeat(2, 1, 1, 1)))
    logits = folder / "float.onnx"
    export_onnx(network, logits, size)
    yield "onnxruntime, full", str(logits)
    scenes = [torch.from_numpy(s.image).permute(2, 0, 1)[None] for s in SyntheticStreets(length=IMAGES, size=size)]
    sources = {"onnxruntime": logits}
    for way, chosen in (("onnxruntime int8", "all"), ("onnxruntime int8 conv", "conv")):
        sources[way] = folder / f"{way.replace(' ', '_')}.onnx"
        find_route("onnxruntime").quantize(logits, sources[way], scenes, Choices(op_types=chosen), IMAGES, 2)
        yield f"{way}, full", str(sources[way])
    tails = tails_of(onnx.load(str(logits)))
    for tail in tails if tails == ("full",) else [tail for tail in tails if tail != "full"]:
        where = "full in graph" if tail == "full" else tail
        for way, source in sources.items():
            path = folder / f"{source.stem}_{tail}.onnx"
            make_labels(source, path, tail)
            yield f"{way}, {where}", str(path)
        labels = folder / f"float_{tail}.onnx"
        yield f"openvino, {where}", f"{labels}@openvino"
        if has_bf16():
            yield f"openvino bf16, {where}", f"{labels}@openvino-bf16"
        int8 = folder / f"openvino_{tail}.xml"
        find_route("openvino").quantize(labels, int8, scenes, Choices(), IMAGES, 2)
        yield f"openvino int8, {where}", str(int8)


def time_network(name: str, size: tuple[int, int], repeats: int) -> dict[str, Any]:
    """Milliseconds of each file of one network, timed in turns in this process."""
    image = torch.randint(0, 256, (1, 3, *size), dtype=torch.uint8)
    with tempfile.TemporaryDirectory() as folder:
        opened: dict[str, Runtime] = {what: open_file(how, 2) for what, how in files_of(name, size, Path(folder))}
        runs = {what: (lambda runtime=runtime: runtime.labels(image)) for what, runtime in opened.items()}
        found = compare_latency(runs, warmup=5, repeats=repeats)
    return {
        what: {"median_ms": one.median_ms, "min_ms": one.min_ms, "iqr_ms": one.iqr_ms} for what, one in found.items()
    }


def in_a_process(name: str, args: argparse.Namespace) -> dict[str, Any]:
    """The same in a process of its own, so that no library's threads are left for the next network."""
    words = ["--child", name, "--size", "x".join(map(str, args.size)), "--repeats", str(args.repeats)]
    done = subprocess.run([sys.executable, __file__, *words], stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def markdown(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """Milliseconds by network and way; in brackets how many times faster than "full", and the tail."""
    lines = [f"| network | full, ms | {' | '.join(COLUMNS)} |", "|" + "---|" * (len(COLUMNS) + 2)]
    for name, times in rows.items():
        full, cells = times["onnxruntime, full"]["median_ms"], []
        for way in COLUMNS:
            tails = {what: one["median_ms"] for what, one in times.items() if what.rpartition(", ")[0] == way}
            tails = {what: ms for what, ms in tails.items() if not what.endswith("full")}
            if not tails:
                cells.append("")
                continue
            best = min(tails, key=lambda what: tails[what])
            cells.append(f"{tails[best]:.1f} ({full / tails[best]:.2f}x, {best.rpartition(', ')[2]})")
        lines.append(f"| {name} | {full:.1f} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", default=",".join(NETWORKS))
    parser.add_argument("--size", type=parse_size, default=(512, 1024))
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--json", default=str(TABLE), help="rows of other networks in it stay, if measured alike")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(time_network(args.child, args.size, args.repeats)))
        return
    head = {"size": list(args.size), "threads": 2, "repeats": args.repeats, "date": date.today().isoformat()}
    known = json.loads(Path(args.json).read_text()) if Path(args.json).is_file() else {}
    alike = known.get("size") == head["size"] and known["hardware"]["cpu"] == hardware()["cpu"]
    rows: dict[str, Any] = known["networks"] if alike else {}
    for name in args.networks.split(","):
        load = psutil.getloadavg()[0]
        rows[name] = in_a_process(name, args)
        print(f"{name}: load average {load:.2f} before")
        write_json(args.json, head | {"segkd": git_commit(), "hardware": hardware(), "networks": rows})
    print(markdown(rows))


if __name__ == "__main__":
    main()
