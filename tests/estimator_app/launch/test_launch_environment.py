"""The environment of the ranks in both schemes."""
import argparse
import dataclasses
import json

import pytest

from estimator_app.config import ENVIRONMENT_SWITCHES
from estimator_app.launch import environment as env
from estimator_app.launch.hosts import Host, Placement
from feature_specs.errors import ConfigError
from tests.estimator_app.launch.test_launch_rank_table import version_1


@pytest.fixture
def root(tmp_path):
    for name in ("usr/lib64", "usr/local/lib", "opt/mx_rec/libasc", "opt/rec_sdk_common/lib"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "usr/lib64/libgomp.so.1").touch()
    (tmp_path / "usr/lib64/libstdc++.so.6").touch()
    (tmp_path / "hccl.json").write_text(json.dumps(version_1(8)))
    return tmp_path


def host(root, **environment):
    return Host(environment=environment, root=str(root), libc=("glibc", "2.34"))


def options(root, **changes):
    values = {"so_path": str(root / "opt/mx_rec/libasc"), "rec_package_path": str(root / "opt/mx_rec"),
              "hccl_cfg_json": None, "ip": None, "ranks": None}
    values.update(changes)
    return env.LaunchOptions(**values)


def with_table(root, **changes):
    return options(root, hccl_cfg_json=str(root / "hccl.json"), **changes)


COMMON = {
    "ASCEND_DEVICE_ID": "0", "ASCEND_GLOBAL_LOG_LEVEL": "3", "ENABLE_FORCE_V2_CONTROL": "1", "GLOG_logtostderr": "true",
    "GLOG_stderrthreshold": "2", "HCCL_CONNECT_TIMEOUT": "1200", "HCCL_OP_RETRY_ENABLE": "L0:0, L1:0, L2:0",
    "JOB_ID": "10086", "TF_CPP_MIN_LOG_LEVEL": "3", "LD_PRELOAD": "/usr/lib64/libgomp.so.1"}


def paths(root):
    libraries = "%s/opt/mx_rec/libasc:%s/opt/rec_sdk_common/lib" % (root, root)
    return {"PYTHONPATH": "%s:%s/opt/mx_rec:%s:%s/opt" % (env.PROJECT, root, libraries, root),
            "LD_LIBRARY_PATH": libraries + ":/usr/local/lib"}


def test_rank_table_scheme(root):
    result = env.compose(with_table(root), host(root))
    expected = dict(COMMON, RANK_SIZE="8", RANK_TABLE_FILE=str(root / "hccl.json"), **paths(root))
    assert result.values == expected
    assert (result.scheme, result.placement) == ("rank table", Placement(("localhost",), 8))
    assert set(result.removed) == set(env.CM_VARIABLES) | {"RANK_ID"}


def test_rank_table_free_scheme(root):
    result = env.compose(options(root, ip="192.0.2.1", ranks=2), host(root))
    expected = dict(COMMON, CM_CHIEF_IP="192.0.2.1", CM_CHIEF_PORT="60001", CM_CHIEF_DEVICE="0",
                    CM_WORKER_IP="192.0.2.1", CM_WORKER_SIZE="2", **paths(root))
    assert result.values == expected
    assert set(result.removed) == {"RANK_ID", "RANK_SIZE", "RANK_TABLE_FILE"}


@pytest.mark.parametrize("scheme", ["table", "ip"])
def test_the_schemes_never_meet(root, scheme):
    before = {name: "1" for name in env.CM_VARIABLES + env.RANK_TABLE_VARIABLES}
    chosen = with_table(root) if scheme == "table" else options(root, ip="192.0.2.1")
    after = env.compose(chosen, host(root, **before)).apply(before)
    cm = set(after) & set(env.CM_VARIABLES)
    table = set(after) & set(env.RANK_TABLE_VARIABLES)
    assert (cm, table) == ((set(), {"RANK_SIZE", "RANK_TABLE_FILE"}) if scheme == "table"
                           else (set(env.CM_VARIABLES), set()))


def test_what_is_set_stays(root):
    before = {"JOB_ID": "job-7", "HCCL_CONNECT_TIMEOUT": "7200", "ASCEND_GLOBAL_LOG_LEVEL": "1", "PYTHONPATH": "/a:/b",
              "LD_LIBRARY_PATH": "/c", "LD_PRELOAD": "/d/libx.so", "CM_CHIEF_PORT": "60000", "CM_CHIEF_DEVICE": "4",
              "OTHER": "kept"}
    after = env.compose(options(root, ip="192.0.2.1"), host(root, **before)).apply(before)
    for name in ("JOB_ID", "HCCL_CONNECT_TIMEOUT", "ASCEND_GLOBAL_LOG_LEVEL", "CM_CHIEF_PORT", "CM_CHIEF_DEVICE",
                 "OTHER"):
        assert after[name] == before[name]
    assert after["PYTHONPATH"] == "/a:/b:" + paths(root)["PYTHONPATH"]
    assert after["LD_LIBRARY_PATH"] == "/c:" + paths(root)["LD_LIBRARY_PATH"]
    assert after["LD_PRELOAD"] == "/d/libx.so:/usr/lib64/libgomp.so.1"


