"""One training per model directory."""
import pytest

from estimator_app.model_dir.lock import locked, phase_locked
from feature_specs.errors import UserError


def test_a_directory_is_held_once(tmp_path):
    with locked(str(tmp_path / "model")):
        with pytest.raises(UserError, match="is in use by process"), locked(str(tmp_path / "model")):
            pass
        # Its own phases run inside.
        with phase_locked(str(tmp_path / "model")):
            pass
    with locked(str(tmp_path / "model")):
        pass


def test_a_phase_that_goes_on_alone_holds_the_directory(tmp_path):
    with phase_locked(str(tmp_path)), pytest.raises(UserError, match="another --model_dir"), locked(str(tmp_path)):
        pass
