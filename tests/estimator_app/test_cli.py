"""The command line itself: help, exit statuses, suggestions, and one line for every fault of the environment."""
import json
import os
import re
import resource
import subprocess
import sys

import pytest

from estimator_app import cli, parsers
from feature_specs.files import PROJECT
from tests.support import runs

# What TensorFlow's allocator may take in a test of its limits.
_MB = 1 << 20


def test_help_shows_the_values_that_a_run_would_use(fresh):
    """The dataset's preset, a preset that is named, and the default one; the flags of a launch are there too."""
    text = fresh.here("train", "--help", "--data_dir", "data").ok().out
    assert shown_default(text, "--batch_size") == "512" and shown_default(text, "--input_layer") == "concat"
    # Values are rare in this data.
    assert shown_default(text, "--learning_rate") == "0.004" and shown_default(text, "--embedding_l2") == "0.0"
    text = fresh.here("train", "--help", "--data_dir", "data", "--preset", "reference").out
    assert shown_default(text, "--batch_size") == "32" and shown_default(text, "--reference_init") == "true"
    # Without --data_dir it is the sample, which is census data.
    text = fresh.here("train", "--help").out
    assert shown_default(text, "--learning_rate") == "0.004" and shown_default(text, "--drop_dense") == (
        "instance_weight")
    for flag in ("--fresh", "--eval_mode", "--ranks", "--continue_on", "--warm_start_from", "--verify_data"):
        assert flag in text


@pytest.mark.long
def test_help_shows_how_many_passes_the_data_asks_for(fresh):
    """As many as the training makes; where the data cannot say it, the setting alone."""
    text = fresh.here("train", "--help", "--data_dir", "data").ok().out
    assert shown_default(text, "--train_epoch") == "0"  # its rows do not fill a batch of the preset
    (fresh.root / "small.json").write_text('{"batch_size": 16, "train_epoch": 0}')
    flags = ("--data_dir", "data", "--preset", "small.json")
    found = shown_default(fresh.here("train", "--help", *flags).ok().out, "--train_epoch")
    passes = re.match(r"0, which is (\d+) on data with batches of 16\Z", found).group(1)
    done = fresh.here("train", "--model_dir", "small", "--device", "cpu", "--eval_interval", "100000", *flags).ok()
    assert "(%s epochs, chosen from the data)" % passes in done.out
    # A batch of this command line, or of all its ranks, makes other steps.
    for more, expected in ((("--batch_size", "40"), "10 on data with batches of 40"), (
            ("--batch_size", "8", "--ranks", "2"), "%s on data with batches of 8" % passes)):
        shown = shown_default(fresh.here("train", "--help", *(flags + more)).ok().out, "--train_epoch")
        assert shown == "0, which is " + expected


def test_an_mmoe_with_one_expert_is_refused(fresh):
    """Data of rare values has another network by default, which has one shared expert."""
    fresh.here("train", "--data_dir", "data", "--model_dir", "new", "--device", "cpu", "--model", "mmoe",
               "--batch_size", "16").refused("of the preset", "weigh nothing; give --expert_num 4")
    assert not (fresh.root / "new").exists()


def test_prepare_looks_at_the_datasets_preset(tmp_path):
    dataset = tmp_path / "my.yaml"
    dataset.write_text(runs.SMALL_YAML + "preset: absent.json\n")
    rows = runs.write_rows(str(tmp_path / "a.csv"), runs.small_rows(40))
    runs.run_here(tmp_path, "prepare", "--dataset", dataset, "--train_data_path", rows, "--split", "0.2",
                  "--output_path", "out").refused("dataset file", "my.yaml: preset 'absent.json' cannot be read")
    assert not (tmp_path / "out").exists()


def test_help_of_eval_shows_what_the_model_was_trained_with(whole):
    text = whole.here("eval", "--help", "--model_dir", "model").ok().out
    assert shown_default(text, "--threads") == "1" and shown_default(text, "--data_dir") == "data"


def shown_default(text, flag):
    words = " ".join(text.split("options")[-1].split())
    described = words.split(flag + " ", 2)[-1]
    return described.split("(default: ", 1)[1].split(")", 1)[0]


