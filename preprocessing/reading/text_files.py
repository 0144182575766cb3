"""Text files, plain or gzip, as blocks of whole lines, and the second look at a block that Arrow could not place."""
import csv
import dataclasses
import gzip
import hashlib
import io
import os
import re
import zlib
from typing import IO, Any, Iterator, List, Sequence, Tuple

import numpy as np

from feature_specs.errors import DataError
from feature_specs.manifest import InputEntry
from preprocessing.reading.bad_rows import BadRow

MAX_LINE_BYTES = 16 << 20
#: What is taken off both ends of a cell; the same characters that tf.strings.strip takes off.
BLANKS = " \t\n\v\f\r"
#: Reasons why a line cannot be used.
NOT_UTF8, OPEN_QUOTES = "the text is not UTF-8", "quotes are misplaced or not closed"
_GZIP_MAGIC = b"\x1f\x8b"
_PARQUET_MAGIC = b"PAR1"
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_BARE_RETURN = re.compile(rb"\r(?!\n)")
_LARGEST = float(np.finfo(np.float32).max)
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?\Z", re.ASCII)


@dataclasses.dataclass
class InputFile:
    """A file, whether it is to be hashed, and what is learnt of it: size in bytes and SHA-256, as it is on disk."""

    path: str
    size: int = 0
    sha256: str = ""
    is_hashed: bool = True

    def entry(self) -> InputEntry:
        """Returns the file's entry in the manifest."""
        return InputEntry(os.path.basename(self.path), self.size, self.sha256)


@dataclasses.dataclass(frozen=True)
class Block:
    """Whole lines of a text file: the 1-based number of the first one, how many, and their bytes."""

    first_line: int
    lines: int
    data: bytes


class _HashingFile(io.FileIO):
    """A file that counts and hashes what is read."""

    def __init__(self, info: InputFile) -> None:
        super().__init__(info.path)
        self._info, self._digest = info, hashlib.sha256()

    def readinto(self, buffer: Any) -> int:
        size, got = 0, None
        while size < len(buffer) and got != 0:  # a pipe gives what it has, and who looks at the magic bytes wants two
            got = super().readinto(buffer[size:]) or 0
            size += got
        self._info.size += size
        if self._info.is_hashed:
            self._digest.update(buffer[:size])
            self._info.sha256 = self._digest.hexdigest()
        return size


def is_parquet(path: str) -> bool:
    """Whether a file begins as Parquet files do; a pipe is not looked at."""
    if not os.path.isfile(path):
        return False
    with open(path, "rb") as stream:
        return stream.read(len(_PARQUET_MAGIC)) == _PARQUET_MAGIC


def read_blocks(info: InputFile, block_bytes: int) -> Iterator[Block]:
    """Reads a text file as blocks of whole lines, each of so many bytes and the rest of a line; fills ``info`` in.

    A byte order mark at the start and empty lines at the end are left out; a missing last newline is added.

    Raises:
        DataError: the file is missing, unreadable, a damaged gzip file, or has a line of more than 16 MiB.
    """
    path = info.path
    if os.path.isdir(path):
        raise DataError("%s is a directory; give a file" % path)
    try:
        if is_parquet(path):
            raise DataError("%s is a Parquet file, and text is expected; give a dataset file with files: {format: "
                            "parquet}" % path)
        with io.BufferedReader(_HashingFile(info), 1 << 18) as stream:
            magic = stream.peek(2)[:2]
            if path.endswith(".gz") and magic and magic != _GZIP_MAGIC:
                raise DataError("%s is not a gzip file although its name ends in .gz; rename it or get it again" % path)
            text: Any = gzip.GzipFile(fileobj=stream) if magic == _GZIP_MAGIC else stream
            yield from _blocks(text, path, block_bytes)
    except EOFError as error:
        raise DataError("%s is a truncated gzip file; get it again" % path) from error
    except zlib.error as error:
        raise DataError("%s is a damaged gzip file (%s); get it again" % (path, error)) from error
    except OSError as error:
        raise DataError("%s cannot be read: %s" % (path, error.strerror or error)) from error