def test_the_switches_are_passed_on(root):
    values = env.compose(with_table(root), host(root, USE_DYNAMIC="0", CACHE_MODE="DDR", USE_FAAE="")).values
    given = {name: values[name] for name in ENVIRONMENT_SWITCHES if name in values}
    assert given == {"USE_DYNAMIC": "0", "CACHE_MODE": "DDR"}


def test_composing_twice_changes_nothing(root):
    once = env.compose(with_table(root), host(root)).apply({})
    assert env.compose(with_table(root), host(root, **once)).apply(once) == once


@pytest.mark.parametrize("name, good, bad", [
    ("HCCL_CONNECT_TIMEOUT", ["120", "7200"], ["119", "7201", "1e3", "-5", "\u0661\u0662\u0660"]),
    ("JOB_ID", ["1", "a-b_c"], ["010", "a b", "a;b", "a\n"]),
    ("CM_CHIEF_PORT", ["0", "65520"], ["65521", "x"]),
    ("CM_CHIEF_DEVICE", ["0", "511"], ["512", "-1"])])
def test_values_of_the_environment(root, name, good, bad):
    for value in good:
        assert env.compose(options(root, ip="192.0.2.1"), host(root, **{name: value})).values[name] == value
    for value in bad:
        with pytest.raises(ConfigError, match="environment variable %s=" % name) as caught:
            env.compose(options(root, ip="192.0.2.1"), host(root, **{name: value}))
        assert "\n" not in str(caught.value) and "allowed" in str(caught.value)


def test_preloaded_libraries(root):
    plain = host(root)
    assert env.preloaded_libraries(plain) == ["/usr/lib64/libgomp.so.1"]
    old = dataclasses.replace(plain, libc=("glibc", "2.17"))
    assert env.preloaded_libraries(old) == ["/usr/lib64/libgomp.so.1", "/usr/lib64/libstdc++.so.6"]
    assert env.preloaded_libraries(dataclasses.replace(plain, libc=("", ""))) == ["/usr/lib64/libgomp.so.1"]
    loaded = dataclasses.replace(old, environment={"LD_PRELOAD": "/x/libgomp-abc.so.1.0 /y/libstdc++.so.6"})
    assert env.preloaded_libraries(loaded) == []
    (root / "usr/lib64/libgomp.so.1").unlink()
    assert env.preloaded_libraries(plain) == []
    assert "LD_PRELOAD" not in env.compose(with_table(root), plain).values
    (root / "usr/lib/x86_64-linux-gnu").mkdir(parents=True)
    (root / "usr/lib/x86_64-linux-gnu/libgomp.so.1").touch()
    assert env.preloaded_libraries(plain) == ["/usr/lib/x86_64-linux-gnu/libgomp.so.1"]


def test_the_openmp_of_scikit_learn_on_arm(root):
    folder = root / "site/scikit_learn.libs"
    folder.mkdir(parents=True)
    (folder / "libgomp-d22c30c5.so.1.0.0").touch()
    arm = dataclasses.replace(host(root), machine="aarch64", python_path=("/site",))
    assert env.preloaded_libraries(arm) == ["/usr/lib64/libgomp.so.1",
                                            "/site/scikit_learn.libs/libgomp-d22c30c5.so.1.0.0"]


def test_both_schemes_or_neither(root):
    with pytest.raises(ConfigError, match="both given"):
        env.check_scheme(with_table(root, ip="192.0.2.1"))
    with pytest.raises(ConfigError, match="neither --hccl_cfg_json nor --ip"):
        env.check_scheme(options(root))


@pytest.mark.parametrize("address", ["192.0.2.1", "2001:db8::1"])
def test_addresses(root, address):
    env.check_scheme(options(root, ip=address))


@pytest.mark.parametrize("address", ["host", "192.0.2.256", "192.0.2", "192.0.2.1;rm"])
def test_addresses_that_are_refused(root, address):
    with pytest.raises(ConfigError, match="is not an IP address"):
        env.check_scheme(options(root, ip=address))


def test_ranks(root):
    for ranks in (1, 2, 4, 8, 16):
        assert env.place_ranks(options(root, ip="192.0.2.1", ranks=ranks)).ranks == ranks
    for ranks in (3, 32):
        with pytest.raises(ConfigError, match="allowed: 1, 2, 4, 8, 16"):
            env.place_ranks(options(root, ip="192.0.2.1", ranks=ranks))
    for ranks in (0, -1):
        with pytest.raises(ConfigError, match="--ranks %d; allowed: a number from 1 on" % ranks):
            env.place_ranks(options(root, ip="192.0.2.1", ranks=ranks))
    assert env.place_ranks(options(root, ip="192.0.2.1")).ranks == 8
    with pytest.raises(ConfigError, match="lists 8 devices, but 4 ranks"):
        env.place_ranks(with_table(root, ranks=4))
    (root / "hccl.json").write_text(json.dumps(version_1(3)))
    with pytest.raises(ConfigError, match="3 ranks on one host are not possible; allowed: 1, 2, 4, 8, 16"):
        env.place_ranks(with_table(root))
    (root / "hccl.json").write_text("{}")
    assert env.place_ranks(with_table(root, ranks=4)).ranks == 4
    assert env.place_ranks(with_table(root, hosts="a:8,b:8")).ranks == 16
    with pytest.raises(ConfigError, match="unknown form.*--ranks N"):
        env.place_ranks(with_table(root))


