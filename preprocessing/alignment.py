"""Which optional columns a file without a header lacks, told by its values."""
from typing import Dict, List, Sequence, Tuple

import numpy as np

from feature_specs.dataset import BINARY, DatasetDefinition
from preprocessing.columns import Roles, label_values, missing_numbers
from preprocessing.text_files import is_number

#: Cells that do not fit what is read, then those that do not fit labels and weight, which may hold anything.
_Cost = Tuple[int, int]
_NONE: _Cost = (0, 0)
_IMPOSSIBLE: _Cost = (1 << 60, 0)


def alignments(definition: DatasetDefinition, roles: Roles, rows: Sequence[Sequence[str]]) -> List[List[str]]:
    """Returns the names of the fields of rows that have fewer than the definition has columns.

    Where several choices of what is absent fit the values equally well, what is read and no more is preferred, as files
    for prediction have it; else two choices are returned if they put something that is read elsewhere.

    Args:
        definition: names the columns.
        roles: what is read of them, and which may be absent.
        rows: trimmed cells, the same number in each.
    """
    names = definition.files.columns
    fields = len(rows[0])
    cells = [np.array(column, object) for column in zip(*rows)]
    missing = missing_numbers(definition)
    no_numbers = [sum(not is_number(cell) and cell not in missing for cell in column) for column in cells]
    costs = [_costs(name, definition, roles, cells, no_numbers) for name in names]
    absent = [_NONE if name in roles.optional else _IMPOSSIBLE for name in names]
    # The least cost of the columns from one on, if a field is theirs: as in the alignment of two sequences.
    rest: Dict[Tuple[int, int], _Cost] = {(len(names), fields): _NONE}
    for column in reversed(range(len(names))):
        for field in range(min(column, fields), -1, -1):
            ways = [_sum(absent[column], rest.get((column + 1, field), _IMPOSSIBLE))]
            if field < fields:
                ways.append(_sum(costs[column][field], rest.get((column + 1, field + 1), _IMPOSSIBLE)))
            rest[column, field] = min(ways)
    usual, cost = [name for name in names if name in roles.columns], _NONE
    if len(usual) == fields:
        for field, name in enumerate(usual):
            cost = _sum(cost, costs[names.index(name)][field])
        if cost == rest[0, 0]:
            return [usual]
    found: List[List[str]] = []
    for prefer_absent in (True, False):
        chosen, field = [], 0
        for column, name in enumerate(names):
            is_absent = _sum(absent[column], rest.get((column + 1, field), _IMPOSSIBLE)) == rest[column, field]
            is_there = field < fields and _sum(costs[column][field], rest.get(
                (column + 1, field + 1), _IMPOSSIBLE)) == rest[column, field]
            if is_there and not (is_absent and prefer_absent):
                chosen.append(name)
                field += 1
        found.append(chosen)
    # The earliest and the latest places: where they agree on what is read, so do all between.
    places = [[chosen.index(name) if name in chosen else -1 for name in roles.columns] for chosen in found]
    return found if places[0] != places[1] else found[:1]


def _costs(name: str, definition: DatasetDefinition, roles: Roles, cells: Sequence[np.ndarray],
           no_numbers: Sequence[int]) -> List[_Cost]:
    """Returns for each field, of these cells and so many that are no numbers, what it costs if a column is there."""
    if name in roles.columns:
        return [(count if name in roles.numbers else 0, 0) for count in no_numbers]
    tasks = [task for task in definition.tasks if task.column == name]
    if tasks and tasks[0].kind == BINARY:
        return [(0, int((label_values(tasks[0], column) < -1).sum())) for column in cells]
    if tasks or name == definition.weight or name in [feature.column for feature in definition.numeric]:
        return [(0, count) for count in no_numbers]
    return [_NONE] * len(cells)


def _sum(first: _Cost, second: _Cost) -> _Cost:
    return first[0] + second[0], first[1] + second[1]