def _blocks(stream: IO[bytes], path: str, block_bytes: int) -> Iterator[Block]:
    line, waiting, most = 1, b"", MAX_LINE_BYTES + block_bytes
    for number, data in enumerate(iter(lambda: stream.read(block_bytes) + stream.readline(most), b"")):
        is_cut = len(data) == block_bytes + most and not data.endswith(b"\n")
        if number == 0 and data[:2] in _UTF16_MARKS:
            raise DataError("%s is UTF-16 text; write it as UTF-8, such as: iconv -f UTF-16 -t UTF-8 OLD > NEW" % path)
        if number == 0 and data.startswith(_BYTE_ORDER_MARK):
            data = data[len(_BYTE_ORDER_MARK):]
        data = waiting + data
        if is_cut:
            raise DataError("%s: line %d has more than %d bytes; it is not a text file with a row per line"
                            % (path, line + data.count(b"\n"), MAX_LINE_BYTES))
        if len(waiting) > most:
            raise DataError("%s: from line %d on more than %d bytes are empty lines; it is not a text file with a row "
                            "per line" % (path, line, MAX_LINE_BYTES))
        # Empty lines wait until it is known whether rows follow.
        text, waiting = data.rstrip(b"\r\n"), data
        if line == 1 and b"\r" in text and b"\n" not in data:
            raise DataError("%s: lines end with carriage returns alone; write it with line feeds, such as: "
                            "tr '\\r' '\\n' < OLD > NEW" % path)
        if text:
            count = 1 + int(np.count_nonzero(np.frombuffer(text, np.uint8) == ord("\n")))  # bytes.count is slower
            yield Block(line, count, text + b"\n")
            line += count
            waiting = data[len(text):].partition(b"\n")[2]


def must_look_again(data: bytes) -> bool:
    """Whether Arrow may read lines in another way than :func:`split_line`, and yet as many rows as there are lines.

    It ends a row at a carriage return that no line feed follows, and takes a zero byte for a character like any other.
    """
    return b"\0" in data or b"\r" in data and bool(_BARE_RETURN.search(data))


def split_line(line: bytes, separator: str, errors: str = "strict") -> List[str]:
    """Splits one line into cells, in the way that Arrow does: what follows a closing quote belongs to the cell.

    ``errors`` is what becomes of bytes that are not UTF-8, as in ``bytes.decode``.

    Raises:
        ValueError: it is not UTF-8, its quotes are not closed, or it has a zero byte or a bare carriage return.
    """
    try:
        text = line.rstrip(b"\r\n").decode("utf-8", errors)
    except UnicodeDecodeError as error:
        raise ValueError(NOT_UTF8) from error
    if "\0" in text:
        raise ValueError("a zero byte")
    csv.field_size_limit(MAX_LINE_BYTES * 2)
    # Where quotes are open, the reader goes on with the second line.
    reader = csv.reader([text, ""], delimiter=separator)
    try:
        cells = next(reader)
    except csv.Error as error:
        raise ValueError("a carriage return outside of quotes" if "\r" in text else OPEN_QUOTES) from error
    if reader.line_num > 1:
        raise ValueError(OPEN_QUOTES)
    return cells or [""]


def cells_of(line: bytes, separator: str) -> List[str]:
    """Returns the trimmed cells of a line, also of one that :func:`split_line` refuses."""
    try:
        cells = split_line(line, separator)
    except ValueError:
        cells = line.decode("utf-8", "replace").split(separator)
    return [cell.strip(BLANKS) for cell in cells]


def is_number(text: str) -> bool:
    """Returns whether a trimmed cell is a finite decimal number of float32's range."""
    return bool(_NUMBER.match(text)) and abs(float(text)) <= _LARGEST


def second_look(block: Block, separator: str, names: Sequence[str]) -> Tuple[bytes, np.ndarray, List[BadRow]]:
    """Returns the usable lines of a block written anew, their line numbers int64 [lines], and every other line.

    ``names`` are those of the columns in file order; those that begin with a zero byte are not used.
    """
    output = io.StringIO()
    # With both characters at the ends of lines, the writer quotes cells that have either.
    writer = csv.writer(output, delimiter=separator, lineterminator="\r\n")
    kept: List[int] = []
    bad: List[BadRow] = []
    for line, text in enumerate(block.data.split(b"\n")[:-1], block.first_line):
        try:
            writer.writerow(_usable_cells(text, separator, names))
            kept.append(line)
        except ValueError as error:
            bad.append((error.args[0], line, error.args[-1]))
    return output.getvalue().encode("utf-8"), np.array(kept, np.int64), bad


def _usable_cells(text: bytes, separator: str, names: Sequence[str]) -> List[str]:
    """Returns the cells of a line, empty those of columns that are not used.

    Raises:
        ValueError: (reason,) or (reason, what was found): it cannot be used.
    """
    cells = split_line(text, separator, "surrogateescape")
    if not text.strip() and len(cells) < len(names):
        raise ValueError("empty line", "the line is empty")
    if len(cells) != len(names):
        raise ValueError("number of fields", "%d field%s, expected %d" % (
            len(cells), "" if len(cells) == 1 else "s", len(names)))
    # Nobody looks at what is in the others, Arrow neither.
    cells = ["" if name.startswith("\0") else cell for name, cell in zip(names, cells)]
    try:
        "".join(cells).encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(NOT_UTF8) from error
    return cells