@pytest.mark.parametrize("command", sorted(parsers.COMMANDS))
def test_every_command_has_help(tmp_path, command):
    assert "usage: run_estimator.sh %s" % command in runs.run_here(tmp_path, command, "--help").ok().out


@pytest.mark.parametrize("arguments, status, message", [
    (["tran"], 2, "unknown command 'tran', did you mean train?"),
    (["train", "--learning_rat", "3"], 2, "unknown flag --learning_rat; did you mean --learning_rate?"),
    (["eval", "--chekpoint=best"], 2, "did you mean --checkpoint?"),
    (["train", "--qqqqq", "1"], 2, "unknown flag --qqqqq; run_estimator.sh train --help lists all flags"),
    (["train", "data/my"], 1, "data/my: not one of train's flags, such as --data_dir DIR"),
    (["eval", "data/my"], 2, "data/my stands without a flag; give it as that of one, such as --data_dir data/my"),
    (["train", "--data_dir", __file__], 1, "is a file, not a data directory"),
    (["train", "--batch_size", "many"], 2, "invalid int value"),
    (["train", "--learning_rate", "0,001"], 2, "'0,001' is not a number; write it with a point, such as 0.1"),
    (["prepare", "--split", "10%", "--output_path", "x"], 2, "'10%' is not a number"),
    (["train", "--batch_size", "0"], 1, "batch_size 0 is out of range; allowed: 1 to"),
    (["train", "--preset", "nothing"], 1, "preset 'nothing' cannot be read"),
    (["train", "--dry_run", "--ranks", "2", "--device", "cpu"], 1, "--dry_run starts nothing, and the sample data set "
     "in data/sample is not there"),
    (["preflight", "--dry_run"], 2, "unknown flag --dry_run"),
    (["train", "--data_dir", "absent"], 1, "data directory absent does not exist"),
    (["eval"], 1, "holds no trained model"), (["predict"], 1, "holds no trained model"),
    (["export"], 1, "holds no trained model"), (["prepare", "--output_path", "x"], 1, "no data given"),
    (["train", "--ranks", "-1"], 1, "--ranks -1; allowed: a number from 1 on"), (["tune"], 2, "--trials"),
    (["bench", "nothing"], 2, "invalid choice"),
])
def test_wrong_command_lines_give_one_line(tmp_path, arguments, status, message):
    runs.run_here(tmp_path, *arguments).refused(message, status=status)


@pytest.mark.parametrize("name, words", [
    ("lr=[0.1]", "'[' ']'"), ("a*b", "'*'"), ("a\\b", "\\\\"), ("a\nb", "\\n"), ("x/" * 600, "characters"),
    ("small.yaml", "is not a directory"), ("/dev/null", "is not a directory"), ("/proc/nothing/here", "")])
def test_paths_that_cannot_work_are_refused_before_the_first_step(fresh, name, words):
    (fresh.root / "small.yaml").write_text("")
    before = sorted(os.listdir(str(fresh.root)))
    fresh.here(*(runs.TRAIN + ("--model_dir", name))).refused(words)
    assert sorted(os.listdir(str(fresh.root))) == before


@pytest.mark.long
def test_a_link_in_the_path_is_resolved_on_a_cpu_and_refused_on_npus(fresh):
    from estimator_app.model_dir import directory
    from feature_specs.errors import ConfigError
    os.makedirs(str(fresh.root / "disk"))
    os.symlink(str(fresh.root / "disk"), str(fresh.root / "runs"))
    done = fresh.train("--train_epoch", "1", "--model_dir", "runs/one").ok()
    assert "trained 10 steps" in done.out and os.path.isfile(str(fresh.root / "disk" / "one" / "args.json"))
    with pytest.raises(ConfigError, match="leads through a symbolic link"):
        directory.check_path(str(fresh.root / "runs" / "one"), "npu")


