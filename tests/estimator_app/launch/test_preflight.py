"""The preflight on described hosts: a complete one, one thing missing at a time, and this machine."""
import argparse
import dataclasses
import io
import json
import os
import subprocess
import sys

import pytest

from estimator_app.launch import preflight, preflight_checks
from estimator_app.launch.environment import LaunchOptions
from estimator_app.launch.hosts import Host, this_host
from feature_specs.files import PROJECT
from tests.estimator_app.launch.test_launch_rank_table import version_1
from tests.support.small_data import write_data

EXPLODES = "raise SystemExit('imported')\n"


def put(root, name, text="", mode=0o644):
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    return path


@pytest.fixture
def root(tmp_path):
    """An NPU host with two devices and the third generation of the SDK; importing a package would end the test."""
    for package in ("tensorflow", "mx_rec", "mx_rec/util", "rec_sdk_common", "npu_bridge", "hccl", "mpi4py"):
        put(tmp_path, "site/%s/__init__.py" % package, EXPLODES)
    for info in ("tensorflow_cpu-1.15.0", "mx_rec-7.3.0", "npu_bridge-1.15.0", "mpi4py-3.1.3"):
        (tmp_path / ("site/%s.dist-info" % info)).mkdir()
    put(tmp_path, "site/mx_rec/libasc/librecsdk_tf_npu_ops.so")
    put(tmp_path, "site/mx_rec/libasc/librecsdk_tf_rec_v1_cpu_ops.so")
    for program in ("mpirun", "horovodrun", "npu-smi"):
        put(tmp_path, "bin/" + program, "#!/bin/sh\nexit 1\n", 0o755)
    for device in ("davinci0", "davinci1", "davinci_manager"):
        put(tmp_path, "dev/" + device)
    put(tmp_path, "usr/local/Ascend/driver/version.info", "Version=25.2.0\nascendhal_version=7\n")
    put(tmp_path, "usr/local/Ascend/ascend-toolkit/latest/version.cfg",
        "# version: 1.0\nruntime_installed_version=[8.5.0:8.5.0]\ntoolkit_installed_version=[8.5.0:8.5.0]\n")
    put(tmp_path, "hccl.json", json.dumps(version_1(2)))
    put(tmp_path, "proc/meminfo", "MemTotal:  16000000 kB\nMemAvailable:    8000000 kB\n")
    return tmp_path


def host(root, **environment):
    values = {"PATH": str(root / "bin"), "ASCEND_OPP_PATH": "/usr/local/Ascend/opp"}
    values.update(environment)
    return Host(environment=values, root=str(root), python_path=(str(root / "site"),), libc=("glibc", "2.34"))


def options(root, **changes):
    values = {"so_path": str(root / "site/mx_rec/libasc"), "rec_package_path": str(root / "site/mx_rec"),
              "hccl_cfg_json": str(root / "hccl.json"), "ip": None, "ranks": None}
    values.update(changes)
    return LaunchOptions(**values)


def rows(root, machine=None, chosen=None, model_dir="runs/x", **wanted):
    found = preflight.check(chosen or options(root), machine or host(root), preflight.Wanted(model_dir, **wanted))
    return {row.name: row for row in found}


def status(found):
    return {name: row.status for name, row in found.items() if row.status != "ok"}


def test_a_complete_host(root):
    found = rows(root)
    assert status(found) == {}
    assert found["TensorFlow"].found == "1.15.0"
    assert found["Rec SDK (mx_rec)"].found == "G3, version 7.3.0"
    assert found["driver"].found == "25.2.0"
    assert found["CANN toolkit"].found == "CANN 8.5.0:8.5.0 in /usr/local/Ascend/ascend-toolkit/latest"
    assert found["rank scheme"].found == "rank table, ranks: 2, %s" % (root / "hccl.json")
    assert found["MPI"].found == "horovodrun"


@pytest.mark.parametrize("gone, name, word", [
    ("site/tensorflow", "TensorFlow", "install tensorflow-cpu"),
    ("site/mx_rec", "Rec SDK (mx_rec)", "install the Rec"),
    ("site/npu_bridge", "TF Adapter (npu_bridge)", "install npu_bridge"),
    ("site/hccl", "TF Adapter (npu_bridge)", "CANN"),
    ("site/mx_rec/libasc/librecsdk_tf_npu_ops.so", "op library", "--so_path"),
    ("bin/mpirun", "MPI", "install Open MPI"),
    ("site/mpi4py", "mpi4py", "install mpi4py"), ("dev", "devices", "pass the devices through"),
    ("usr/local/Ascend/ascend-toolkit", "CANN toolkit", "install the CANN toolkit"), ("hccl.json", "rank scheme", "")])
