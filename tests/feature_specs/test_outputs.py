"""Whatever a user names as output gets the results, and keeps being what it is."""
import gzip
import os
import socket
import stat
import subprocess
import sys
import threading

import pytest

from feature_specs.errors import ConfigError, DataError
from feature_specs.outputs import open_output

PROGRAM = """
import sys
from feature_specs.outputs import open_output
sys.stdout.write("before\\n")
with open_output(sys.argv[1]) as stream:
    stream.write(b"written\\n")
sys.stdout.write("after\\n")
"""


def write(path, data=b"new"):
    with open_output(str(path)) as stream:
        stream.write(data)


def names(folder):
    return sorted(os.listdir(str(folder)))


def mode(path):
    return stat.S_IMODE(os.stat(str(path)).st_mode)


@pytest.fixture
def old(tmp_path):
    path = tmp_path / "result"
    path.write_bytes(b"old")
    return path


def test_a_new_file_appears_when_it_is_whole(tmp_path):
    with open_output(str(tmp_path / "result")) as stream:
        stream.write(b"1")
        stream.flush()
        assert "result" not in names(tmp_path)
    assert names(tmp_path) == ["result"] and (tmp_path / "result").read_bytes() == b"1"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, DataError])
def test_an_error_leaves_the_old_file_and_nothing_besides(old, tmp_path, error):
    with pytest.raises(error), open_output(str(old)) as stream:
        stream.write(b"half")
        raise error("in between")
    assert old.read_bytes() == b"old" and names(tmp_path) == ["result"]


@pytest.mark.parametrize("bits", [0o600, 0o640, 0o664])
def test_the_mode_stays(old, bits):
    old.chmod(bits)
    write(old)
    assert old.read_bytes() == b"new" and mode(old) == bits


def test_links_are_followed(old, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    links = [tmp_path / "direct", folder / "relative", tmp_path / "of a link"]
    for link, target in zip(links, (str(old), "../result", "direct")):
        link.symlink_to(target)
    for number, link in enumerate(links):
        write(link, b"%d" % number)
        assert link.is_symlink() and old.read_bytes() == b"%d" % number and not old.is_symlink()
    to_nothing = tmp_path / "to nothing"
    to_nothing.symlink_to("made")
    write(to_nothing)
    assert to_nothing.is_symlink() and (tmp_path / "made").read_bytes() == b"new"
    assert names(folder) == ["relative"]


def test_a_fifo_is_written_into(tmp_path):
    path = tmp_path / "fifo"
    os.mkfifo(str(path))
    found = []
    reader = threading.Thread(target=lambda: found.append(path.read_bytes()))
    reader.start()
    write(path, b"through")
    reader.join(20)
    assert found == [b"through"] and stat.S_ISFIFO(os.stat(str(path)).st_mode) and names(tmp_path) == ["fifo"]


def test_a_compressed_fifo(tmp_path):
    path = tmp_path / "fifo.gz"
    os.mkfifo(str(path))
    found = []
    reader = threading.Thread(target=lambda: found.append(path.read_bytes()))
    reader.start()
    write(path, b"through")
    reader.join(20)
    assert gzip.decompress(found[0]) == b"through"


def test_the_suffix_decides_compression_and_the_same_rows_are_the_same_bytes(tmp_path):
    paths = [tmp_path / "a.csv.gz", tmp_path / "b.csv.gz"]
    for path in paths:
        write(path, b"line\n" * 1000)
    assert gzip.decompress(paths[0].read_bytes()) == b"line\n" * 1000
    assert paths[0].read_bytes() == paths[1].read_bytes() and len(paths[0].read_bytes()) < 200


def test_a_directory_and_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match="is a directory; give the name of a file"):
        write(tmp_path)
    (tmp_path / "link").symlink_to(".")
    with pytest.raises(ConfigError, match="is a directory"):
        write(tmp_path / "link")
    with pytest.raises(ConfigError, match="missing does not exist; make it first"):
        write(tmp_path / "missing" / "result")
    assert names(tmp_path) == ["link"]


def test_devices_stay_devices():
    write("/dev/null")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    with pytest.raises(DataError, match="^/dev/full cannot be written: No space left on device$"):
        write("/dev/full")


def test_errors_of_what_is_read_meanwhile_keep_their_name(old, tmp_path):
    with pytest.raises(FileNotFoundError, match="not here"), open_output(str(old)):
        os.stat(str(tmp_path / "not here"))
    assert old.read_bytes() == b"old" and names(tmp_path) == ["result"]


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden for root")
def test_a_folder_that_may_not_be_written(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(DataError, match="result cannot be written: Permission denied"):
        write(tmp_path / "result")


def run(path, **streams):
    return subprocess.run([sys.executable, "-c", PROGRAM, path], check=True, **streams)


@pytest.mark.parametrize("path", ["-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
def test_standard_output_keeps_its_place(path, tmp_path):
    result = tmp_path / "result"
    result.write_bytes(b"kept\n")
    with open(str(result), "ab") as stream:
        run(path, stdout=stream)
    assert result.read_bytes() == b"kept\nbefore\nwritten\nafter\n"
    assert run(path, stdout=subprocess.PIPE).stdout == b"before\nwritten\nafter\n"
    assert os.path.islink("/dev/stdout")


def test_another_descriptor_of_the_process(tmp_path):
    with open(str(tmp_path / "result"), "wb") as stream:
        run("/dev/fd/%d" % stream.fileno(), stdout=subprocess.DEVNULL, pass_fds=[stream.fileno()])
    assert (tmp_path / "result").read_bytes() == b"written\n"
    with pytest.raises(DataError, match="^/dev/fd/987 cannot be written: Bad file descriptor$"):
        write("/dev/fd/987")


def test_what_a_killed_process_left_is_removed_and_a_living_one_is_left_alone(old, tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    left, living = (".result.partial-%s-%d-ab" % (socket.gethostname(), number) for number in (dead.pid, os.getppid()))
    for name in (left, living):
        (tmp_path / name).write_bytes(b"half")
    write(old)
    assert names(tmp_path) == [living, "result"]


def test_a_link_that_leads_in_a_circle_is_refused_and_stays(tmp_path):
    for name, target in (("a", "b"), ("b", "a")):
        os.symlink(str(tmp_path / target), str(tmp_path / name))
    with pytest.raises(ConfigError, match="is a link that leads in a circle"):
        write(tmp_path / "a")
    assert os.readlink(str(tmp_path / "a")) == str(tmp_path / "b") and names(tmp_path) == ["a", "b"]
