import argparse
import json

import pytest

from estimator_app import config as module
from estimator_app.config import Config
from feature_specs.errors import ConfigError


def parse(arguments, environment=None):
    parser = argparse.ArgumentParser()
    module.add_preset_argument(parser, module.DEFAULT_PRESET)
    module.add_arguments(parser, Config())
    parsed = vars(parser.parse_args(arguments))
    preset = module.read_preset(parsed.pop("preset") or module.DEFAULT_PRESET)
    return module.from_arguments(parsed, preset, environment or {})


def test_flags_win_over_environment_and_preset():
    config = parse(["--preset", "reference", "--use_dynamic", "true", "--batch_size", "64"],
                   {"USE_DYNAMIC": "0", "CACHE_MODE": "HBM"})
    assert (config.use_dynamic, config.batch_size, config.train_epoch) == (True, 64, 100)


@pytest.mark.parametrize("variable, field, text, value", [
    ("USE_DYNAMIC", "use_dynamic", "0", False), ("USE_MULTI_LOOKUP", "use_multi_lookup", "1", True),
    ("USE_MODIFY_GRAPH", "use_modify_graph", "1", True), ("USE_FAAE", "use_faae", "1", True),
    ("USE_DYNAMIC_EXPANSION", "use_dynamic_expansion", "1", True)])
def test_the_switches_of_the_original_script(variable, field, text, value):
    assert getattr(parse([], {variable: text}), field) is value


def test_the_reference_preset_has_the_settings_of_the_original():
    config = parse(["--preset", "reference"])
    assert (config.model, config.input_layer, config.expert_num, config.expert_layers, config.tower_layers) == (
        "mmoe", "sum", 8, (16,), (8,))
    assert (config.batch_size, config.train_epoch, config.learning_rate, config.sparse_learning_rate) == (
        32, 100, 0.001, 0.001)
    assert config.reference_init and config.dense_transform == "none" and config.dense_bins == 0
    assert config.expert_dropout == config.embedding_l2 == 0.0
    assert config.learning_rate_schedule == config.sparse_learning_rate_schedule == "fixed"


def test_a_preset_may_have_other_settings_where_values_are_rare(tmp_path):
    path = tmp_path / "p.json"
    path.write_text('{"learning_rate": 0.1, "expert_num": 2, "where_values_are_rare": {"learning_rate": 0.2}}')
    assert module.read_preset(str(path)) == {"learning_rate": 0.1, "expert_num": 2}
    assert module.read_preset(str(path), has_rare_values=True) == {"learning_rate": 0.2, "expert_num": 2}
    for block, words in (("3", "an object of settings is expected"), ('{"rate": 1}', "unknown setting rate"),
                         ('{"learning_rate": "fast"}', "preset .*p.json: learning_rate must be of type float")):
        path.write_text('{"where_values_are_rare": %s}' % block)
        with pytest.raises(ConfigError, match=words):
            module.read_preset(str(path))


def test_cache_mode_switch():
    assert parse([], {"CACHE_MODE": "DDR", "USE_MODIFY_GRAPH": "1"}).cache_mode == "DDR"


@pytest.mark.parametrize("environment, message", [
    ({"USE_DYNAMIC": "yes"}, "USE_DYNAMIC='yes'; allowed: 0, 1"),
    ({"CACHE_MODE": "disk"}, "CACHE_MODE='disk'; allowed: HBM, DDR, SSD"),
    ({"CACHE_MODE": "DDR"}, "cache_mode DDR needs use_modify_graph true"),
])
def test_wrong_switches(environment, message):
    with pytest.raises(ConfigError, match=message):
        parse([], environment)


@pytest.mark.parametrize("changes, message", [
    ({"batch_size": 0}, "batch_size 0 is out of range; allowed: 1 to"),
    ({"batch_size": True}, "batch_size must be of type int"),
    ({"learning_rate": -1.0}, "learning_rate -1.0 is out of range"),
    ({"input_layer": "max"}, "input_layer 'max' is not allowed; choose from sum, concat"),
    ({"expert_layers": ()}, "expert_layers must name at least one layer"),
    ({"tower_layers": (8, 0)}, "tower_layers 0 is out of range"),
    ({"tower_layers": (None,)}, "tower_layers None is out of range"),
    ({"tower_layers": ({},)}, "tower_layers {} is out of range"),
    ({"tower_layers": (True,)}, "tower_layers True is out of range"),
    ({"early_stopping_metric": "auc_a"}, "has no effect without early_stopping_patience"),
    ({"use_dynamic": 1}, "use_dynamic must be true or false"),
    ({"model_dir": ""}, "model_dir must not be empty"),
    ({"model_dir": "a\0b"}, "model_dir 'a.x00b' is not a path"),
    ({"data_dir": "\0"}, "data_dir '.x00' is not a path"),
    ({"data_dir": "a\ud800"}, "data_dir 'a.ud800' is not a path"),
    ({"use_dynamic_expansion": True, "cache_mode": "SSD", "use_modify_graph": True}, "goes with cache_mode HBM only"),
    ({"use_dynamic_expansion": True, "use_faae": True}, "use_faae does not go with use_dynamic_expansion"),
])
def test_wrong_settings(changes, message):
    with pytest.raises(ConfigError, match=message):
        Config(**changes)


def test_unknown_settings_in_a_preset_file_are_errors(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"batchsize": 3}))
    with pytest.raises(ConfigError,
                       match="unknown setting batchsize, did you mean batch_size.; known: access_threshold"):
        parse(["--preset", str(path)])


@pytest.mark.parametrize("text", ["[1]", "{", ""])
def test_unreadable_preset(tmp_path, text):
    path = tmp_path / "mine.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match="mine.json"):
        parse(["--preset", str(path)])


def test_every_preset_that_ships_is_valid():
    assert {"census", "default", "plain", "reference"} == set(module.preset_names())
    for name in module.preset_names():
        assert parse(["--preset", name])


def test_settings_survive_json():
    config = Config(drop_dense=("age", "year"), reference_init=True)
    assert Config(**module.from_mapping(json.loads(json.dumps(config.to_dict())), "test")) == config


@pytest.mark.parametrize("text", ["yes", "", "on"])
def test_switch_flags_take_true_or_false_only(text, capsys):
    with pytest.raises(SystemExit):
        parse(["--use_faae", text])
    assert "neither true nor false" in capsys.readouterr().err


def test_layers_are_read():
    assert parse(["--expert_layers", "64,16"]).expert_layers == (64, 16)
    with pytest.raises(SystemExit):
        parse(["--expert_layers", "64;16"])


def test_the_help_shows_the_values_that_a_run_would_use(capsys):
    parser = argparse.ArgumentParser()
    module.add_arguments(parser, Config(batch_size=77, expert_layers=(9, 3)), choices={"model": ["a", "b"]})
    with pytest.raises(SystemExit):
        parser.parse_args(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "(default: 77)" in text and "(default: 9,3)" in text and "--model a|b" in text
