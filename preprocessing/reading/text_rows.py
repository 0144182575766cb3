"""The rows of one text file: its columns, its blocks as raw frames, and what is probably wrong where rows are bad.

Arrow converts a block. One that it cannot place is looked at again line by line
(:func:`preprocessing.reading.text_files.second_look`), so that every row that cannot be used is named with its line.
"""
import collections
import contextlib
import itertools
import re
from typing import List, Optional, Tuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv

from feature_specs.dataset import DatasetDefinition
from feature_specs.errors import DataError
from preprocessing.reading.alignment import alignments
from preprocessing.reading.bad_rows import BadRow, BadRows
from preprocessing.reading.columns import FrameBuilder, Roles
from preprocessing.reading.text_files import (
    NOT_UTF8,
    OPEN_QUOTES,
    Block,
    InputFile,
    cells_of,
    is_number,
    must_look_again,
    read_blocks,
    second_look,
)

_SEPARATORS = (("\t", "a tab"), (",", "a comma"), (";", "a semicolon"), ("|", "a bar"), (" ", "a blank"))
_LOOKED_AT = 100
# Bytes that Arrow parses before it converts them, column by column: what stays in a core's cache is faster by far.
_PARSED_BYTES = 1 << 20
_NO_NUMBER, _DECIMAL_COMMA = re.compile(r": '(.*)' is not a number"), re.compile(r"[+-]?\d+,\d+\Z", re.ASCII)
_AS_UTF8 = "write the file as UTF-8, such as: iconv -f LATIN1 -t UTF-8 OLD > NEW"
_REMEDIES = ((NOT_UTF8, _AS_UTF8), (OPEN_QUOTES, "line breaks inside quotes are not supported: write blanks instead"))


