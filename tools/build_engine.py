"""Build the TensorRT engine of an ONNX file: ``python tools/build_engine.py student_tensorrt.onnx``.

It runs on the machine that is to run the engine: an engine is for one GPU and one version of TensorRT.
"""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)  # the checkout, in place of this folder
from segkd.cli.common import positive  # noqa: E402
from segkd.deploy.engine import build_engine  # noqa: E402
from segkd.errors import UserError  # noqa: E402


def main() -> int:
    """Build it, and say what it is; exit code 2 after a mistake."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("onnx", help="float32, or made by `segkd quantize --route tensorrt`")
    parser.add_argument("--out", metavar="FILE", help="the engine (default: beside it, .engine)")
    parser.add_argument("--batch", type=positive, default=1, metavar="N", help="most images a call (1)")
    parser.add_argument("--float32", action="store_true", help="what is not int8 in float32 (default: float16 allowed)")
    parser.add_argument("--workspace", type=positive, default=1024, metavar="MIB", help="memory for layers (1024)")
    args = parser.parse_args()
    try:
        found = build_engine(
            args.onnx, args.out, batch=args.batch, half=not args.float32, workspace_mib=args.workspace
        )  # fmt: skip
    except UserError as error:
        print(f"build_engine: error: {error}", file=sys.stderr)
        return 2
    kind = "int8" if found.int8 else "float"
    print(f"{found.path}: {kind}, {found.file_bytes / 2**20:.2f} MiB, by TensorRT {found.version}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
