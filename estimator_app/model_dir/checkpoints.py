"""Checkpoints as files: which ones are whole, how many are kept, and the copy of the best one.

A checkpoint of step S is ``model.ckpt-S.{index,data-*,meta}`` and the SDK's folder ``sparse-model.ckpt-S``; it counts
only where both are there and whole. The SDK's files have no checksums, and nothing may be added to their folder, so
``model.ckpt-S.checksums`` stands beside it: JSON with size and CRC-32 of every file that a restore reads. A checkpoint
without one, such as one of the SDK itself, is accepted.
"""
import contextlib
import dataclasses
import glob
import json
import os
import re
import shutil
import sys
import zlib
from typing import List, Mapping, Optional, Tuple

from estimator_app.model_dir import history, sparse_tables
from feature_specs.checks import is_digits
from feature_specs.errors import UserError
from feature_specs.files import free_path, read_small_text, replace_text

BASE_NAME = "model.ckpt"
BEST_FOLDER = "best"
BEST_FILE = "best.json"
BEST_FORMAT = 2
CHECKSUMS_ENDING = ".checksums"
CHECKSUMS_FORMAT = 1
STATE_FILE = "checkpoint"
DAMAGED_FOLDER = "damaged"
# What TensorFlow, the SDK and this program write for a checkpoint: its files, and those of writes and deletions that
# were interrupted. Anything else that lies beside them is somebody's own.
_PART = re.compile(r"(?P<tables>sparse-)?model\.ckpt-(?P<step>\d+)"
                   r"(?(tables)|\.(index|meta|checksums|data-\d+-of-\d+))\Z")