def test_a_dry_run_needs_no_rank_table(root):
    (root / "hccl.json").unlink()
    assert env.place_ranks(with_table(root, dry_run=True, ranks=2)).ranks == 2
    with pytest.raises(ConfigError, match="cannot be read"):
        env.place_ranks(with_table(root, ranks=2))


def test_the_ranks_of_a_cpu(root):
    def cpu(**changes):
        return dataclasses.replace(options(root), device="cpu", **changes)

    assert env.place_ranks(cpu(ranks=3)) == Placement(("localhost",), 3)
    assert env.place_ranks(cpu(hosts="h1:4,h2:4")) == Placement(("h1", "h2"), 4)
    with pytest.raises(ConfigError, match="--hosts h1,h2 says no number of ranks"):
        env.place_ranks(cpu(hosts="h1,h2"))
    before = {"RANK_ID": "3", "RANK_TABLE_FILE": "/t", "CM_WORKER_SIZE": "8", "JOB_ID": "7", "PYTHONPATH": "/a"}
    result = env.compose(cpu(ranks=2), host(root, **before))
    assert result.apply(before) == {"JOB_ID": "7", "TF_CPP_MIN_LOG_LEVEL": "2", "PYTHONPATH": "/a:" + env.PROJECT}


def test_several_hosts_without_a_rank_table(root):
    two = options(root, hosts="192.0.2.10,192.0.2.11")
    env.check_scheme(two)
    result = env.compose(two, host(root, ASCEND_OPP_PATH="/opp", PATH="/bin", CM_WORKER_IP="x", HOME="/h"))
    values = result.values
    assert (values["CM_CHIEF_IP"], values["CM_WORKER_SIZE"]) == ("192.0.2.10", "16")
    assert values[env.WORKER_IPS] == "192.0.2.10,192.0.2.11"
    assert "CM_WORKER_IP" not in values and "CM_WORKER_IP" in result.removed
    # What CANN's set_env.sh has set must reach the other hosts; a home directory must not.
    assert (values["ASCEND_OPP_PATH"], values["PATH"], "HOME" in values) == ("/opp", "/bin", False)
    assert env.compose(dataclasses.replace(two, ip="192.0.2.10"), host(root)).values["CM_CHIEF_IP"] == "192.0.2.10"
    with pytest.raises(ConfigError, match="--ip 192.0.2.11 is not the address of 192.0.2.10"):
        env.compose(dataclasses.replace(two, ip="192.0.2.11"), host(root))


def test_hosts_without_an_address(root):
    unknown = options(root, hosts="no-such-host.invalid:2,192.0.2.11:2")
    with pytest.raises(ConfigError, match="host no-such-host.invalid has no address"):
        env.compose(unknown, host(root))
    values = env.compose(dataclasses.replace(unknown, dry_run=True), host(root)).values
    assert values[env.WORKER_IPS] == "no-such-host.invalid,192.0.2.11"


def test_the_package_folder_may_be_the_parent(root):
    given = options(root, rec_package_path=str(root / "opt"))
    assert env.package_folders(given) == [str(root / name) for name in (
        "opt", "opt/mx_rec/libasc", "opt/rec_sdk_common/lib")]


def test_unusable_paths(root):
    assert env.unusable_paths(options(root), "runs/x") == []
    lines = env.unusable_paths(options(root, so_path="/none/a", rec_package_path="/none/b"), "runs/x")
    assert lines == ["--so_path /none/a is not a directory", "--rec_package_path /none/b is not a directory"]


def test_model_directories(tmp_path):
    assert env.check_model_dir(str(tmp_path / "new")) is None
    assert env.check_model_dir("/usr/localx/run") is None
    for folder in ("/usr/local/run", "/etc", "/usr/lib64/x"):
        assert "saves no tables under" in env.check_model_dir(folder)
    (tmp_path / "link").symlink_to(tmp_path)
    assert "symbolic link" in env.check_model_dir(str(tmp_path / "link" / "run"))
    assert "too long" in env.check_model_dir("/tmp/" + "x" * 1000)
    assert "control characters" in env.check_model_dir("/tmp/a\nb")


def test_the_flags_have_help():
    parser = argparse.ArgumentParser()
    env.add_launch_arguments(parser)
    assert all(action.help for action in parser._actions)
    parsed = parser.parse_args(["--mpi_args=-mca btl_tcp_if_exclude 'docker 0'", "--dry-run"])
    assert env.options_from(parsed).mpi_args == ("-mca", "btl_tcp_if_exclude", "docker 0")
    assert env.options_from(parsed).dry_run
    with pytest.raises(ConfigError, match="--mpi_args .* cannot be split"):
        env.options_from(parser.parse_args(["--mpi_args='x"]))