@pytest.mark.parametrize("environment, words", [
    ({"TF_CONFIG": "{nonsense"}, "TF_CONFIG does not hold a JSON object"),
    ({"TF_CONFIG": "[1]"}, "TF_CONFIG does not hold a JSON object"),
    ({"TF_CONFIG": '{"cluster": {"chief": ["a:1"]}, "task": {"type": "chief"}}'}, "TF_CONFIG names cluster, task"),
    ({"TF_CONFIG": '{"session_master": "grpc://x:1"}'}, "TF_CONFIG names session_master"),
    ({"RANK_ID": "abc"}, "RANK_ID='abc' is not a whole number"),
    ({"HOROVOD_RANK": "x"}, "HOROVOD_RANK='x' is not a whole number"),
    ({"RANK_ID": "0", "RANK_SIZE": "2"}, "RANK_SIZE=2 is set, and this process is not a rank of a launch"),
    ({"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": None}, "OMPI_COMM_WORLD_SIZE=4 is set"),
    ({"OMPI_COMM_WORLD_SIZE": "four"}, "OMPI_COMM_WORLD_SIZE='four' is not a whole number"),
    ({"OMPI_COMM_WORLD_RANK": "3"}, "OMPI_COMM_WORLD_RANK=3 is not below OMPI_COMM_WORLD_SIZE=1"),
    ({"OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_SIZE": "4"}, "rank"),
    ({"USE_FAAE": "yes"}, "USE_FAAE='yes'; allowed: 0, 1"),
])
def test_variables_of_somebody_else_are_named(trained, environment, words):
    trained.command(*(runs.TRAIN + ("--train_epoch", "4")), environment=environment).refused(words)
    if "USE_FAAE" not in environment:
        trained.command("eval", "--model_dir", "model", environment=environment).refused(words)


@pytest.mark.parametrize("path, value, words", [
    (("splits", "train", "rows"), 1 << 62, "rows"), (("splits", "train", "rows"), 1 << 40, "rows"),
    (("splits", "train", "shards", 0, "rows"), 1 << 62, "rows"), (("line_per_sample",), 1 << 62, "line_per_sample"),
    (("vocabularies", "item", "size"), 1 << 62, "size"), (("vocabularies", "item", "size"), 1 << 40, ""),
    (("vocabularies", "user", "distinct"), 1 << 62, ""), (("vocabularies", "user", "distinct"), 1 << 40, ""),
    (("seed",), 1 << 80, "seed"), (("splits", "test", "rows"), True, "rows"),
    (("dense_statistics", "x", "mean"), float("inf"), "finite"), (("format_version",), 1 << 62, "newer"),
])
def test_manifests_with_absurd_numbers_are_one_line(fresh, path, value, words):
    name = os.path.join(fresh.data, "manifest.json")
    with open(name, encoding="utf-8") as stream:
        manifest = json.load(stream)
    place = manifest
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    if path[-1] == "rows" and not isinstance(value, bool):
        split = manifest["splits"][path[1]]
        split["rows"] = split["shards"][0]["rows"] = value
    with open(name, "w", encoding="utf-8") as stream:
        json.dump(manifest, stream)
    fresh.here(*runs.TRAIN).refused(words)
    assert not os.path.exists(os.path.join(fresh.model, "args.json"))


@pytest.mark.long
def test_a_reader_that_goes_away_is_no_error(trained):
    """``run_estimator.sh help | head -0``, and of every kind of command: 141 as shells say it, and not a word."""
    for arguments in (["help"], ["train", "--help"], ["eval", "--model_dir", "model"]):
        reading, writing = os.pipe()
        os.close(reading)
        environment = dict(os.environ, PYTHONPATH=PROJECT, PYTHONWARNINGS="ignore")
        done = subprocess.run([sys.executable, "-m", "estimator_app"] + arguments, cwd=str(trained.root),
                              env=environment, stdout=writing, stderr=subprocess.PIPE, timeout=300)
        os.close(writing)
        assert (done.returncode, done.stderr) == (141, b""), arguments


def run_in_shell(root, line, *words, **environment):
    """Runs a command behind what the shell does to its streams; ``words`` follow its arguments."""
    return subprocess.run(["bash", "-c", '"$0" -m estimator_app %s' % line, sys.executable] + list(words),
                          cwd=str(root), capture_output=True, text=True, timeout=300,
                          env=dict(os.environ, PYTHONPATH=PROJECT, PYTHONWARNINGS="ignore", **environment))


