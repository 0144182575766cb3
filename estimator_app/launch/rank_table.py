"""Reads a rank table as far as it can be read: how many devices it lists and whether it contradicts itself.

Two forms are known: ``server_list`` with strings of digits, and version 2.0 with ``rank_list`` and numbers (rec_sdk_api
1.3, npu_bridge_api 2.5). Anything else in the file is opaque: it is handed to HCCL as it is.
"""
import dataclasses
import json
import os
from typing import Any, Dict, List, Optional

from feature_specs.errors import ConfigError

_MAX_BYTES = 16 << 20


@dataclasses.dataclass(frozen=True)
class RankTable:
    """What a rank table says.

    Attributes:
        path: absolute path of the file.
        form: ``server_list``, ``rank_list`` or ``unknown``.
        devices: number of devices; None where the form is unknown.
        servers: number of servers; None where it cannot be told.
    """

    path: str
    form: str
    devices: Optional[int]
    servers: Optional[int]


def read_rank_table(path: str) -> RankTable:
    """Reads and checks a rank table.

    Args:
        path: of the JSON file.

    Raises:
        ConfigError: the file cannot be read, is no JSON object, or a known form contradicts itself.
    """
    path = os.path.abspath(path)
    try:
        if os.path.getsize(path) > _MAX_BYTES:
            raise ConfigError("rank table %s is larger than %d MB; --hccl_cfg_json must name HCCL's JSON file"
                              % (path, _MAX_BYTES >> 20))
        with open(path, encoding="utf-8") as stream:
            data = json.load(stream)
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise ConfigError("rank table %s cannot be read (%s); --hccl_cfg_json must name HCCL's JSON file, or use --ip "
                          "to start without a rank table" % (path, reason)) from error
    if not isinstance(data, dict):
        raise ConfigError("rank table %s is no JSON object; --hccl_cfg_json must name HCCL's JSON file" % path)
    if isinstance(data.get("server_list"), list):
        return _server_list(path, data)
    if isinstance(data.get("rank_list"), list):
        return _rank_list(path, data["rank_list"])
    return RankTable(path, "unknown", None, None)


def check_ranks(table: RankTable, ranks: int) -> None:
    """Refuses a rank table that does not go with the number of ranks on this host.

    Raises:
        ConfigError: it lists another number of devices, or several servers.
    """
    if table.servers is not None and table.servers > 1:
        raise ConfigError("rank table %s lists %d servers; this command starts the ranks of one host, so give a table "
                          "of one server" % (table.path, table.servers))
    if table.devices is not None and table.devices != ranks:
        raise ConfigError("rank table %s lists %d devices, but %d ranks are to start; give --ranks %d or another table"
                          % (table.path, table.devices, ranks, table.devices))


def _server_list(path: str, data: Dict[str, Any]) -> RankTable:
    status = data.get("status")
    if status is not None and status != "completed":
        raise ConfigError("rank table %s has status %r, not 'completed'; wait until the cluster manager has written it"
                          % (path, status))
    servers = data["server_list"]
    rank_ids: List[int] = []
    for server in servers:
        devices = server.get("device") if isinstance(server, dict) else None
        if not isinstance(devices, list):
            return RankTable(path, "unknown", None, None)
        device_ids = [_digits(path, device, "device_id") for device in devices]
        if len(set(device_ids)) != len(device_ids):
            raise ConfigError("rank table %s lists a device_id twice on one server; each device has one rank" % path)
        rank_ids += [_digits(path, device, "rank_id") for device in devices]
    _check_rank_ids(path, rank_ids)
    return RankTable(path, "server_list", len(rank_ids), len(servers))


def _rank_list(path: str, entries: List[Any]) -> RankTable:
    rank_ids = [entry.get("rank_id") if isinstance(entry, dict) else None for entry in entries]
    numbers = [rank for rank in rank_ids if isinstance(rank, int) and not isinstance(rank, bool)]
    if len(numbers) == len(entries):
        _check_rank_ids(path, numbers)
    # Where this form names the server is not documented.
    return RankTable(path, "rank_list", len(entries), None)


def _digits(path: str, device: Any, key: str) -> int:
    value = device.get(key) if isinstance(device, dict) else None
    if not isinstance(value, str) or not value.isdigit():
        raise ConfigError("rank table %s: %s must be a string of digits such as \"0\", found %s"
                          % (path, key, json.dumps(value)))
    return int(value)


def _check_rank_ids(path: str, rank_ids: List[int]) -> None:
    if sorted(rank_ids) != list(range(len(rank_ids))):
        raise ConfigError("rank table %s: the rank_id values must be 0 to %d, each once, found %s"
                          % (path, len(rank_ids) - 1, ", ".join(map(str, rank_ids)) or "none"))
