"""The command line of the preparation, and the made-up data."""
import argparse
import os
import sys

import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score
from sklearn.tree import DecisionTreeClassifier

from feature_specs.data_files import copy_data
from feature_specs.dataset_file import load_dataset
from feature_specs.errors import ConfigError, UserError
from feature_specs.manifest import read_manifest
from preprocessing import prepare
from preprocessing.samples.sample import write_sample
from tests.support.rows import TOY_YAML, read_bytes, text_of, toy_rows, write


def run(*arguments):
    """Runs the command; returns 0, or 1 with the error on standard error."""
    parser = argparse.ArgumentParser(prog="prepare", allow_abbrev=False)
    prepare.add_arguments(parser)
    try:
        prepare.run(parser.parse_args([str(argument) for argument in arguments]))
    except UserError as error:
        sys.stderr.write("error: %s\n" % error)
        return 1
    return 0


def test_a_dataset_file_of_ones_own(tmp_path, capsys):
    dataset = write(tmp_path / "toy.yaml", TOY_YAML)
    files = [write(tmp_path / name, text_of(toy_rows(count, count))) for name, count in (("a.tsv", 60), ("b.tsv", 40))]
    assert run("--dataset", dataset, "--train_data_path", *files, "--split", 0.2, "--split_by", "user", "--output_path",
               tmp_path / "out") == 0
    printed = capsys.readouterr().out
    for text in ("click", "without a label: click", "lists cut to max_length: seen", "rows/s", "duplicates: 0"):
        assert text in printed
    manifest = read_manifest(str(tmp_path / "out"))
    assert manifest.splits["train"].rows + manifest.splits["test"].rows == 100
    assert len(manifest.splits["train"].inputs) == 2
    # The definition travels in the manifest.
    assert run("--vocabulary_from", tmp_path / "out", "--train_data_path", files[1], "--test_data_path", files[0],
               "--output_path", tmp_path / "out2") == 0
    assert read_manifest(str(tmp_path / "out2")).continues == manifest.identity()
    other = write(tmp_path / "other.yaml", TOY_YAML.replace("city: {type: categorical}",
                                                            "city: {type: categorical, encoding: hash}"))
    assert run("--dataset", other, "--vocabulary_from", tmp_path / "out", "--train_data_path", files[1],
               "--test_data_path", files[0], "--output_path", tmp_path / "out3") == 1
    assert "feature city: encoding hash, but the data in" in capsys.readouterr().err
    other = write(tmp_path / "less.yaml", TOY_YAML.replace("  city: {type: categorical}\n", ""))
    assert run("--dataset", other, "--vocabulary_from", tmp_path / "out", "--train_data_path", files[1],
               "--test_data_path", files[0], "--output_path", tmp_path / "out3") == 1
    assert "the dataset lacks city, which the data in" in capsys.readouterr().err


@pytest.mark.parametrize("changed, warns", [
    ("categorical, separator: \"|\"", False), ("categorical, separator: \",\"", True), ("categorical", True)])
def test_lists_that_nothing_splits_are_told(tmp_path, capsys, changed, warns):
    text = TOY_YAML.replace("categorical, separator: \"|\", max_length: 2, keep: first",
                            changed + (", max_length: 2" if "separator" in changed else ""))
    path = write(tmp_path / "toy.tsv", text_of(toy_rows(200)))
    assert run("--dataset", write(tmp_path / "toy.yaml", text), "--train_data_path", path, "--split", 0.2,
               "--output_path", tmp_path / "data") == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "look like lists" in line]
    assert len(lines) == warns and all("warning: values of tags look like lists with '|'" in line for line in lines)