@pytest.mark.long
def test_commands_do_their_work_with_closed_streams(tmp_path):
    done = run_in_shell(tmp_path, "prepare --sample shop --sample_train_rows 1000 --sample_test_rows 300 "
                                  "--output_path data <&- >&- 2>&-")
    assert done.returncode == 0 and (tmp_path / "data" / "manifest.json").is_file()
    # No file has taken the place of a stream: what was written is what an undisturbed command writes.
    run_in_shell(tmp_path, "prepare --sample shop --sample_train_rows 1000 --sample_test_rows 300 --output_path same")
    assert (tmp_path / "data" / "manifest.json").read_bytes() == (tmp_path / "same" / "manifest.json").read_bytes()


@pytest.mark.parametrize("line, words", [
    ("predict --input - <&-", "--input - reads standard input, which is closed"),
    ("predict --input x --output - >&-", "standard output is closed, where the predictions would go"),
    ("predict --input x --output /dev/stdout >&-", "standard output is closed"),
    ("eval >&-", "standard output is closed"), ("describe x >&-", "standard output is closed"),
    ("help >&-", "standard output is closed, where the help would go"), ("train --help >&-", "the help"),
    ("preflight >&-", "standard output is closed"),
])
def test_a_closed_stream_that_a_command_needs_is_one_line(tmp_path, line, words):
    done = run_in_shell(tmp_path, line)
    runs.Done(done.returncode, done.stdout, done.stderr).refused(words)
    assert not os.listdir(str(tmp_path))


def test_arguments_that_are_not_utf8_are_one_line(tmp_path):
    done = run_in_shell(tmp_path, "describe $'t\\xff.csv' --output out.yaml")
    runs.Done(done.returncode, done.stdout, done.stderr).refused("argument t\\xff.csv is not UTF-8; rename")
    assert not os.listdir(str(tmp_path))


def test_an_encoding_without_the_letters_of_a_name_shows_escapes(fresh):
    runs.write_rows(str(fresh.root / "rows.csv"), runs.small_rows(50))
    done = run_in_shell(fresh.root, "describe rows.csv --output \u00f6.yaml", PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, "") and "written: \\xf6.yaml" in done.stdout
    assert (fresh.root / "\u00f6.yaml").is_file()
    done = run_in_shell(fresh.root, "describe \u00f6.csv", PYTHONIOENCODING="ascii:strict")
    runs.Done(done.returncode, done.stdout, done.stderr).refused("\\xf6.csv")


@pytest.mark.parametrize("arguments, status", [
    (["describe", "a\nb.csv"], 1), (["train", "--data_dir", "a\nb"], 1),
    (["prepare", "--dataset", "a\nb.yaml", "--sample", "shop", "--output_path", "x"], 1),
    (["bench", "a\nb"], 2), (["predict", "--format", "a\nb"], 2)])
def test_line_breaks_in_names_are_shown_as_escapes(tmp_path, arguments, status):
    runs.run_here(tmp_path, *arguments).refused("a\\nb", status=status)


def test_a_full_disk_under_a_writer_of_tensorflow_is_one_line(tmp_path, monkeypatch):
    import tensorflow as tf

    def full(*arguments, **more):
        with tf.io.TFRecordWriter("/dev/full") as writer:
            writer.write(bytes(1 << 20))

    monkeypatch.setattr("preprocessing.prepare.run", full)
    runs.run_here(tmp_path, "prepare", "--output_path", "x").refused("/dev/full: No space left on device; free space")


def test_a_full_disk_without_a_file_says_what_to_do(tmp_path):
    done = run_in_shell(tmp_path, "help > /dev/full")
    runs.Done(done.returncode, "", done.stderr).refused("No space left on device; free space", "TMPDIR", "--output")


