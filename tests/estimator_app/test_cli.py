"""The command line itself: help, exit statuses and one-line errors."""
import pytest

from tests.estimator_app.cli_runner import run_app


def test_help_lists_every_kind_of_flag(tmp_path):
    text = run_app("train", "--help", cwd=tmp_path).stdout
    for flag in ("--batch_size", "--use_dynamic", "--fresh", "--eval_mode", "--ranks"):
        assert flag in text


@pytest.mark.parametrize("arguments, status, message", [
    (["train", "--batch_size", "0"], 1, "batch_size 0 is out of range"),
    (["train", "--nonsense", "1"], 2, "unrecognized arguments"),
    (["train", "--batch_size", "many"], 2, "invalid int value"),
    (["eval", "--checkpoint", "newest"], 1, "holds no trained model"),
    (["predict"], 1, "holds no trained model"),
    (["prepare", "--output_path", "x"], 1, "error: "),
])
def test_wrong_command_lines_give_one_line(tmp_path, arguments, status, message):
    done = run_app(*arguments, cwd=tmp_path, check=False)
    assert done.returncode == status and message in done.stderr
    assert "Traceback" not in done.stderr