class TextRows:
    """The rows of one text file.

    Attributes:
        names: of the columns, in file order; none where a header is expected and the file is empty.
        names_hint: what is probably wrong where a column is missing.
        first_row: number of the first line that is a row.
        blocks: of rows, for :meth:`convert`; to be read once.
        unit: what the numbers of rows count.
    """

    unit = "line"

    def __init__(self, definition: DatasetDefinition, roles: Roles, info: InputFile, block_bytes: int) -> None:
        self.names, self.names_hint, self.first_row = list(definition.files.columns), "", 1
        self._definition, self._roles, self._separator = definition, roles, definition.files.separator
        self._builder = FrameBuilder(definition, roles)
        self.blocks = read_blocks(info, block_bytes)
        first = next(self.blocks, None)
        # What hints are made of.
        self._lines = first.data.split(b"\n", _LOOKED_AT)[:min(_LOOKED_AT, first.lines)] if first else []
        self._has_names = False
        if first and definition.files.header:
            first = self._without_header(first, info.path)
        elif first:
            self.names = self._names_without_header(info.path)
            cells = cells_of(self._lines[0], self._separator)
            self._has_names = len(set(cells) & set(definition.files.columns)) > len(cells) // 2
        # Names that begin with a zero byte are of columns that are not read.
        self._shown = [name if name in roles.columns else "\0%d" % place for place, name in enumerate(self.names)]
        self.blocks = itertools.chain([first] if first else [], self.blocks)

    def convert(self, block: Block) -> Tuple[pd.DataFrame, List[BadRow], int]:
        """Returns the frame of the usable rows of a block, the others, and the number of lines."""
        count, table = block.lines, None
        problems: List[BadRow] = []
        if block.first_line == 1 and self._has_names:
            block = Block(2, block.lines - 1, block.data[len(self._lines[0]) + 1:])
            problems.append(("names of the columns", 1, "the names of the columns"))
        rows = np.arange(block.first_line, block.first_line + block.lines)
        if not must_look_again(block.data):
            with contextlib.suppress(pa.ArrowInvalid):
                table = self._read_table(block.data)
        # Quotes that are not closed make one row of several lines, an empty line makes none; nothing makes more.
        if table is None or table.num_rows != block.lines:
            good, rows, bad = second_look(block, self._separator, self._shown)
            problems += bad
            table = self._read_table(good)
        frame, more = self._builder.build(table, rows)
        return frame, problems + more, count

    def hint(self, bad: BadRows) -> str:
        """Says what is probably wrong with a file that has too many bad rows, or nothing."""
        hints = [hint for reason, hint in _REMEDIES if reason in bad.counts]
        no_numbers = [match.group(1) for match in (_NO_NUMBER.search(text) for _, text in bad.places) if match]
        if no_numbers and all(map(_DECIMAL_COMMA.match, no_numbers)):
            hints.append("numbers have a decimal comma: write a point")
        elif len(no_numbers) > 1 and len(set(no_numbers)) == 1:
            hints.append("if %s means no value, files: {missing: [%s]} says so" % (no_numbers[0], no_numbers[0]))
        expected = len(self.names)
        has_header = bool(self._lines) and self._is_header(self._lines[0])
        lines = self._lines[int(has_header):] or self._lines
        rows = [cells_of(line, self._separator) for line in lines]
        if has_header and bad.places and bad.places[0][0] == 1:
            hints.append("line 1 looks like a header; remove it, or describe the columns with header: true")
        if rows and all(len(row) != expected for row in rows):
            if all(len(row) == expected + 1 for row in rows) and all(row[0].isdigit() for row in rows[:5]):
                hints.append("the first column looks like an index")
            if self._definition.name == "census" and all(len(row) == 15 for row in rows):
                hints.append("this looks like the Adult data set (UCI 2); Census-Income (KDD) is UCI 117")
            hints += ["the separator looks like %s; files: {separator: ...} sets it" % name
                      for other, name in _SEPARATORS if other != self._separator
                      and all(len(cells_of(line, other)) == expected for line in lines[:5])]
        return "; ".join(hints)

    def _without_header(self, block: Block, path: str) -> Block:
        """Takes names and hint from the first line, and returns the rest of the block."""
        header = self._lines.pop(0)
        try:
            header.decode("utf-8")
        except UnicodeDecodeError as error:
            raise DataError("%s line 1: %s; %s" % (path, NOT_UTF8, _AS_UTF8)) from error
        self.names, self.first_row = cells_of(header, self._separator), 2
        split = [(name, cells_of(header, other)) for other, name in _SEPARATORS
                 if len(self.names) == 1 and other != self._separator]
        likely = [name for name, cells in split if set(cells) & set(self._roles.columns)] or [
            name for name, cells in split if len(cells) > 1]
        self.names_hint = "".join("; the separator looks like %s; files: {separator: ...} sets it" % name
                                  for name in likely[:1])
        if not self.names_hint and any(is_number(name) for name in self.names):
            self.names_hint = "; does the file have no header? give it one, or files: {header: false, columns: [...]}"
        return Block(block.first_line + 1, block.lines - 1, block.data[len(header) + 1:])

    def _names_without_header(self, path: str) -> List[str]:
        """Returns the names of a headerless file's columns; where fields are fewer, some optional ones are absent.

        Raises:
            DataError: the values do not tell which ones.
        """
        every = self.names
        rows = [cells_of(line, self._separator) for line in self._lines]
        fields = collections.Counter(map(len, rows)).most_common(1)[0][0]
        if not 0 < len(every) - fields <= len(set(every) & set(self._roles.optional)):
            return every
        found = alignments(self._definition, self._roles, [row for row in rows if len(row) == fields])
        if len(found) > 1:
            raise DataError("%s: %d fields, expected %d: which of %s are absent cannot be told from the values; write "
                            "all of them, empty where they are not known" % (path, fields, len(every), ", ".join(
                                name for name in every if name in self._roles.optional)))
        return found[0]

    def _is_header(self, line: bytes) -> bool:
        """Whether a line of a file without a header holds names: no number where numbers must be."""
        cells = cells_of(line, self._separator)
        if self._definition.files.header:
            return False
        numbers = [cell for name, cell in zip(self.names, cells) if name in self._roles.numbers]
        return self._has_names or len(cells) == len(self.names) and bool(numbers) and all(
            cell and not is_number(cell) and cell[0].isalpha() for cell in numbers)

    def _read_table(self, data: bytes) -> Optional[pa.Table]:
        """Returns the columns that are read; None of nothing."""
        if not data:
            return None
        with contextlib.suppress(pa.ArrowInvalid):
            return self._parse(data, _PARSED_BYTES)
        return self._parse(data, len(data) + 1)  # a line may be longer

    def _parse(self, data: bytes, parsed_bytes: int) -> pa.Table:
        # Also numbers are few different texts as a rule, which are converted faster than all cells.
        types = {name: pa.dictionary(pa.int32(), pa.string()) for name in self._shown if name in self._roles.columns}
        return pa.csv.read_csv(
            pa.BufferReader(data),
            read_options=pa.csv.ReadOptions(use_threads=False, block_size=parsed_bytes, column_names=self._shown),
            parse_options=pa.csv.ParseOptions(delimiter=self._separator, ignore_empty_lines=len(self._shown) > 1),
            convert_options=pa.csv.ConvertOptions(column_types=types, include_columns=list(types),
                                                  strings_can_be_null=False))