@pytest.mark.parametrize("kind, size, words", [(resource.RLIMIT_AS, 900 * _MB, "ulimit -v"),
                                                (resource.RLIMIT_STACK, _MB // 4, "ulimit -s")])
def test_too_little_address_space_or_stack_is_one_line(trained, kind, size, words):
    def limited():
        resource.setrlimit(kind, (size, size))

    environment = dict(os.environ, PYTHONPATH=PROJECT, PYTHONWARNINGS="ignore")
    for arguments in (list(runs.TRAIN) + ["--train_epoch", "4"], ["eval", "--model_dir", "model"]):
        done = subprocess.run([sys.executable, "-m", "estimator_app"] + arguments, cwd=str(trained.root),
                              capture_output=True, text=True, env=environment, preexec_fn=limited, timeout=300)
        assert done.returncode == 1 and done.stderr.count("\n") == 1, done.stderr
        assert words in done.stderr


def test_what_is_unexpected_says_so_and_debug_shows_where(fresh, monkeypatch):
    """The last resort: no fault that the other tests inject ends here."""
    def broken(config):
        raise ZeroDivisionError("a fault\nof ours")

    monkeypatch.setattr("estimator_app.training.run_start.load_data", broken)
    done = fresh.here(*runs.TRAIN)
    assert done.status == 1 and done.err == "error: ZeroDivisionError in the program: a fault of ours; --debug shows " \
                                            "where\n"
    with pytest.raises(ZeroDivisionError):
        fresh.here(*(runs.TRAIN + ("--debug",)))


def test_prepare_is_quiet_without_the_entry_script(tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    rows = ["--sample_train_rows", "50", "--sample_test_rows", "20"]
    done = subprocess.run(
        [sys.executable, "-m", "estimator_app", "prepare", "--sample", "--output_path", str(tmp_path / "d")] + rows,
        cwd=PROJECT, env=environment, capture_output=True, text=True, check=True)
    assert "cpu_feature_guard" not in done.stderr and "written: " in done.stdout


def test_other_data_is_told_before_the_settings_of_its_preset(fresh, whole):
    """The small data has another preset than the census, and that is not what is wrong."""
    fresh.here("prepare", "--sample", "--sample_train_rows", "600", "--sample_test_rows", "50", "--output_path",
               "census").ok()
    fresh.here("train", "--device", "cpu", "--data_dir", "census", "--model_dir", whole.model).refused(
        "census is not the data that the model in", "was trained on (feature", "--continue_on")


def test_rows_that_no_dataset_was_named_for(tmp_path):
    (tmp_path / "log.tsv").write_text("user\tclick\n" + "u1\t0\n" * 20)
    runs.run_here(tmp_path, "prepare", "--train_data_path", "log.tsv", "--split", "0.5", "--output_path", "d").refused(
        "without --dataset rows are read as those of the census (describe FILE", "expected 42")


class StoppedError(Exception):
    """As the training raises it."""

    exit_status = 143


@pytest.mark.parametrize("error, status, words", [
    (StoppedError("stopped by SIGTERM at step 3"), 143, "a checkpoint is saved, the same command%s resumes from it"),
    (KeyboardInterrupt(), 130, "are kept, the same command%s resumes from the last one")])
def test_a_stop_names_the_command_that_goes_on(monkeypatch, capsys, error, status, words):
    def run(arguments, closed):
        raise error

    monkeypatch.setattr(cli, "_run", run)
    for flags, more in ([], ""), (["--fresh"], " without --fresh"):
        assert cli.main(["train", *flags]) == status
        assert words % more in capsys.readouterr().err


def test_the_sample_that_train_makes_is_followed_by_no_advice(tmp_path):
    small = ("--sample_train_rows", "60", "--sample_test_rows", "20", "--output_path")
    for path, advice in ((os.path.join("data", "sample"), 0), ("mine", 1)):
        assert runs.run_here(tmp_path, "prepare", "--sample", *small, path).ok().out.count("; then: bash") == advice


def test_a_missing_file_is_no_question_of_the_dataset(tmp_path):
    line = runs.run_here(tmp_path, "prepare", "--train_data_path", "nowhere.csv", "--split", "0.5", "--output_path",
                         "d").refused("nowhere.csv: no such file")
    assert "--dataset" not in line


@pytest.mark.long
def test_the_command_that_makes_the_sample_trains_as_the_next_one_does(tmp_path):
    """Preparation uses TensorFlow with one thread, and the first session of a process decides on the threads of all."""
    command = ("train", "--train_epoch", "2", "--threads", "2", "--device", "cpu")
    first = runs.run(tmp_path, *command, seconds=300).ok()
    assert "making the sample data set in data/sample" in first.out
    second = runs.run(tmp_path, *(command + ("--model_dir", "again")), seconds=300).ok()
    assert "no --data_dir given: the sample data set in data/sample" in second.out
    scores = [[(entry["global_step"], entry["auc_income"], entry["mean_loss"]) for entry in runs.recorded(
        str(tmp_path / folder), "eval")] for folder in ("runs/default", "again")]
    assert len(scores[0]) == 2 and scores[0] == scores[1]
