"""`segkd train` from a source checkout; `torchrun --nproc-per-node 1 tools/train.py ...` works too."""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])  # the checkout, in place of this folder
from segkd.cli.main import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
