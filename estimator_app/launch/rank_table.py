"""Reads a rank table as far as it can be read: ``server_list`` with strings of digits, or version 2.0's ``rank_list``
with numbers (rec_sdk_api 1.3, npu_bridge_api 2.5). Anything else in the file is opaque: HCCL gets it as it is.
"""
import json
import os
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from estimator_app.launch.hosts import Placement
from feature_specs.checks import is_digits, refuse
from feature_specs.errors import ConfigError
from feature_specs.files import read_small_text


class RankTable(NamedTuple):
    """What a rank table says."""

    path: str
    devices: Optional[int]  # their number; None where the form is unknown
    servers: Tuple[Tuple[str, Tuple[int, ...]], ...] = ()  # name and rank ids of each, by rank; if known


def read_rank_table(path: str) -> RankTable:
    """Reads a rank table; ConfigError where it is not a JSON object, or a known form contradicts itself."""
    path = os.path.abspath(path)
    try:
        data = json.loads(read_small_text(path))
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise ConfigError("rank table %s cannot be read (%s); --hccl_cfg_json must name HCCL's JSON file, or use --ip "
                          "to start without a rank table" % (path, reason)) from error
    refuse(not isinstance(data, dict), "rank table %s is not a JSON object; --hccl_cfg_json must name HCCL's JSON file",
           path)
    if isinstance(data.get("server_list"), list):
        return _server_list(path, data)
    entries = data.get("rank_list")
    if not isinstance(entries, list):
        return RankTable(path, None)
    rank_ids = [entry["rank_id"] for entry in entries
                if isinstance(entry, dict) and isinstance(entry.get("rank_id"), int)]
    if len(rank_ids) == len(entries):
        _check_rank_ids(path, rank_ids)
    return RankTable(path, len(entries))  # where this form names the server is not documented


def check_placement(table: RankTable, placement: Placement) -> None:
    """Refuses (ConfigError) a rank table with another number of devices, or other servers than the hosts in order."""
    refuse(table.devices not in (None, placement.ranks) and len(table.servers) <= 1,
           "rank table %s lists %d devices, but %d ranks are to start; give --ranks %d or another table", table.path,
           table.devices, placement.ranks, table.devices)
    # mpirun numbers the ranks host by host; HCCL expects each of them on the server that the table names.
    in_order = [rank_ids for _, rank_ids in table.servers] == [
        tuple(range(first, first + placement.slots)) for first in range(0, placement.ranks, placement.slots)]
    elsewhere = any(name in placement.hosts and name != host
                    for (name, _), host in zip(table.servers, placement.hosts))
    found = ",".join("%s:%d" % (name or "?", len(rank_ids)) for name, rank_ids in table.servers)
    refuse(table.servers and (elsewhere or not in_order),
           "rank table %s lists the servers %s, in the order of their ranks, but the launch has %s; give --hosts with "
           "these servers, in this order", table.path, found, placement.text)


def _server_list(path: str, data: Dict[str, Any]) -> RankTable:
    refuse(data.get("status") not in (None, "completed"),
           "rank table %s has status %r, not 'completed'; wait until the cluster manager has written it", path,
           data.get("status"))
    servers = []
    for server in data["server_list"]:
        devices = server.get("device") if isinstance(server, dict) else None
        if not isinstance(devices, list):
            return RankTable(path, None)
        refuse(len({_digits(path, device, "device_id") for device in devices}) != len(devices),
               "rank table %s lists a device_id twice on one server; each device has one rank", path)
        rank_ids = sorted(_digits(path, device, "rank_id") for device in devices)
        servers.append((str(server.get("server_id", "")), tuple(rank_ids)))
    _check_rank_ids(path, [rank for _, rank_ids in servers for rank in rank_ids])
    servers.sort(key=lambda server: server[1])
    return RankTable(path, sum(len(rank_ids) for _, rank_ids in servers), tuple(servers))


def _digits(path: str, device: Any, key: str) -> int:
    value = device.get(key) if isinstance(device, dict) else None
    if not isinstance(value, str) or not is_digits(value):
        raise ConfigError("rank table %s: %s must be a string of digits such as \"0\", found %s"
                          % (path, key, json.dumps(value)))
    return int(value)


def _check_rank_ids(path: str, rank_ids: List[int]) -> None:
    refuse(sorted(rank_ids) != list(range(len(rank_ids))),
           "rank table %s: the rank_id values must be 0 to %d, each once, found %s", path, len(rank_ids) - 1,
           ", ".join(map(str, rank_ids)) or "none")
