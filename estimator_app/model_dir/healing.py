"""Makes a model directory whole again at the start of a run: which checkpoint counts, and what is set aside."""
import os
from typing import List, Mapping, Optional, Tuple

from estimator_app.model_dir import checkpoints, history
from estimator_app.model_dir.checkpoints import Checkpoint
from feature_specs.errors import UserError


def heal(model_dir: str, damaged_folder: str, tables: Optional[Mapping[str, int]] = None) -> Tuple[int, List[str]]:
    """Makes the latest whole checkpoint the one that TensorFlow restores.

    Where the best one is whole and of a later step than what is whole beside it, or the only one, it takes its place.
    Checkpoints that are not whole go to ``damaged_folder``; ``tables`` as for :meth:`Checkpoint.problem`. Returns its
    step (0: none) and a warning per checkpoint that is set aside. UserError: there was a run, and none of its
    checkpoints is whole; nothing has been changed then.
    """
    known, warnings = checkpoints.steps(model_dir), []
    whole = checkpoints.latest(model_dir, True, tables)
    copy = _copy_instead(model_dir, known, whole)
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
        warnings.append("the copy of step %d in %s/ takes its place" % (copy.step, checkpoints.BEST_FOLDER))
    if step == 0:
        # Nothing has been trained: the weights are made anew, as the settings and --warm_start_from say now.
        Checkpoint(model_dir, 0).delete()
    if step is not None:
        checkpoints.write_state(model_dir, [number for number in checkpoints.steps(model_dir) if number <= step])
    if os.path.isdir(model_dir):
        checkpoints.keep_only(model_dir, checkpoints.steps(model_dir))
    return step or 0, warnings


def _copy_instead(model_dir: str, known: List[int], whole: Optional[int]) -> Optional[Checkpoint]:
    """Returns the whole copy in ``best/`` of a damaged checkpoint that is later than the whole ones, or None."""
    best = checkpoints.read_best(model_dir)  # without its contents, which no ordinary start needs
    if best is None or not (whole is None or (best.step > whole and best.step in known)):
        return None
    copy = Checkpoint(os.path.join(model_dir, checkpoints.BEST_FOLDER), best.step)
    return copy if copy.problem(contents=True) is None else None