def test_values_that_the_training_rows_lack_are_told_apart_from_rare_ones(tmp_path, capsys):
    rows = toy_rows(80)
    files = [write(tmp_path / name, text_of([[row[0], row[1], item] + row[3:] for row, item in zip(rows, items)]))
             for name, items in (("a.tsv", ["i%d" % (number // 2) for number in range(77)] + ["x", "y", "z"]),
                                 ("b.tsv", ["i1"] * 75 + ["x"] * 5))]
    assert run("--dataset", write(tmp_path / "toy.yaml", TOY_YAML), "--train_data_path", files[0], "--test_data_path",
               files[1], "--output_path", tmp_path / "out") == 0
    splits = read_manifest(str(tmp_path / "out")).splits
    # The item that stands alone in the middle, and the last three.
    assert splits["train"].out_of_vocabulary["item"] == 4 and splits["test"].out_of_vocabulary["item"] == 5
    lines = capsys.readouterr().out.splitlines()
    for split, words in (("train", "values rarer than min_count"), ("test", "out-of-vocabulary values")):
        (line,) = (line for line in lines if line.startswith(split))
        assert "; %s: %d;" % (words, sum(splits[split].out_of_vocabulary.values())) in line


def test_the_next_command_is_told(tmp_path, capsys):
    files = [write(tmp_path / "a.tsv", text_of(toy_rows(60))), write(tmp_path / "toy.yaml", TOY_YAML)]
    dataset = ("--train_data_path", files[0], "--split", 0.2, "--dataset", files[1], "--output_path")
    small = ("--sample_train_rows", 200, "--sample_test_rows", 50, "--output_path", tmp_path / "s")
    for flags, expected in (
            ((*dataset, tmp_path / "a b"), "train --data_dir '%s' --model_dir DIR" % (tmp_path / "a b")),
            (("--sample", "shop", *small), "train --data_dir %s --model_dir DIR" % (tmp_path / "s")),
            ((*dataset, tmp_path / "c", "--vocabulary_from", tmp_path / "a b"),
             "train --continue_on --data_dir %s --model_dir DIR" % (tmp_path / "c"))):
        assert run(*flags) == 0 and capsys.readouterr().out.endswith("; then: bash run_estimator.sh %s\n" % expected)
    write(tmp_path / "toy.yaml", TOY_YAML.replace("max_length: 2", "max_length: 3"))
    assert run(*dataset, tmp_path / "d", "--vocabulary_from", tmp_path / "c") == 0
    printed = capsys.readouterr().out
    assert "a model of that data does not continue on this" in printed and "; then:" not in printed


def test_data_of_a_model_is_not_replaced_and_files_that_it_knows_are_told(tmp_path, capsys):
    dataset = write(tmp_path / "toy.yaml", TOY_YAML)
    files = [write(tmp_path / name, text_of(toy_rows(count, count))) for name, count in (("a.tsv", 60), ("b.tsv", 40))]
    first = tmp_path / "first"
    assert run("--dataset", dataset, "--train_data_path", files[0], "--split", 0.2, "--output_path", first) == 0
    manifest = read_manifest(str(first))
    copy_data(manifest, str(first), str(tmp_path / "model" / "data"))
    capsys.readouterr()
    again = ("--vocabulary_from", tmp_path / "model", "--split", 0.2, "--train_data_path")
    assert run(*again, files[1], "--output_path", first) == 1
    assert "first holds the data that the model in" in capsys.readouterr().err
    assert read_manifest(str(first)) == manifest
    assert run(*again, *files, "--output_path", tmp_path / "second") == 0
    printed = capsys.readouterr().out
    assert "warning: a.tsv is among the files of" in printed and "b.tsv is among" not in printed
    assert printed.endswith("; then: bash run_estimator.sh train --continue_on --data_dir %s --model_dir %s\n" % (
        tmp_path / "second", tmp_path / "model"))
    # What was not trained on may be: the next day's file was the test file of the day before.
    days = ("--train_data_path", files[0], "--test_data_path", files[1])
    assert run("--dataset", dataset, *days, "--output_path", tmp_path / "third") == 0
    assert run("--vocabulary_from", tmp_path / "third", "--split", 0.2, "--train_data_path", files[1], "--output_path",
               tmp_path / "fourth") == 0
    assert "is among the files" not in capsys.readouterr().out
    assert run(*again, files[1], "--output_path", tmp_path / "second") == 0
    printed = capsys.readouterr().out
    assert "is among the files" not in printed
    assert "second, in place of the data that was prepared there before; then: bash" in printed


def test_files_of_the_census(tmp_path, capsys):
    paths = write_sample("census", str(tmp_path), 300, 100, 3)
    assert run("--train_data_path", paths[0], "--test_data_path", paths[1], "--output_path", tmp_path / "a") == 0
    assert sorted(os.listdir(str(tmp_path / "a"))) == ["manifest.json", "test", "train", "vocabulary"]
    assert run("--dataset", "census", "--train_data_path", paths[0], "--split", 0.25, "--output_path",
               tmp_path / "c") == 0


@pytest.mark.parametrize("arguments, pattern", [
    ([], "no data given"), (["--sample", "--train_data_path", "x"], "--train_data_path and --sample given"),
    (["--test_data_path", "x"], "goes with --train_data_path"),
    (["--train_data_path", "x"], "give --test_data_path FILE, or --split"),
    (["--train_data_path", "nowhere", "--test_data_path", "nowhere"], "nowhere: no such file"),
    (["--sample", "--sample_train_rows", "0"], "sample_train_rows"),
    (["--sample", "--line_per_sample", "0"], "line_per_sample"),
    (["--sample", "--max_bad_rows", "many"], "max_bad_rows"),
    (["--sample", "--split", "0.1"], "--split goes with --train_data_path"),
    (["--sample", "--dataset", "nowhere.yaml"], "nowhere.yaml"),
    (["--vocabulary_from", "nowhere", "--sample"], "nowhere: there is no such directory"),
    (["--sample", "--spark_master", "spark://x"], "--spark_master goes with --engine spark"),
    (["--sample", "--vocabulary_from", ""], "--vocabulary_from is empty; leave it out"),
    (["--train_data_path", "x", "--split", "0.2", "--split_by", ""], "--split_by is empty"),
    (["--train_data_path", "x", "--sample_seed", "3"], "--sample_seed go with --sample"),
    (["--sample", "--num_workers", "-1"], "num_workers -1: give the number of threads, or 0")])
def test_errors_are_one_line(tmp_path, capsys, arguments, pattern):
    assert run(*(arguments + ["--output_path", tmp_path / "out"])) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and pattern in error and os.listdir(str(tmp_path)) == []


def test_every_flag_tells_its_default(capsys):
    with pytest.raises(SystemExit):
        run("--help")
    text = " ".join(capsys.readouterr().out.split())
    flags = [part.split()[0] for part in text.split(" --")[1:]]
    assert len(set(flags)) >= 20 and text.count("(default: ") + text.count("(required)") >= 20


def test_the_census_sample_is_learnable_and_like_the_real_data(tmp_path):
    assert run("--sample", "--sample_train_rows", 12000, "--sample_test_rows", 6000, "--output_path",
               tmp_path / "out") == 0
    census, manifest = load_dataset("census").definition, read_manifest(str(tmp_path / "out"))
    train, test = manifest.split("train"), manifest.split("test")
    assert (train.rows, test.rows) == (12000, 6000) and train.bad_rows == test.bad_rows == {}
    assert 0.05 < train.positives["income"] / 12000 < 0.075 and 0.38 < train.positives["marital"] / 12000 < 0.48
    assert 0 < sum(test.out_of_vocabulary.values()) < 800
    frames = [pd.read_csv(str(tmp_path / "out" / "raw" / name), header=None, names=census.files.columns,
                          skipinitialspace=True, na_filter=False) for name in ("census-income.data.gz",
                                                                              "census-income.test.gz")]
    features = [feature.column for feature in census.features]
    for name in features:
        if frames[0][name].dtype == object:
            codes = {value: code for code, value in enumerate(frames[0][name].unique())}
            for frame in frames:
                frame[name] = frame[name].map(codes).fillna(-1)
    for task, least, most in zip(census.tasks, (0.8, 0.9), (0.985, 0.995)):
        labels = [frame[task.column].isin(task.positive) for frame in frames]
        model = DecisionTreeClassifier(max_depth=7, random_state=0).fit(frames[0][features], labels[0])
        assert least < roc_auc_score(labels[1], model.predict_proba(frames[1][features])[:, 1]) < most


def test_the_shop_sample_is_a_log_that_can_be_learnt(tmp_path):
    assert run("--sample", "shop", "--sample_train_rows", 20000, "--sample_test_rows", 8000, "--output_path",
               tmp_path / "out") == 0
    manifest = read_manifest(str(tmp_path / "out"))
    train = manifest.split("train")
    assert 0.1 < train.positives["click"] / 20000 < 0.14 and 0.03 < train.positives["buy"] / 20000 < 0.05
    assert len(manifest.dataset.categorical) == 20 and len(manifest.dataset.numeric) == 5
    frames = [pd.read_csv(str(tmp_path / "out" / "raw" / ("shop.%s.tsv.gz" % name)), sep="\t")
              for name in ("train", "test")]
    assert not (frames[0]["buy"] & (1 - frames[0]["click"])).any()
    assert (frames[0]["amount"].notna() == (frames[0]["buy"] == 1)).all()
    means = frames[0].groupby("seller_id")["click"].mean()
    assert roc_auc_score(frames[1]["click"], frames[1]["seller_id"].map(means).fillna(0.12)) > 0.52


@pytest.mark.parametrize("name", ["census", "shop"])
def test_sample_data_depends_on_the_seed_only(tmp_path, name):
    found = []
    for number, seed in enumerate((1, 1, 2)):
        folder = tmp_path / str(number)
        folder.mkdir()
        found.append([read_bytes(path) for path in write_sample(name, str(folder), 300, 100, seed)])
    assert found[0] == found[1] and found[0][0] != found[2][0] and found[0][1] != found[2][1]
    assert found[0][0] != found[0][1]
    for options in ({"train_rows": 0}, {"test_rows": -1}, {"seed": -1}):
        with pytest.raises(ConfigError):
            write_sample(name, str(tmp_path), **options)


def test_labels_that_contradict_given_are_told(tmp_path, capsys):
    dataset, data = write(tmp_path / "toy.yaml", TOY_YAML), write(tmp_path / "a.tsv", text_of(toy_rows(100)))
    assert run("--dataset", dataset, "--train_data_path", data, "--split", 0.3, "--output_path", tmp_path / "out") == 0
    count = read_manifest(str(tmp_path / "out")).splits["train"].contradictions["buy"]
    assert "warning: train: buy is 1 in %d rows where click, which it builds on (given), is 0" % count in (
        capsys.readouterr().out)


def test_labels_of_one_kind_are_told_and_weights_of_nothing_refused(tmp_path, capsys):
    dataset = write(tmp_path / "toy.yaml", TOY_YAML.replace("positive: [yes]", "positive: [true]"))
    data = write(tmp_path / "a.tsv", text_of([row[:8] + ["1"] + row[9:] for row in toy_rows(60)]))
    assert run("--dataset", dataset, "--train_data_path", data, "--split", 0.3, "--output_path", tmp_path / "out") == 0
    printed = capsys.readouterr().out
    assert "warning: train: no label is 1 of buy" in printed and "warning: test: every label is 1 of click" in printed
    data = write(tmp_path / "b.tsv", text_of([row[:11] + ["0", "x"] for row in toy_rows(60)]))
    assert run("--dataset", dataset, "--train_data_path", data, "--split", 0.3, "--output_path", tmp_path / "o2") == 1
    assert "the weights (w) of the train rows are all 0" in capsys.readouterr().err


def test_a_file_that_is_trained_and_judged_on_is_told(tmp_path, capsys):
    dataset, data = write(tmp_path / "toy.yaml", TOY_YAML), write(tmp_path / "a.tsv", text_of(toy_rows(40)))
    assert run("--dataset", dataset, "--train_data_path", data, "--test_data_path", data, "--output_path",
               tmp_path / "out") == 0
    assert "warning: a.tsv is among the training and the test files" in capsys.readouterr().out
    assert run("--dataset", dataset, "--train_data_path", tmp_path / "out", "--split", 0.5, "--output_path",
               tmp_path / "o2") == 1
    assert "out holds prepared data; give the files that it was prepared from" in capsys.readouterr().err
