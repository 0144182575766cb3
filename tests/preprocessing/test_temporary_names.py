import os
import subprocess
import sys

from preprocessing.temporary_names import remove_leftovers, temporary_name


def test_only_what_dead_processes_of_this_host_left_is_removed(tmp_path):
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], stdout=subprocess.PIPE, text=True)
    ours = temporary_name(".work-")
    left = ours[:ours.rindex("-") + 1] + dead.stdout.strip()
    (tmp_path / left).mkdir()
    (tmp_path / left / "file").write_text("x")
    (tmp_path / (left + "-abc")).write_text("x")
    (tmp_path / "target").mkdir()
    (tmp_path / (left + "-link")).symlink_to(tmp_path / "target")
    kept = [ours, ours + "-abc", ".work-elsewhere-" + dead.stdout.strip(), left + "x", ".other-" + left[6:], "target"]
    for name in kept[:-1]:
        (tmp_path / name).write_text("x")
    remove_leftovers(str(tmp_path), ".work-")
    assert sorted(os.listdir(str(tmp_path))) == sorted(kept)
