"""Rank tables: both known forms, unknown ones, and what is refused."""
import json

import pytest

from estimator_app.launch.rank_table import RankTable, check_ranks, read_rank_table
from feature_specs.errors import ConfigError


def version_1(ranks, **changes):
    table = {"version": "1.0", "status": "completed", "server_count": "1", "server_list": [{
        "server_id": "host", "device": [{"device_id": str(rank), "device_ip": "192.0.2.%d" % (rank + 1),
                                         "rank_id": str(rank)} for rank in range(ranks)]}]}
    table.update(changes)
    return table


def write(tmp_path, content):
    path = tmp_path / "hccl.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


def test_server_list(tmp_path):
    path = write(tmp_path, version_1(8))
    assert read_rank_table(path) == RankTable(path, "server_list", 8, 1)


def test_rank_list(tmp_path):
    path = write(tmp_path, {"version": "2.0", "status": "completed", "rank_count": 4, "rank_list": [
        {"rank_id": rank, "local_id": rank, "device_id": rank} for rank in range(4)]})
    assert read_rank_table(path) == RankTable(path, "rank_list", 4, None)


@pytest.mark.parametrize("content", [
    {"version": "9"}, {}, {"server_list": [{"devices": []}]}, {"server_list": [3]}, {"server_list": {"a": 1}},
    version_1(2, server_list=[{"device": "all"}])])
def test_unknown_content_is_opaque(tmp_path, content):
    path = write(tmp_path, content)
    assert read_rank_table(path) == RankTable(path, "unknown", None, None)


def test_unknown_entries_of_a_rank_list_are_counted(tmp_path):
    path = write(tmp_path, {"rank_list": [{"id": "a"}, {"id": "b"}]})
    assert read_rank_table(path).devices == 2


@pytest.mark.parametrize("content, words", [
    ("not json", "cannot be read"), ("[1]", "no JSON object"), ("\xff", "cannot be read"),
    (version_1(2, status="initializing"), "status 'initializing'"),
    (version_1(2, server_list=[{"device": [{"device_id": 0, "rank_id": "0"}]}]), "device_id must be a string"),
    (version_1(2, server_list=[{"device": [{"device_id": "0", "rank_id": 0}]}]), "rank_id must be a string of digits"),
    (version_1(2, server_list=[{"device": [{"device_id": "0"}]}]), "found null"),
    (version_1(2, server_list=[{"device": [{"device_id": "0", "rank_id": "0"}, {"device_id": "0", "rank_id": "1"}]}]),
     "device_id twice"),
    (version_1(2, server_list=[{"device": [{"device_id": "0", "rank_id": "0"}, {"device_id": "1", "rank_id": "2"}]}]),
     "must be 0 to 1.*found 0, 2"),
    ({"rank_list": [{"rank_id": 1}, {"rank_id": 1}]}, "found 1, 1")])
def test_refused(tmp_path, content, words):
    with pytest.raises(ConfigError, match=words) as caught:
        read_rank_table(write(tmp_path, content))
    assert "\n" not in str(caught.value) and "hccl.json" in str(caught.value)


def test_deep_nesting_is_no_crash(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        read_rank_table(write(tmp_path, "[" * 100000))


def test_a_missing_file_and_a_folder(tmp_path):
    for path in (tmp_path / "none.json", tmp_path):
        with pytest.raises(ConfigError, match="cannot be read"):
            read_rank_table(str(path))


def test_ranks(tmp_path):
    table = read_rank_table(write(tmp_path, version_1(4)))
    check_ranks(table, 4)
    with pytest.raises(ConfigError, match="lists 4 devices, but 8 ranks.*--ranks 4"):
        check_ranks(table, 8)
    check_ranks(RankTable("x", "unknown", None, None), 8)


def test_several_servers_are_refused(tmp_path):
    servers = [{"device": [{"device_id": "0", "rank_id": str(rank)}]} for rank in range(2)]
    table = read_rank_table(write(tmp_path, version_1(0, server_list=servers)))
    assert (table.devices, table.servers) == (2, 2)
    with pytest.raises(ConfigError, match="lists 2 servers"):
        check_ranks(table, 2)
