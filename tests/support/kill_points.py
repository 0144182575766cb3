"""Named points of the commands at which a test kills the process: a function's nth call, before it or after it."""
import functools
import importlib
import os
import signal
import sys

# Name -> module, attribute path, "before" or "after" the call, and a function that must be on the stack ("" for any).
TRAIN_POINTS = {
    "settings written": ("estimator_app.model_dir.directory", "replace_text", "after", ""),
    "vocabularies copied": ("estimator_app.model_dir.directory", "replace_text", "before", "record_stage"),
    "step": ("estimator_app.training.progress", "ProgressHook.after_run", "before", ""),
    "progress noted": ("estimator_app.model_dir.history", "append", "after", "_report"),
    "slice half written": ("rec_sdk_cpu.core.sparse_files", "_write_file", "before", ""),
    "slices written, no rename": ("os", "rename", "before", "__exit__"),
    "slices in place, no dense files": ("rec_sdk_cpu.core.sparse_saver", "SparseSaver.save", "after", ""),
    "dense files in place, no checksums": ("rec_sdk_cpu.core.checksums", "write", "before", ""),
    "checkpoint done": ("rec_sdk_cpu.core.checksums", "write", "after", ""),
    "evaluation begins": ("estimator_app.training.train", "EvaluationRecorder.input_fn", "before", ""),
    "evaluation over, not recorded": ("estimator_app.training.train", "EvaluationRecorder.export", "before", ""),
    "evaluation recorded, best not kept": ("estimator_app.model_dir.history", "append", "after", "_record"),
    "best half copied": ("estimator_app.model_dir.checkpoints", "_link_or_copy", "before", ""),
    "best copied, not announced": ("estimator_app.model_dir.checkpoints", "replace_text", "before", "write_best"),
    "best announced, old one still there": ("estimator_app.model_dir.checkpoints", "write_state", "after",
                                            "write_best"),
    "old checkpoint half deleted": ("os", "remove", "after", "delete"),
    "evaluation complete": ("estimator_app.training.train", "EvaluationRecorder.export", "after", ""),
    "report": ("estimator_app.training.report", "write_report", "before", ""),
}
RESTART_POINTS = {
    "history repaired": ("estimator_app.model_dir.history", "repair", "after", ""),
    "history half repaired": ("estimator_app.model_dir.history", "replace_text", "before", "repair"),
    "restored": ("estimator_app.training.hooks", "GridSaver.after_create_session", "after", ""),
}
OTHER_POINTS = {
    "preparation written, not in place": ("preprocessing.output_directory", "_put_in_place", "before", ""),
    "preparation in place": ("preprocessing.output_directory", "_put_in_place", "after", ""),
    "export written, not in place": ("os", "rename", "before", "_publish"),
    "predictions written, not in place": ("os", "replace", "before", "open_output"),
    "old run half moved": ("os", "rename", "after", "finish_move"),
    "trial trained, study not told": ("estimator_app.tuning.tune", "Search._train", "after", ""),
    "trial begins": ("estimator_app.tuning.trial", "run_training", "before", ""),
    "best preset": ("estimator_app.tuning.tune", "replace_text", "before", "_summary"),
}
POINTS = dict(TRAIN_POINTS, **RESTART_POINTS, **OTHER_POINTS)


def arm(point, nth):
    """Makes the nth call of a point end this process.

    ``spoil`` makes the weights of step ``nth`` no numbers; ``signals`` sends this process signals as they would come
    from outside, ``nth`` is a dict from step to signal.
    """
    if point in ("spoil", "signals"):
        (_spoil_after if point == "spoil" else _send_after)(nth)
        return
    module, path, when, inside = POINTS[point]
    owner = importlib.import_module(module)
    *parents, name = path.split(".")
    for parent in parents:
        owner = getattr(owner, parent)
    original = getattr(owner, name)
    calls = [0]

    @functools.wraps(original)
    def armed(*args, **kwargs):
        counts = not inside or _is_inside(inside)
        calls[0] += counts
        is_due = counts and calls[0] == nth
        if is_due and when == "before":
            _kill()
        result = original(*args, **kwargs)
        if is_due:
            _kill()
        return result

    setattr(owner, name, armed)


def _kill():
    os.kill(os.getpid(), signal.SIGKILL)


def _is_inside(function):
    frame = sys._getframe(2)
    while frame is not None:
        if frame.f_code.co_name == function and "site-packages" not in frame.f_code.co_filename:
            return True
        frame = frame.f_back
    return False


def _send_after(signals):
    from estimator_app.training.progress import ProgressHook
    original = ProgressHook.after_run

    def armed(self, run_context, run_values):
        original(self, run_context, run_values)
        if self._step in signals:
            os.kill(os.getpid(), signals[self._step])

    ProgressHook.after_run = armed


def _spoil_after(step):
    """Multiplies all dense variables by infinity after a step, as a diverging update does."""
    import tensorflow as tf

    from estimator_app.training.progress import ProgressHook
    original, made = ProgressHook.after_run, []
    begin = ProgressHook.begin

    def armed_begin(self):
        begin(self)
        made.append([tf.compat.v1.assign(variable, variable * float("nan"))
                     for variable in tf.compat.v1.trainable_variables()])

    def armed(self, run_context, run_values):
        original(self, run_context, run_values)
        if self._step == step:
            run_context.session.run(made[-1])

    ProgressHook.begin, ProgressHook.after_run = armed_begin, armed
