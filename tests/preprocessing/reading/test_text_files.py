"""Text files as blocks of whole lines: whatever the size of a block, the same lines."""
import gzip
import hashlib
import os
import re
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_specs.errors import DataError
from preprocessing.reading import text_files
from preprocessing.reading.text_files import InputFile, read_blocks
from tests.support.rows import write


@settings(max_examples=80)
@given(st.lists(st.text(alphabet="ab\n\r\t ,", max_size=9), max_size=12).map("".join), st.integers(1, 20))
def test_blocks_are_the_lines_of_the_text(text, size):
    import tempfile
    with tempfile.TemporaryDirectory() as folder:
        path = write(os.path.join(folder, "f"), text)
        if "\r" in text.rstrip("\r") and "\n" not in text:
            with pytest.raises(DataError, match="carriage returns alone"):
                list(read_blocks(InputFile(path), size))
            return
        blocks = list(read_blocks(InputFile(path), size))
    lines = b"".join(block.data for block in blocks)
    kept = text.encode().rstrip(b"\r\n")
    # The last line of a block may lose its carriage return.
    assert re.sub(b"\r+\n", b"\n", lines) == re.sub(b"\r+\n", b"\n", kept + b"\n" if kept else b"")
    assert [block.first_line for block in blocks] == [1 + sum(other.lines for other in blocks[:place])
                                                     for place in range(len(blocks))]
    assert all(block.data.count(b"\n") == block.lines for block in blocks)


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["plain", "byte order mark"])
@pytest.mark.parametrize("size", [1, 7, 64])
def test_a_line_that_is_too_long_is_refused_and_never_cut(tmp_path, monkeypatch, mark, size):
    monkeypatch.setattr(text_files, "MAX_LINE_BYTES", 40)
    for length in range(30, 180):
        path = write(tmp_path / "f", mark + b"a\n" + b"b" * length + b"\nc\n")
        try:
            blocks = list(read_blocks(InputFile(path), size))
        except DataError as error:
            assert length > 40 and "line 2 has more than 40 bytes" in str(error)
        else:
            assert length <= 40 + 2 * size
            assert b"".join(block.data for block in blocks) == b"a\n" + b"b" * length + b"\nc\n"
            assert sum(block.lines for block in blocks) == 3


def test_endless_empty_lines_are_refused_as_what_they_are(tmp_path, monkeypatch):
    monkeypatch.setattr(text_files, "MAX_LINE_BYTES", 40)
    with pytest.raises(DataError, match="from line 2 on more than 40 bytes are empty lines"):
        list(read_blocks(InputFile(write(tmp_path / "f", b"a\n" + b"\n" * 200 + b"b\n")), 7))


def test_a_pipe_that_gives_one_byte_first_is_seen_to_be_packed(tmp_path):
    path, packed = str(tmp_path / "pipe"), gzip.compress(b"a,b\n1,2\n")
    os.mkfifo(path)

    def fill():
        with open(path, "wb", buffering=0) as stream:
            stream.write(packed[:1])
            time.sleep(0.3)
            stream.write(packed[1:])
    writer = threading.Thread(target=fill)
    writer.start()
    info = InputFile(path)
    blocks = list(read_blocks(info, 100))
    writer.join()
    assert [block.data for block in blocks] == [b"a,b\n1,2\n"]
    assert (info.size, info.sha256) == (len(packed), hashlib.sha256(packed).hexdigest())