def test_each_mandatory_thing(root, gone, name, word):
    os.rename(str(root / gone), str(root / "gone"))
    row = rows(root)[name]
    assert row.status == "missing" and word in row.fix


def test_without_a_driver(root):
    os.remove(str(root / "usr/local/Ascend/driver/version.info"))
    assert rows(root)["driver"].found == "version unknown, npu-smi is there"
    os.remove(str(root / "bin/npu-smi"))
    assert rows(root)["driver"].status == "missing"


@pytest.mark.parametrize("version, expected", [((3, 7, 4), "warn"), ((3, 7, 5), "ok"), ((3, 7, 11), "ok"),
                                               ((3, 7, 12), "warn"), ((3, 8, 0), "missing"), ((3, 6, 9), "missing")])
def test_python_versions(root, version, expected):
    assert rows(root, dataclasses.replace(host(root), python_version=version))["Python"].status == expected


@pytest.mark.parametrize("info, expected", [("tensorflow-1.15.5.dist-info", "ok"),
                                            ("tensorflow-2.6.5.dist-info", "missing"),
                                            ("tensorflow-1.15.0-py3.7.egg-info", "ok"), ("other-1.dist-info", "warn"),
                                            ("tensorflow_estimator-1.15.1.dist-info", "warn")])
def test_tensorflow_versions(root, info, expected):
    os.rename(str(root / "site/tensorflow_cpu-1.15.0.dist-info"), str(root / "site" / info))
    assert rows(root)["TensorFlow"].status == expected


def test_generations(root):
    os.rename(str(root / "site/rec_sdk_common"), str(root / "gone"))
    assert rows(root)["Rec SDK (mx_rec)"].found.startswith("unknown")
    put(root, "site/mx_rec/util/tf_version_adapter.py", EXPLODES)
    found = rows(root)
    assert found["Rec SDK (mx_rec)"].status == "missing" and found["Rec SDK (mx_rec)"].found.startswith("G1")
    put(root, "site/mx_rec/util/communication/hccl_ops.py", EXPLODES)
    found = rows(root)
    assert found["Rec SDK (mx_rec)"].found.startswith("G2") and found["op library"].status == "missing"
    put(root, "site/mx_rec/libasc/libasc_ops.so")
    assert rows(root)["op library"].status == "ok"


def test_a_folder_is_no_package(root):
    for name in ("mx_rec", "hccl"):
        os.remove(str(root / "site" / name / "__init__.py"))
    found = rows(root)
    assert found["Rec SDK (mx_rec)"].status == "missing"
    assert found["TF Adapter (npu_bridge)"].status == "ok"  # whether CANN's hccl has an __init__ is not documented


def test_packages_outside_the_search_path_are_found_through_the_flag(root):
    elsewhere = dataclasses.replace(host(root), python_path=(str(root / "empty"),))
    found = rows(root, elsewhere)
    assert found["Rec SDK (mx_rec)"].status == "ok" and found["TF Adapter (npu_bridge)"].status == "ok"
    found = rows(root, elsewhere, options(root, rec_package_path=""))
    assert found["Rec SDK (mx_rec)"].status == "missing"


def test_devices_and_ranks(root):
    (root / "hccl.json").write_text(json.dumps(version_1(4)))
    row = rows(root)["devices"]
    assert row.status == "missing" and "--ranks 2 or fewer" in row.fix
    os.remove(str(root / "dev/davinci_manager"))
    assert rows(root, chosen=options(root, hccl_cfg_json=None, ip="192.0.2.1", ranks=2))["devices"].status == "warn"
    visible = host(root, ASCEND_RT_VISIBLE_DEVICES="0,1")
    assert "visible: 0,1" in rows(root, visible)["devices"].found


def test_the_operator_for_growing_tables(root):
    assert rows(root)["cust_op_by_addr"].found == "not found, not needed (use_dynamic_expansion is false)"
    assert rows(root, expansion=True)["cust_op_by_addr"].status == "warn"
    put(root, "usr/local/Ascend/opp/vendors/rec/op_impl/embedding_lookup_by_address.json")
    assert rows(root, expansion=True)["cust_op_by_addr"].status == "ok"


