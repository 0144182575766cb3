"""Rank tables: both known forms, unknown ones, and what is refused."""
import json

import pytest

from estimator_app.launch.hosts import Placement
from estimator_app.launch.rank_table import RankTable, check_placement, read_rank_table
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
    assert read_rank_table(path) == RankTable(path, 8, (("host", tuple(range(8))),))


def test_rank_list(tmp_path):
    path = write(tmp_path, {"version": "2.0", "status": "completed", "rank_count": 4, "rank_list": [
        {"rank_id": rank, "local_id": rank, "device_id": rank} for rank in range(4)]})
    assert read_rank_table(path) == RankTable(path, 4)


@pytest.mark.parametrize("content", [
    {"version": "9"}, {}, {"server_list": [{"devices": []}]}, {"server_list": [3]}, {"server_list": {"a": 1}},
    version_1(2, server_list=[{"device": "all"}])])
def test_unknown_content_is_opaque(tmp_path, content):
    path = write(tmp_path, content)
    assert read_rank_table(path) == RankTable(path, None)


def test_unknown_entries_of_a_rank_list_are_counted(tmp_path):
    path = write(tmp_path, {"rank_list": [{"id": "a"}, {"id": "b"}]})
    assert read_rank_table(path).devices == 2


@pytest.mark.parametrize("content, words", [
    ("not json", "cannot be read"), ("[1]", "not a JSON object"), ("\xff", "cannot be read"),
    (version_1(2, status="initializing"), "status 'initializing'"),
    (version_1(2, server_list=[{"device": [{"device_id": 0, "rank_id": "0"}]}]), "device_id must be a string"),
    (version_1(2, server_list=[{"device": [{"device_id": "\u00b2", "rank_id": "0"}]}]), "must be a string of digits"),
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


def two_servers(names=("192.0.2.10", "192.0.2.11"), order=(0, 1), devices=8):
    """A table of two servers; ``order`` says which eight ranks each has."""
    return version_1(0, server_count="2", server_list=[
        {"server_id": name, "device": [
            {"device_id": str(device), "device_ip": "198.51.100.%d" % (first * devices + device + 1),
             "rank_id": str(first * devices + device)} for device in range(devices)]}
        for name, first in zip(names, order)])


def test_ranks(tmp_path):
    table = read_rank_table(write(tmp_path, version_1(4)))
    check_placement(table, Placement(("localhost",), 4))
    with pytest.raises(ConfigError, match="lists 4 devices, but 8 ranks.*--ranks 4"):
        check_placement(table, Placement(("localhost",), 8))
    check_placement(RankTable("x", None), Placement(("localhost",), 8))


def test_servers_are_the_hosts_in_the_order_of_the_ranks(tmp_path):
    hosts = Placement(("192.0.2.10", "192.0.2.11"), 8)
    table = read_rank_table(write(tmp_path, two_servers()))
    assert table.devices == 16
    assert table.servers == (("192.0.2.10", tuple(range(8))), ("192.0.2.11", tuple(range(8, 16))))
    check_placement(table, hosts)
    # The file's own order does not matter, and a server's name need not be that of the host.
    check_placement(read_rank_table(write(tmp_path, two_servers(hosts.hosts[::-1], (1, 0)))), hosts)
    check_placement(read_rank_table(write(tmp_path, two_servers(("node-a", "node-b")))), hosts)


@pytest.mark.parametrize("content, placement", [
    (two_servers(), Placement(("localhost",), 16)), (two_servers(), Placement(("192.0.2.10",), 8)),
    (two_servers(order=(1, 0)), Placement(("192.0.2.10", "192.0.2.11"), 8)),
    (two_servers(devices=4), Placement(("192.0.2.10", "192.0.2.11"), 8)),
    (version_1(16), Placement(("192.0.2.10", "192.0.2.11"), 8)),
    (version_1(1, server_list=[
        {"server_id": "a", "device": [{"device_id": "0", "rank_id": "0"}, {"device_id": "1", "rank_id": "2"}]},
        {"server_id": "b", "device": [{"device_id": "0", "rank_id": "1"}, {"device_id": "1", "rank_id": "3"}]}]),
     Placement(("a", "b"), 2))])
def test_other_servers_than_the_hosts_are_refused(tmp_path, content, placement):
    with pytest.raises(ConfigError, match="lists the servers .* give --hosts with these servers") as caught:
        check_placement(read_rank_table(write(tmp_path, content)), placement)
    assert "\n" not in str(caught.value)
