"""Where ranks are placed: --hosts and --ranks."""
import pytest

from estimator_app.launch.hosts import Placement, place
from feature_specs.errors import ConfigError


@pytest.mark.parametrize("hosts, ranks, default, expected", [
    ("", 4, 0, Placement(("localhost",), 4)), ("", None, 8, Placement(("localhost",), 8)),
    ("h1:4,h2:4", None, 0, Placement(("h1", "h2"), 4)), ("h1:4,h2:4", 8, 0, Placement(("h1", "h2"), 4)),
    ("h1,h2", 6, 0, Placement(("h1", "h2"), 3)), ("h1, h2", None, 8, Placement(("h1", "h2"), 8)),
    ("192.0.2.10:1", None, 8, Placement(("192.0.2.10",), 1))])
def test_places(hosts, ranks, default, expected):
    assert place(hosts, ranks, default) == expected


def test_what_a_placement_says():
    placement = place("h1:4,h2:4", None, 0)
    assert (placement.ranks, placement.remote, placement.text) == (8, True, "h1:4,h2:4")
    assert place("h1:4", None, 0).remote and not place("", 4, 0).remote


@pytest.mark.parametrize("hosts, ranks, words", [
    ("h1:4,h2:2", None, "needs the same number of ranks"), ("h1:4,h2", None, "needs the same number of ranks"),
    ("h1:0,h2:0", None, "at least 1"), ("h1:4,h1:4", None, "names a host twice"),
    ("h1:4,h2:4", 4, "--ranks 4, but --hosts h1:4,h2:4 has 8 ranks"), ("h1,h2", 3, "--ranks 3; allowed"),
    ("h1,h2", None, "says no number of ranks"), ("h1;rm", 2, "'h1;rm' is not a host"), ("h1:4,", None, "is not a host"),
    ("-x", 2, "is not a host"), ("h1:x", None, "is not a host"), ("", 0, "--ranks 0; allowed")])
def test_refused(hosts, ranks, words):
    with pytest.raises(ConfigError, match=words) as caught:
        place(hosts, ranks, 0)
    assert "\n" not in str(caught.value)