def test_the_toolkit_needs_its_environment(root):
    row = rows(root, host(root, ASCEND_OPP_PATH=""))["CANN toolkit"]
    assert row.status == "missing" and "set_env.sh" in row.fix
    put(root, "opt/cann/x86_64-linux/ascend_toolkit_install.info", "package_name=x\nversion=9.0.0\n")
    assert rows(root, host(root, ASCEND_TOOLKIT_HOME="/opt/cann"))["CANN toolkit"].found == "CANN 9.0.0 in /opt/cann"


@pytest.mark.parametrize("environment, name, expected", [
    ({"TF_CONFIG": '{"cluster": {"worker": []}}'}, "TF_CONFIG", "missing"), ({"TF_CONFIG": "{}"}, "environment", "ok"),
    ({"RESTORE_FROM": "/a"}, "RESTORE_FROM", "missing"),
    ({"LOCAL_CHECKPOINT_DIR": "/a"}, "LOCAL_CHECKPOINT_DIR", "missing"), ({"TF_DEVICE": "NPU"}, "TF_DEVICE", "missing"),
    ({"TF_DEVICE": "CPU"}, "TF_DEVICE", "warn"), ({"TF_DEVICE": "NONE"}, "environment", "ok"),
    ({"POD_NAME": "3"}, "POD_NAME", "warn"), ({"RANK_SIZE": "8"}, "environment", "ok")])
def test_variables_that_change_a_run(root, environment, name, expected):
    assert rows(root, host(root, **environment))[name].status == expected


def test_both_schemes_in_the_environment(root):
    both = {"RANK_SIZE": "8", "CM_WORKER_SIZE": "8"}
    row = rows(root, host(root, **both), options(root, hccl_cfg_json=None))["rank schemes"]
    assert row.status == "missing" and "RANK_SIZE" in row.found and "CM_WORKER_SIZE" in row.found
    row = rows(root, host(root, **both))["rank schemes"]
    assert row.status == "warn" and "the launch removes" in row.fix


def test_scheme_and_model_directory(root):
    found = rows(root, chosen=options(root, hccl_cfg_json=None), model_dir="/etc/x")
    assert found["rank scheme"].status == "warn" and found["model directory"].status == "missing"
    found = rows(root, chosen=options(root, hccl_cfg_json=None, ip="192.0.2.1", ranks=2))
    assert found["rank scheme"].found == "rank-table-free, ranks: 2, 192.0.2.1, port 60001"
    assert rows(root, chosen=options(root, ip="192.0.2.1"))["rank scheme"].status == "missing"


def test_nothing_at_all(tmp_path):
    bare = Host(environment={}, root=str(tmp_path), python_version=(3, 9, 0))
    found = preflight.check(LaunchOptions("", "", None, None, None), bare, preflight.Wanted("runs/x"))
    assert sum(row.status == "missing" for row in found) == 10
    assert all(row.fix or row.status == "ok" for row in found)


def parse(*arguments):
    parser = argparse.ArgumentParser()
    preflight.add_arguments(parser)
    assert all(action.help for action in parser._actions)
    return parser.parse_args(list(arguments))


def test_the_command(root):
    stream = io.StringIO()
    given = ["--so_path", str(root / "site/mx_rec/libasc"), "--rec_package_path", str(root / "site/mx_rec"),
             "--hccl_cfg_json", str(root / "hccl.json")]
    assert preflight.run(parse("--device", "npu", *given), host(root), stream) == 0
    lines = stream.getvalue().splitlines()
    assert lines[0] == "ok       Python                   3.7.5"
    assert lines[-1] == "preflight: 16 ok, 0 warnings, 0 missing"
    assert preflight.run(parse(*given), host(root), io.StringIO()) == 0
    assert preflight.run(parse("--use_dynamic_expansion", "true", "--device", "npu"), host(root, PATH=""), stream) == 1
    assert "warn     cust_op_by_addr" in stream.getvalue()


def cpu(root, ranks=None, hosts="", **wanted):
    chosen = LaunchOptions("", "", None, None, ranks, hosts, device="cpu")
    values = dict({"model_dir": str(root / "run")}, **wanted)
    return {row.name: row for row in preflight.check(chosen, host(root), preflight.Wanted(**values))}


