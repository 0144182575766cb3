"""Runs a command and kills its own process with SIGKILL at a named point: a function's nth call, before or after it.

    python -m tests.estimator_app.training.kill_points POINT NTH train --data_dir ...
"""
import functools
import importlib
import os
import signal
import sys

# Name -> module, attribute path, "before" or "after" the call, and a function that must be on the stack ("" for any).
POINTS = {
    "step": ("estimator_app.training.progress", "ProgressHook.after_run", "before", ""),
    "slice half written": ("rec_sdk_cpu.core.sparse_files", "_write_file", "before", ""),
    "slices written, no rename": ("os", "rename", "before", "__exit__"),
    "slices in place, no dense files": ("rec_sdk_cpu.core.sparse_saver", "SparseSaver.save", "after", ""),
    "dense files in place, no checksums": ("rec_sdk_cpu.core.checksums", "write", "before", ""),
    "checkpoint done": ("rec_sdk_cpu.core.checksums", "write", "after", ""),
    "deletion by TensorFlow's saver": ("os", "rename", "after", "delete"),
    "evaluation begins": ("estimator_app.training.train", "EvaluationRecorder.evaluation_begins", "before", ""),
    "evaluation over, not recorded": ("estimator_app.training.train", "EvaluationRecorder.export", "before", ""),
    "evaluation recorded, best not kept": ("estimator_app.model_dir.checkpoints", "keep_best", "before", ""),
    "best half copied": ("estimator_app.model_dir.checkpoints", "_link_or_copy", "before", ""),
    "best copied, not announced": ("estimator_app.model_dir.checkpoints", "replace_text", "before", "keep_best"),
    "best announced, old one still there": ("estimator_app.model_dir.checkpoints", "delete", "before", "keep_best"),
    "old checkpoint half deleted": ("os", "remove", "after", "delete"),
    "metrics cut": ("estimator_app.model_dir.history", "replace_text", "before", ""),
    "settings written": ("estimator_app.model_dir.directory", "replace_text", "after", ""),
    "report": ("estimator_app.training.report", "write_report", "before", ""),
    "export written, not in place": ("os", "rename", "before", "export_model"),
}


def main(point, nth, arguments):
    """Arms a point and runs the app."""
    from estimator_app import cli
    if arguments[0] != "export":
        # The package must be there before its parts can be armed.
        from estimator_app.device import prepare_device
        prepare_device("cpu")
    module, path, when, inside = POINTS[point]
    owner = importlib.import_module(module)
    *parents, name = path.split(".")
    for parent in parents:
        owner = getattr(owner, parent)
    original = getattr(owner, name)
    calls = [0]

    def kill():
        sys.stdout.write("killed at: %s\n" % point)
        sys.stdout.flush()
        os.kill(os.getpid(), signal.SIGKILL)

    @functools.wraps(original)
    def armed(*args, **kwargs):
        counts = not inside or _is_inside(inside)
        calls[0] += counts
        if counts and calls[0] == nth and when == "before":
            kill()
        result = original(*args, **kwargs)
        if counts and calls[0] == nth and when == "after":
            kill()
        return result

    setattr(owner, name, armed)
    return cli.main(arguments)


def _is_inside(function):
    frame = sys._getframe(2)
    while frame is not None:
        if frame.f_code.co_name == function and "site-packages" not in frame.f_code.co_filename:
            return True
        frame = frame.f_back
    return False


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), sys.argv[3:]))
