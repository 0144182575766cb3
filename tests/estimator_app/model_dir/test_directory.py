"""``args.json`` of a model directory, by hand."""
import json

import pytest

from estimator_app.config import Config
from estimator_app.model_dir import directory
from feature_specs.errors import UserError
from tests.support.small_data import write_data


@pytest.mark.parametrize("text", ["\0", "data\0", "data\ud800"])
@pytest.mark.parametrize("part, field", [("config", "data_dir"), ("config", "model_dir"), ("data", "directory")])
def test_a_path_that_no_file_can_have_is_one_line(tmp_path, part, field, text):
    config = Config(model_dir=str(tmp_path), data_dir=str(tmp_path / "data"))
    directory.record_stage(config, write_data(tmp_path / "data", 12, 8)[0], 0, 0, 1, 5)
    path = tmp_path / directory.SETTINGS_FILE
    data = json.loads(path.read_text())
    data["stages"][0][part][field] = text
    path.write_text(json.dumps(data))
    if (part, field) == ("config", "model_dir"):
        # The directory that is read counts, wherever the model was trained.
        assert directory.read_settings(str(tmp_path), {})[0].model_dir == str(tmp_path)
        return
    with pytest.raises(UserError, match="is not a path: no file can have this name"):
        directory.read_settings(str(tmp_path), {})
