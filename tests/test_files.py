"""Files are written whole or not at all, and what a killed process has left is cleared away."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from segkd.errors import UserError
from segkd.files import UNFINISHED, existing_file, naming, remove_unfinished, replacing

ROOT = Path(__file__).resolve().parents[1]
WRITER = (
    "import sys, time\n"
    "from segkd.files import replacing\n"
    "with replacing(sys.argv[1]) as temporary:\n"
    "    temporary.write_text('half')\n"
    "    print('writing', flush=True)\n"
    "    time.sleep(60)\n"
)


def writer(path: Path) -> subprocess.Popen[str]:
    """A process in the midst of writing ``path``."""
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    return process


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def unfinished(folder: Path) -> list[str]:
    return [name for name in names(folder) if UNFINISHED in name]


def test_what_a_killed_process_left_goes_with_the_next_write_of_the_file(tmp_path: Path) -> None:
    process = writer(tmp_path / "state[1].pth")
    process.kill()
    process.communicate()
    (left,) = unfinished(tmp_path)
    with replacing(tmp_path / "other.pth") as temporary:
        temporary.write_text("other")
    assert unfinished(tmp_path) == [left]  # not its business
    with replacing(tmp_path / "state[1].pth") as temporary:
        temporary.write_text("whole")
    assert names(tmp_path) == ["other.pth", "state[1].pth"]


def test_a_file_that_a_process_still_writes_is_left_to_it(tmp_path: Path) -> None:
    dead, alive = writer(tmp_path / "a.pth"), writer(tmp_path / "a.pth")
    assert len(unfinished(tmp_path)) == 2
    dead.kill()
    dead.communicate()
    (tmp_path / ".a-20251231.pth").write_text("the user's own")
    remove_unfinished(tmp_path)
    assert len(unfinished(tmp_path)) == 1
    with replacing(tmp_path / "a.pth") as temporary:
        temporary.write_text("whole")
    assert len(unfinished(tmp_path)) == 1
    alive.send_signal(signal.SIGKILL)
    alive.communicate()
    remove_unfinished(tmp_path)
    assert names(tmp_path) == [".a-20251231.pth", "a.pth"]


def no_space() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_an_error_while_writing_leaves_the_old_file_and_names_it(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(OSError, match="No space left") as caught, replacing(path):
        no_space()
    assert caught.value.filename == str(path)
    assert (names(tmp_path), path.read_text()) == (["a.txt"], "old")


def test_an_error_that_names_a_file_keeps_its_name(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="nowhere"), naming(tmp_path / "a"):
        (tmp_path / "nowhere").read_text()
    with pytest.raises(OSError, match="No space left") as caught, naming(tmp_path / "a"):
        no_space()
    assert caught.value.filename == str(tmp_path / "a")


@pytest.mark.parametrize("target", ["gone", "link"])
def test_a_link_to_nothing_or_to_itself_is_named(tmp_path: Path, target: str) -> None:
    (tmp_path / "link").symlink_to(target)
    with pytest.raises(UserError, match=f"link is a link to {target}, which is not there"):
        existing_file(tmp_path / "link")