_UNFINISHED = re.compile(r"model\.ckpt-\d+(_temp(_\w+)?|\.(index|meta|checksums|data-\d+-of-\d+)\.?"
                         r"(tempstate\d*|tmp\w*|partial-\d+))\Z|"
                         r"\.{1,2}sparse-model\.ckpt-\d+(\.rank\d+)?(\.(partial|deleted|replaced)-[\w.-]+)?\Z|"
                         r"graph\.pbtxt\.tmp")


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """The checkpoint of a step in a directory, whether it is there or not."""

    directory: str
    step: int

    @property
    def path(self) -> str:
        """Path without file endings, as TensorFlow names it."""
        return os.path.join(self.directory, "%s-%d" % (BASE_NAME, self.step))

    @property
    def tables(self) -> str:
        """The folder of its embedding tables."""
        return os.path.join(self.directory, "sparse-%s-%d" % (BASE_NAME, self.step))

    def problem(self, contents: bool = False, tables: Optional[Mapping[str, int]] = None) -> Optional[str]:
        """Returns what is wrong with it, naming the file, or None where it is whole.

        With ``contents`` files are read and their checksums compared, else only names and sizes are looked at;
        ``tables`` {table of the model: values of a row} must all be there. UserError: checksums of a newer format.
        """
        for ending in (".index", ".data-*"):
            if not any(map(os.path.exists, glob.glob(glob.escape(self.path) + ending))):
                return "%s%s is missing" % (self.path, ending)
        try:
            sparse_tables.check(self.tables, tables or {})
        except (sparse_tables.SparseTableError, OSError) as error:
            return str(error)
        return self.checksum_problem() if contents else None

    def ensure_checksums(self) -> None:
        """Writes the checksum file, atomically, where there is none."""
        path = self.path + CHECKSUMS_ENDING
        if not os.path.isfile(path):
            restored = [name for name in self.files() if not name.endswith((".meta", CHECKSUMS_ENDING))]
            for folder, _, names in os.walk(self.tables):
                restored += [os.path.join(folder, name) for name in names]
            sums = {os.path.relpath(name, self.directory): _sum_of(name) for name in restored}
            replace_text(path, json.dumps({"format_version": CHECKSUMS_FORMAT, "crc32": sums}, indent=1,
                                          sort_keys=True) + "\n")

    def checksum_problem(self) -> Optional[str]:
        """Reads its files and returns what is wrong, naming one; None where all is well or there are no checksums."""
        path = self.path + CHECKSUMS_ENDING
        if not os.path.isfile(path):
            return None
        try:
            data = json.loads(read_small_text(path))
            version = int(data["format_version"])
            expected = {str(name): [int(size), int(value)] for name, (size, value) in data["crc32"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            return "%s cannot be read (%s)" % (path, error)
        if version > CHECKSUMS_FORMAT:
            raise UserError("%s has format version %d, newer than this program reads (%d); update the program"
                            % (path, version, CHECKSUMS_FORMAT))
        for name, (size, value) in sorted(expected.items()):
            file = os.path.join(self.directory, name)
            try:
                found_size, found_value = _sum_of(file)
            except (OSError, ValueError) as error:
                # ValueError: a name that no file can have, with a zero byte or half a character.
                return "%r cannot be read (%s)" % (file, getattr(error, "strerror", None) or error)
            if found_size != size:
                return "%s has %d bytes, it was written with %d" % (file, found_size, size)
            if found_value != value:
                return "%s is damaged: its checksum is not the one it was written with" % file
        return None

    def files(self) -> List[str]:
        """Returns the paths of its files that are there, the announcing index file first."""
        found = [name for name in glob.glob(glob.escape(self.path) + ".*") if _PART.match(os.path.basename(name))]
        return sorted(found, key=lambda name: (not name.endswith(".index"), name))

    def delete(self) -> None:
        """Removes it: the announcing index file first, the folder of tables last."""
        for name in self.files():
            os.remove(name)
        shutil.rmtree(self.tables, ignore_errors=True)

    def set_aside(self, folder: str) -> None:
        """Moves it where nothing restores it; nothing is deleted: its disk may only be away today."""
        os.makedirs(folder, exist_ok=True)
        # The index file last: while it is there, a start that follows an interrupted one moves the rest.
        for name in ([self.tables] if os.path.exists(self.tables) else []) + self.files()[::-1]:
            os.replace(name, free_path(os.path.join(folder, os.path.basename(name))))

    def copy_to(self, folder: str) -> None:
        """Copies it into a folder; the index file last, with which the copy counts as a checkpoint."""
        os.makedirs(folder, exist_ok=True)
        target = Checkpoint(folder, self.step)
        target.delete()
        shutil.copytree(self.tables, target.tables, copy_function=_link_or_copy)
        for name in reversed(self.files()):
            _link_or_copy(name, os.path.join(folder, os.path.basename(name)))


def steps(directory: str) -> List[int]:
    """Returns the steps that have an index file, ascending."""
    if not os.path.isdir(directory):
        return []
    found = (_PART.match(name) for name in os.listdir(directory) if name.endswith(".index"))
    return sorted(int(match.group("step")) for match in found if match)


def latest(directory: str, contents: bool = False, tables: Optional[Mapping[str, int]] = None) -> Optional[int]:
    """Returns the latest step whose checkpoint is whole, or None; arguments as for :meth:`Checkpoint.problem`."""
    return next((step for step in reversed(steps(directory))
                 if Checkpoint(directory, step).problem(contents, tables) is None), None)


def write_state(directory: str, all_steps: List[int]) -> None:
    """Writes TensorFlow's ``checkpoint`` file atomically: the last step given is the latest; none: no file."""
    path = os.path.join(directory, STATE_FILE)
    if not all_steps:
        with contextlib.suppress(FileNotFoundError):
            os.remove(path)
        return
    names = ["%s-%d" % (BASE_NAME, step) for step in all_steps]
    lines = ['model_checkpoint_path: "%s"' % names[-1]] + ['all_model_checkpoint_paths: "%s"' % name for name in names]
    with contextlib.suppress(OSError), open(path, encoding="utf-8", errors="replace") as stream:
        # TensorFlow's own file says the same with time stamps between the lines.
        if lines == [line for line in stream.read().splitlines() if "checkpoint_path" in line]:
            return
    replace_text(path, "\n".join(lines) + "\n")


def keep_only(directory: str, kept: List[int]) -> None:
    """Removes the checkpoints of other steps, and what interrupted writes and deletions left."""
    for step in sorted(set(steps(directory)) - set(kept)):
        Checkpoint(directory, step).delete()
    for name in os.listdir(directory):
        part, path = _PART.match(name), os.path.join(directory, name)
        if _UNFINISHED.match(name) or part and int(part.group("step")) not in kept:
            if os.path.isdir(path):
                shutil.rmtree(path, ignore_errors=True)
            else:
                os.remove(path)


def is_file_of_one(name: str) -> bool:
    """Whether a name in a model directory is one that training gives to the files of checkpoints."""
    return bool(_PART.match(name) or _UNFINISHED.match(name))


@dataclasses.dataclass(frozen=True)
class Best:
    """The best evaluation so far: its step, the metric that it was judged by, and its value."""

    step: int
    metric: str
    value: float


def keep_best(directory: str, best: Best) -> None:
    """Makes ``best/`` hold the checkpoint of the best evaluation."""
    if read_best(directory) != best:
        Checkpoint(directory, best.step).copy_to(os.path.join(directory, BEST_FOLDER))
        write_best(directory, best)


def write_best(directory: str, best: Best) -> None:
    """Notes what ``best/`` holds, and removes other checkpoints from it."""
    folder = os.path.join(directory, BEST_FOLDER)
    replace_text(os.path.join(folder, BEST_FILE),
                 json.dumps(dict(dataclasses.asdict(best), format_version=BEST_FORMAT), sort_keys=True) + "\n")
    write_state(folder, [best.step])
    keep_only(folder, [best.step])


def read_best(directory: str, contents: bool = False) -> Optional[Best]:
    """Returns the best checkpoint, or None where none is whole or the note is damaged; UserError: of a newer format."""
    folder = os.path.join(directory, BEST_FOLDER)
    path = os.path.join(folder, BEST_FILE)
    try:
        note = json.loads(read_small_text(path))
        if int(note["format_version"]) > BEST_FORMAT:
            raise UserError("%s has format version %r, newer than this program reads (%d); update the program"
                            % (path, note["format_version"], BEST_FORMAT))
        found = Best(int(note["step"]), str(note["metric"]), float(note["value"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError):
        return None
    return found if Checkpoint(folder, found.step).problem(contents) is None else None


def resolve(directory: str, choice: str, tables: Optional[Mapping[str, int]] = None) -> Checkpoint:
    """Returns the checkpoint for ``latest``, ``best`` or a step number, its contents verified; UserError without one.

    A damaged latest checkpoint is passed over with a warning; ``tables`` as for :meth:`Checkpoint.problem`.
    """
    if choice == "latest":
        return _latest_verified(directory, tables)
    if choice == "best":
        best = read_best(directory)
        if best is None:
            raise UserError("model directory %s holds no best checkpoint that is whole; use --checkpoint latest, or "
                            "let train find it again" % directory)
        found = Checkpoint(os.path.join(directory, BEST_FOLDER), best.step)
    elif is_digits(choice):
        found = Checkpoint(directory, int(choice))
        if found.step not in steps(directory):
            raise UserError("model directory %s has no checkpoint of step %s; it has %s"
                            % (directory, choice, ", ".join(map(str, steps(directory))) or "none"))
    else:
        raise UserError("checkpoint %r is not known; allowed: latest, best or a step number" % choice)
    wrong = found.problem(True, tables)
    if wrong:
        raise UserError("the checkpoint of step %d is not whole: %s" % (found.step, wrong))
    return found


def _latest_verified(directory: str, tables: Optional[Mapping[str, int]]) -> Checkpoint:
    # A training beside us may delete what was listed: then look again.
    for _ in range(3):
        known = steps(directory)
        warnings: List[str] = []
        # That of step 0 holds weights that nothing has trained.
        for checkpoint in (Checkpoint(directory, step) for step in reversed(known) if step):
            wrong = checkpoint.problem(True, tables)
            if wrong is None:
                sys.stderr.write("".join(warnings))
                return checkpoint
            if checkpoint.step in steps(directory):
                warnings.append("warning: the checkpoint of step %d is not whole (%s); the one before is used\n"
                                % (checkpoint.step, wrong))
        if steps(directory) == known:
            break
    raise UserError("model directory %s holds no whole checkpoint of trained weights; train first: bash "
                    "run_estimator.sh train --model_dir %s" % (directory, directory))


def heal(model_dir: str, damaged_folder: str, tables: Optional[Mapping[str, int]] = None) -> Tuple[int, List[str]]:
    """Makes the latest whole checkpoint the one that TensorFlow restores.

    Where the best one is whole and of a later step than what is whole beside it, or the only one, it takes its place.
    Checkpoints that are not whole go to ``damaged_folder``; ``tables`` as for :meth:`Checkpoint.problem`. Returns its
    step (0: none) and a warning per checkpoint that is set aside. UserError: there was a run, and none of its
    checkpoints is whole; nothing has been changed then.
    """
    known, warnings = steps(model_dir), []
    whole = latest(model_dir, True, tables)
    best, copy = read_best(model_dir), None  # without its contents, which no ordinary start needs
    if best is not None and (whole is None or best.step > whole and best.step in known):
        in_best = Checkpoint(os.path.join(model_dir, BEST_FOLDER), best.step)
        copy = in_best if in_best.problem(contents=True) is None else None
    step = whole if copy is None else copy.step
    if step is None and (known or any(entry["global_step"] for entry in history.read(model_dir))):
        wrong = Checkpoint(model_dir, known[-1]).problem(True, tables) if known else "there is none"
        raise UserError("model directory %s: no checkpoint is whole (%s); bring the files back, or start over with "
                        "--fresh, which moves this run aside" % (model_dir, wrong))
    for number in [number for number in known if whole is None or number > whole]:
        checkpoint = Checkpoint(model_dir, number)
        wrong = checkpoint.problem(True, tables)
        checkpoint.set_aside(damaged_folder)
        warnings.append("the checkpoint of step %d is not whole (%s); it is set aside in %s and training continues "
                        "from step %s" % (number, wrong, damaged_folder, step))
    if copy is not None:
        copy.copy_to(model_dir)
        warnings.append("the copy of step %d in %s/ takes its place" % (copy.step, BEST_FOLDER))
    if step == 0:
        # Nothing has been trained: the weights are made anew, as the settings and --warm_start_from say now.
        Checkpoint(model_dir, 0).delete()
    if step is not None:
        write_state(model_dir, [number for number in steps(model_dir) if number <= step])
    if os.path.isdir(model_dir):
        keep_only(model_dir, steps(model_dir))
    return step or 0, warnings


def _link_or_copy(source: str, target: str) -> None:
    # Checkpoint files are never changed in place, so a hard link is a copy that costs nothing.
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _sum_of(path: str) -> List[int]:
    size, value = 0, 0
    with open(path, "rb") as stream:
        for chunk in iter(lambda: stream.read(1 << 24), b""):
            size += len(chunk)
            value = zlib.crc32(chunk, value)
    return [size, value]