def test_a_cpu(root):
    put(root, "site/numpy/__init__.py", EXPLODES)
    plain = dataclasses.replace(host(root), python_version=(3, 7, 16))
    stream = io.StringIO()
    assert preflight.run(parse("--device", "cpu", "--model_dir", str(root / "run")), plain, stream) == 0
    lines = stream.getvalue().splitlines()
    assert lines[:5] == ["ok       Python           3.7.16", "ok       tensorflow       1.15.0",
                         "ok       numpy            found", "ok       memory           8.2 GB available",
                         "ok       model directory  %s" % (root / "run")]
    assert lines[5].startswith("ok       disk             ") and lines[5].endswith(" free in %s" % root)
    assert lines[6:] == ["preflight: 6 ok, 0 warnings, 0 missing"]
    assert not (root / "run").exists()
    os.rename(str(root / "site/tensorflow"), str(root / "gone"))
    assert preflight.run(parse("--device", "cpu"), plain, io.StringIO()) == 1


def test_ranks_on_cpus_need_horovod(root):
    assert "horovod" not in cpu(root) and "horovod" not in cpu(root, ranks=1)
    assert cpu(root, ranks=2)["horovod"].fix == "bash run_estimator.sh setup --distributed"
    put(root, "site/horovod/__init__.py", EXPLODES)
    assert cpu(root, hosts="a:1,b:1")["horovod"].status == "ok"


def test_the_memory_of_the_tables(root):
    row = cpu(root, table_bytes=8 * 10 ** 9)["memory"]
    assert (row.status, row.found) == ("ok", "8.2 GB available, the tables on this host take 8.0 GB")
    assert cpu(root, table_bytes=9 * 10 ** 9)["memory"].status == "missing"
    assert cpu(root, hosts="a:4,b:4", table_bytes=16 * 10 ** 9)["memory"].status == "ok"
    put(root, "sys/fs/cgroup/memory.max", "3000000000\n")
    put(root, "sys/fs/cgroup/memory.current", "1000000000\n")
    assert cpu(root)["memory"].found == "2.0 GB available"
    put(root, "sys/fs/cgroup/memory.stat", "anon 100000000\ninactive_file 700000000\nactive_file 1\n")
    assert cpu(root)["memory"].found == "2.7 GB available"
    put(root, "sys/fs/cgroup/memory.max", "max\n")
    assert cpu(root)["memory"].found == "8.2 GB available"
    os.remove(str(root / "proc/meminfo"))
    assert cpu(root)["memory"].found == "unknown"


def test_the_tables_size_is_held_against_the_memory(root):
    stream = io.StringIO()
    arguments = parse("--device", "cpu", "--model_dir", str(root / "run"))
    assert preflight.run(arguments, host(root), stream, 9 * 10 ** 9) == 1
    assert "the tables on this host take 9.0 GB; fix: spread" in stream.getvalue()


def test_the_disk(root, monkeypatch):
    monkeypatch.setattr(preflight_checks.shutil, "disk_usage", lambda path: argparse.Namespace(free=3 * 10 ** 9))
    assert cpu(root)["disk"].found == "3.0 GB free in %s" % root
    assert cpu(root, table_bytes=10 ** 9)["disk"].status == "ok"
    row = cpu(root, table_bytes=11 * 10 ** 8)["disk"]
    assert row.status == "missing" and "3 checkpoints of the tables take 3.3 GB" in row.found
    monkeypatch.setattr(preflight_checks.shutil, "disk_usage", lambda path: argparse.Namespace(free=10 ** 9))
    assert cpu(root)["disk"].status == "warn"


def test_directories(root):
    file = put(root, "file")
    assert "is not a directory" in cpu(root, model_dir=str(file))["model directory"].found
    assert "manifest.json does not exist" in cpu(root, data_dir=str(root))["data directory"].found
    put(root, "manifest.json", "{")
    assert "manifest.json cannot be read" in cpu(root, data_dir=str(root))["data directory"].found
    assert rows(root, data_dir=str(root / "none"))["data directory"].status == "missing"


def test_data_that_training_would_refuse(root, tmp_path):
    write_data(str(tmp_path / "data"))
    assert cpu(root, data_dir=str(tmp_path / "data"))["data directory"].status == "ok"
    os.remove(str(next((tmp_path / "data").glob("test/*"))))
    row = cpu(root, data_dir=str(tmp_path / "data"))["data directory"]
    assert row.status == "missing" and "is missing; prepare the data again" in row.found


