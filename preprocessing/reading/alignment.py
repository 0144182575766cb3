"""Which optional columns a file without a header lacks, told by its values."""
import collections
from typing import Dict, List, Sequence, Tuple

from feature_specs.dataset import BINARY, DatasetDefinition
from preprocessing.reading.columns import Roles, label_values, missing_numbers
from preprocessing.reading.text_files import is_number

# A cell that does not fit what is read costs more than all that do not fit labels and weight, which may hold anything.
_READ = 1 << 32
_IMPOSSIBLE = float("inf")


def alignments(definition: DatasetDefinition, roles: Roles, rows: Sequence[Sequence[str]]) -> List[List[str]]:
    """Returns the names of the fields of rows that have fewer than the definition has columns.

    Where several choices of what is absent fit the values equally well, what is read and no more is preferred, as files
    for prediction have it; else two choices are returned if they put something that is read elsewhere.

    Args:
        definition: names the columns.
        roles: what is read of them, and which may be absent.
        rows: trimmed cells, the same number in each.
    """
    names, fields = definition.files.columns, len(rows[0])
    costs = _costs(definition, roles, rows)
    absent = [0 if name in roles.optional else _IMPOSSIBLE for name in names]
    # The least cost of the columns from one on, if a field is theirs: as in the alignment of two sequences.
    rest: Dict[Tuple[int, int], float] = collections.defaultdict(lambda: _IMPOSSIBLE, {(len(names), fields): 0})

    def ways(column: int, field: int) -> Tuple[float, float]:
        """The least costs if a column is absent, and if a field is its."""
        return (absent[column] + rest[column + 1, field],
                costs[column][field] + rest[column + 1, field + 1] if field < fields else _IMPOSSIBLE)

    for column in reversed(range(len(names))):
        for field in range(min(column, fields) + 1):
            rest[column, field] = min(ways(column, field))
    usual = [name for name in names if name in roles.columns]
    if len(usual) == fields and sum(costs[names.index(name)][field] for field, name in enumerate(usual)) == rest[0, 0]:
        return [usual]
    found: List[List[str]] = []
    for prefer_absent in (True, False):
        chosen: List[str] = []
        for column, name in enumerate(names):
            without, there = ways(column, len(chosen))
            if there < without or there == without and not prefer_absent:
                chosen.append(name)
        found.append(chosen)
    # The earliest and the latest places: where they agree on what is read, so do all between.
    places = [[chosen.index(name) if name in chosen else -1 for name in roles.columns] for chosen in found]
    return found if places[0] != places[1] else found[:1]


def _costs(definition: DatasetDefinition, roles: Roles, rows: Sequence[Sequence[str]]) -> List[List[int]]:
    """Returns for each column and field what it costs if the one is in the other."""
    missing = missing_numbers(definition)
    numbers = [feature.column for feature in definition.numeric] + [definition.weight]
    no_numbers = [sum(not is_number(cell) and cell not in missing for cell in cells) for cells in zip(*rows)]
    tasks = {task.column: task for task in reversed(definition.tasks)}
    costs = []
    for name in definition.files.columns:
        if name in roles.columns:
            costs.append([_READ * count * (name in roles.numbers) for count in no_numbers])
        elif name in tasks and tasks[name].kind == BINARY:
            costs.append([int((label_values(tasks[name], cells) < -1).sum()) for cells in zip(*rows)])
        else:
            costs.append(no_numbers if name in tasks or name in numbers else [0] * len(no_numbers))
    return costs