def test_storage_that_is_not_shared(root, monkeypatch):
    monkeypatch.setattr(preflight_checks, "_SHARED_SECONDS", 0.0)
    row = cpu(root, shared_file=str(root / "none"))["shared storage"]
    assert row.status == "missing" and "all hosts mount" in row.fix
    assert cpu(root, shared_file=str(put(root, "seen")))["shared storage"].status == "ok"


def everywhere(root, monkeypatch, answers):
    """Runs the preflight of two hosts; ``answers`` stand for what the hosts print."""
    commands = []

    def runner(command, environment, placement, listener):
        commands.append(list(command))
        shared = json.loads(command[-1])["shared_file"]
        assert os.path.dirname(shared) == str(root) and os.path.exists(shared)
        for index, text in enumerate(answers):
            for part in (text[:20], text[20:]):
                listener(index, part)
        return 0

    monkeypatch.setattr(preflight, "run_ranks", runner)
    put(root, "site/horovod/__init__.py", EXPLODES)
    python = put(root, "bin/python3.7", mode=0o755)
    stream = io.StringIO()
    status = preflight.run(parse("--device", "cpu", "--hosts", "h1:4,h2:4", "--model_dir", str(root / "run")),
                           dataclasses.replace(host(root), python=str(python)), stream)
    assert not [name for name in os.listdir(str(root)) if name.startswith(".seen")]
    return status, stream.getvalue(), commands[0]


def test_every_host_is_checked(root, monkeypatch):
    good = json.dumps([["ok", "Python", "3.7.5", ""]]) + "\n"
    status, text, command = everywhere(root, monkeypatch, [good, good])
    assert status == 0
    assert text == "".join("host %s:\nok       Python  3.7.5\npreflight: 1 ok, 0 warnings, 0 missing\n" % name
                           for name in ("h1", "h2"))
    assert command[:7] == [str(root / "bin/horovodrun"), "--gloo", "--disable-cache", "-np", "2", "-H", "h1:1,h2:1"]
    assert json.loads(command[-2])["hosts"] == "h1:4,h2:4"
    bad = json.dumps([["missing", "shared storage", "no", "mount it"]]) + "\n"
    status, text, _ = everywhere(root, monkeypatch, [good, bad])
    assert status == 1 and "host h2:\nmissing  shared storage  no; fix: mount it" in text
    status, text, _ = everywhere(root, monkeypatch, [good])
    assert status == 1 and "host h2:\nmissing  host  no answer; fix: check that `ssh h2` works" in text


def test_the_check_of_one_of_several_hosts(root):
    put(root, "seen")
    chosen = LaunchOptions("", "", None, None, None, "a:1,b:1", device="cpu")
    wanted = preflight.Wanted(str(root), shared_file=str(root / "seen"), table_bytes=1000000)
    command = [sys.executable, "-m", "estimator_app.launch.preflight",
               *(json.dumps(dataclasses.asdict(item)) for item in (chosen, wanted))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True,
                          env=dict(os.environ, PYTHONPATH=PROJECT))
    found = {name: (status, text) for status, name, text, _ in json.loads(done.stdout)}
    assert found["shared storage"][0] == "ok" and "take 0.5 MB" in found["memory"][1]


def test_this_machine_and_no_heavy_imports():
    code = ("import argparse, sys\nfrom estimator_app.launch import preflight, launch\n"
            "parser = argparse.ArgumentParser(); preflight.add_arguments(parser)\n"
            "status = preflight.run(parser.parse_args(['--device', 'npu']))\n"
            "heavy = [name for name in ('numpy', 'tensorflow', 'mx_rec', 'npu_bridge') if name in sys.modules]\n"
            "assert not heavy, heavy\nsys.exit(status)\n")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60,
                          env=dict(os.environ, PYTHONPATH=PROJECT))
    assert done.stderr == ""
    assert done.stdout.splitlines()[-1].startswith("preflight: ")
    assert (done.returncode == 1) == (", 0 missing" not in done.stdout)


def test_the_stand_in_does_not_count(tmp_path, sdk):
    import mx_rec
    assert mx_rec is not None
    bare = dataclasses.replace(this_host(), python_path=(str(tmp_path),), root=str(tmp_path))
    assert bare.package("mx_rec") is None
