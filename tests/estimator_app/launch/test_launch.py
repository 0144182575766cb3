"""The launch: dry runs line by line, command lines, and what real processes get under a stand-in for the runners."""
import argparse
import contextlib
import io
import json
import os
import re
import shlex
import subprocess
import sys

import pytest

from estimator_app.launch import launch, preflight, runners
from estimator_app.launch.environment import add_launch_arguments, compose
from estimator_app.launch.hosts import Host
from estimator_app.launch.preflight_checks import Row
from feature_specs.errors import ConfigError, UserError
from feature_specs.files import PROJECT
from tests.estimator_app.launch.dry_run_texts import (
    CPU_TEXT,
    RANK_TABLE_FREE_TEXT,
    RANK_TABLE_TEXT,
    TWO_HOSTS,
    TWO_HOSTS_FREE_TEXT,
    TWO_HOSTS_TABLE_TEXT,
)
from tests.estimator_app.launch.test_launch_rank_table import two_servers, version_1

# Runs what follows the interpreter's path once per rank, as horovodrun and mpirun do on one host.
RUNNER = """\
#!%(python)s
import os, subprocess, sys
arguments = sys.argv[1:]
ranks = int(arguments[arguments.index("-np") + 1])
program = arguments[arguments.index(os.environ["TEST_PROGRAM"]):]
with open(os.environ["TEST_LOG"] + ".runner", "a") as log:
    log.write(os.path.basename(sys.argv[0]) + "\\n")
children = []
for rank in range(ranks):
    identity = {"OMPI_COMM_WORLD_RANK": rank, "OMPI_COMM_WORLD_SIZE": ranks, "OMPI_COMM_WORLD_LOCAL_SIZE": ranks}
    children.append(subprocess.Popen(program, env=dict(os.environ, **{k: str(v) for k, v in identity.items()})))
sys.exit(max(child.wait() for child in children))
"""

# Takes the place of the interpreter of the ranks: notes what it was given.
PROGRAM = """\
#!%(python)s
import json, os, sys
with open("%%s.%%s" %% (os.environ["TEST_LOG"], os.environ["OMPI_COMM_WORLD_RANK"]), "a") as log:
    log.write(json.dumps({"arguments": sys.argv[1:], "environment": dict(os.environ)}) + "\\n")
sys.exit(int(os.environ.get("TEST_STATUS", "0")))
"""


def executable(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text % {"python": sys.executable})
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def node(tmp_path):
    """A folder with the SDK's folders, a rank table of two devices and a program for the ranks."""
    for name in ("sdk/mx_rec/libasc", "bin"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "hccl.json").write_text(json.dumps(version_1(2)))
    executable(tmp_path / "rank python", PROGRAM)
    return tmp_path


def host(node, **environment):
    values = {"PATH": str(node / "bin"), "TEST_LOG": str(node / "log"), "TEST_PROGRAM": str(node / "rank python")}
    values.update(environment)
    return Host(environment=values, root=str(node / "nothing"), python=str(node / "rank python"))


def flags(node, *more):
    return ["--so_path", str(node / "sdk/mx_rec/libasc"), "--rec_package_path", str(node / "sdk/mx_rec")] + list(more)


def table_flags(node, *more):
    return flags(node, "--hccl_cfg_json", str(node / "hccl.json"), *more)


def records(node, rank):
    with open(str(node / "log") + ".%d" % rank, encoding="utf-8") as stream:
        return [json.loads(line) for line in stream]


@pytest.fixture
def ready(monkeypatch):
    monkeypatch.setattr(preflight, "check", lambda *_arguments: [Row("ok", "everything", "here")])


def dry_run(node, *arguments, device="npu", command="train", **environment):
    stream = io.StringIO()
    chosen = Host(environment=dict({"PATH": ""}, **environment), root=str(node / "nothing"), python="/opt/python3.7")
    assert launch.launch(list(arguments) + ["--dry_run"], "runs/default", chosen, stream=stream,
                         device=device, command=command) == 0
    return stream.getvalue().replace(str(node), "/NODE").replace(PROJECT, "/PROJECT")


def test_dry_run_with_a_rank_table(node):
    assert dry_run(node, *table_flags(node, "--device", "npu", "--data_dir", "/data/a b", "--batch_size", "64",
                                      "--fresh")) == RANK_TABLE_TEXT


def test_dry_run_without_a_rank_table(node):
    text = dry_run(node, *flags(node, "--ip", "192.0.2.10", "--data_dir", "data"), RANK_TABLE_FILE="/old",
                   LD_PRELOAD="")
    assert text == RANK_TABLE_FREE_TEXT


def test_dry_run_of_one_host_with_eight_devices_and_a_rank_table(node):
    (node / "hccl.json").write_text(json.dumps(version_1(8)))
    eight = RANK_TABLE_TEXT.replace("2 ranks", "8 ranks").replace("RANK_SIZE=2", "RANK_SIZE=8").replace(
        "-np 2", "-np 8").replace("localhost:2", "localhost:8")
    assert dry_run(node, *table_flags(node, "--data_dir", "/data/a b", "--batch_size", "64", "--ranks", "8")) == eight


def test_dry_run_of_two_hosts_with_a_rank_table(node):
    executable(node / "bin/mpirun", RUNNER)
    (node / "hccl.json").write_text(json.dumps(two_servers()))
    assert dry_run(node, *table_flags(node, "--hosts", TWO_HOSTS, "--network_interface", "eth0", "--data_dir", "data"),
                   ASCEND_OPP_PATH="/opp", PATH=str(node / "bin")) == TWO_HOSTS_TABLE_TEXT


def test_dry_run_of_two_hosts_without_a_rank_table(node):
    arguments = flags(node, "--hosts", TWO_HOSTS, "--data_dir", "data")
    assert dry_run(node, *arguments, ASCEND_OPP_PATH="/opp", CM_WORKER_IP="x") == TWO_HOSTS_FREE_TEXT
    assert dry_run(node, *arguments + ["--ip", "192.0.2.10", "--ranks", "16"],
                   ASCEND_OPP_PATH="/opp") == TWO_HOSTS_FREE_TEXT


def test_dry_run_of_cpus(node):
    assert dry_run(node, "--hosts", "h1:4,h2:4", "--network_interface", "eth0", "--device", "cpu", "--model_dir",
                   "runs/x", device="cpu", command="eval", RANK_TABLE_FILE="/stale") == CPU_TEXT


def test_the_positional_form_is_the_same_launch(node):
    paths = [str(node / "sdk/mx_rec/libasc"), str(node / "sdk/mx_rec"), str(node / "hccl.json"), "data"]
    expanded = launch.expand_positional(["train"] + paths + ["192.0.2.10"])
    assert dry_run(node, *expanded[1:]) == RANK_TABLE_FREE_TEXT
    expanded = launch.expand_positional(["train"] + paths[:3] + ["/data/a b", "--batch_size", "64"])
    assert dry_run(node, *expanded[1:]) == RANK_TABLE_TEXT


def test_a_dry_run_is_a_shell_script_that_sets_what_the_ranks_get(node, ready):
    executable(node / "bin/mpirun", RUNNER)
    (node / "hccl.json").write_text(json.dumps(version_1(1)))
    text = io.StringIO()
    launch.launch(table_flags(node, "--dry_run", "--data_dir", "it's; $HOME"), "runs/x", host(node), stream=text)
    # The shell's own search of programs, so that the script's last line finds the stand-in.
    subprocess.run(["/bin/sh", "-c", text.getvalue()], check=True, timeout=120, env=dict(host(node).environment,
                                                                                       CM_CHIEF_IP="stale"))
    launch.launch(table_flags(node, "--data_dir", "it's; $HOME"), "runs/x", host(node, CM_CHIEF_IP="stale"),
                  stream=io.StringIO())
    by_shell, by_launch = records(node, 0)
    assert by_shell["arguments"] == by_launch["arguments"]
    assert by_launch["arguments"][-1] == "it's; $HOME"
    for record in (by_shell, by_launch):
        for name in ("PWD", "SHLVL", "_", "OLDPWD", "ESTIMATOR_LAUNCHER"):
            record["environment"].pop(name, None)
    assert by_shell["environment"] == by_launch["environment"]
    assert "CM_CHIEF_IP" not in by_launch["environment"]


def test_a_dry_run_on_another_machine_notes_what_is_not_there(node):
    stream = io.StringIO()
    assert launch.launch(["--so_path", "/none/libasc", "--rec_package_path", "/none", "--hccl_cfg_json", "/none/h.json",
                          "--ranks", "4", "--dry_run"], "/etc/x", host(node), stream=stream) == 0
    notes = [line for line in stream.getvalue().splitlines() if line.startswith("# note: ")]
    assert len(notes) == 4 and "--so_path /none/libasc is not a directory" in notes[0]
    assert "4 ranks" in stream.getvalue() and "-np 4" in stream.getvalue()


def test_mpirun_takes_the_place_of_horovodrun(node):
    executable(node / "bin/mpirun", RUNNER)
    options, rest = launch.split_arguments(table_flags(node, "--mpi_args=-mca 'a b' c", "--threads", "2"))
    environment = compose(options, host(node))
    line = runners.command_line(options, environment, host(node), "estimator_app", ["train"] + rest)
    assert line[:9] == ("mpirun", "--allow-run-as-root", "--tag-output", "-np", "2", "-H", "localhost:2", "-bind-to",
                        "none")
    assert line[9:12] == ("-mca", "a b", "c")
    exported = [line[index + 1] for index, word in enumerate(line) if word == "-x"]
    assert exported == sorted(environment.values) + ["ESTIMATOR_LAUNCHER"]
    assert line[-7:] == (str(node / "rank python"), "-m", "estimator_app.launch.rank", "estimator_app", "train",
                         "--threads", "2")
    executable(node / "bin/horovodrun", RUNNER)
    line = runners.command_line(options, environment, host(node), "estimator_app", ["train"])
    assert line[:6] == ("horovodrun", "--network-interface", "lo", "-np", "2", "--mpi-args=-bind-to none -mca 'a b' c")


@pytest.mark.parametrize("text, words", [
    ("-np 4", "-np 4 contradicts what the launch writes; use --ranks"), ("--n 4", "use --ranks"),
    ("--host=a:2", "use --hosts"), ("-hostfile f", "use --hosts"), ("--map-by node", "use --hosts"),
    ("--bind-to core", "leave it out"), ("--timestamp-output", "leave it out"), (": -np 1 x", "second program"),
    ("-x RANK_TABLE_FILE=/other", "which sets RANK_TABLE_FILE"), ("-x CM_CHIEF_IP", "which removes CM_CHIEF_IP"),
    ("-x JOB_ID=7", "which sets JOB_ID")])
def test_arguments_for_mpirun_that_contradict_the_launch(node, text, words):
    with pytest.raises(ConfigError, match=words) as caught:
        launch.launch(table_flags(node, "--dry_run", "--mpi_args=" + text), "runs/x", host(node), stream=io.StringIO())
    assert "\n" not in str(caught.value) and "--mpi_args" in str(caught.value)


@pytest.mark.parametrize("text", ["-bind-to none", "-mca btl_tcp_if_exclude docker0", "-x NCCL_SOCKET_IFNAME=docker0",
                                  "-x JOB_ID", "-x BIND_INFO=0:48 --report-bindings"])
def test_arguments_for_mpirun_that_may_be_added(node, text):
    assert shlex.quote("--mpi-args=-bind-to none " + text) in dry_run(node, *table_flags(node, "--mpi_args=" + text))


def test_the_loopback_joins_no_hosts(node):
    with pytest.raises(ConfigError, match="--network_interface lo joins no two hosts"):
        dry_run(node, *flags(node, "--hosts", TWO_HOSTS, "--network_interface", "lo"))


def test_ranks_on_cpus_without_horovod(node):
    with pytest.raises(ConfigError, match="`bash run_estimator.sh setup --distributed`") as caught:
        launch.launch(["--ranks", "2"], "runs/x", host(node), stream=io.StringIO(), device="cpu")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("flag", ["--so_path", "--rec_package_path", "--hccl_cfg_json", "--ip"])
def test_flags_of_npus_on_cpus(node, flag):
    with pytest.raises(ConfigError, match="%s is for the launch on NPUs" % flag):
        launch.launch(["--ranks", "2", flag, "x"], "runs/x", host(node), stream=io.StringIO(), device="cpu")
    with pytest.raises(ConfigError, match="--mpi_args is for the launch on NPUs"):
        dry_run(node, "--ranks", "2", "--mpi_args=-v", device="cpu")


def test_splitting():
    given = ["--device", "npu", "--so_path=/a", "--rec_package_path", "/b", "--ip", "192.0.2.1", "--fresh", "--debug",
             "--ranks", "4", "--use_dynamic", "false", "--model_dir=/m", "--network_interface", "eth0"]
    options, rest = launch.split_arguments(given)
    assert rest == ["--debug", "--use_dynamic", "false", "--model_dir=/m"]
    assert (options.so_path, options.ip, options.ranks, options.network_interface) == ("/a", "192.0.2.1", 4, "eth0")


def test_paths_become_absolute():
    options, _ = launch.split_arguments(["--so_path", "a", "--rec_package_path", "b", "--hccl_cfg_json", "c"])
    assert options.hccl_cfg_json == os.path.abspath("c") and options.so_path == os.path.abspath("a")


@pytest.mark.parametrize("arguments, words", [
    ([], "--device npu needs --so_path"), (["--so_path", "/a"], "needs --rec_package_path"),
    (["--so_path", "/a", "--rec_package_path", "/b"], "neither --hccl_cfg_json nor --ip"),
    (["--so_path", "/a", "--rec_package_path", "/b", "--ip", "192.0.2.1"], "--so_path /a is not a directory")])
def test_incomplete_launches(node, arguments, words):
    with pytest.raises(ConfigError, match=words) as caught:
        launch.launch(arguments, "runs/x", host(node), stream=io.StringIO())
    assert "\n" not in str(caught.value)


def test_an_impossible_model_directory_is_refused_before_anything_starts(node):
    with pytest.raises(ConfigError, match="saves no tables under /etc"):
        launch.launch(table_flags(node), "/etc/model", host(node), stream=io.StringIO())


@pytest.mark.parametrize("arguments", [["train"], ["train", "--device", "npu"], ["eval", "a", "b"], [],
                                       ["train", "--data_dir", "x"]])
def test_other_command_lines_stay(arguments):
    assert launch.expand_positional(arguments) == arguments


def test_the_positional_form_in_full():
    assert launch.expand_positional(["train", "s", "r", "h", "d", "192.0.2.1", "--seed", "1"]) == [
        "train", "--device", "npu", "--so_path", "s", "--rec_package_path", "r", "--ip", "192.0.2.1", "--data_dir", "d",
        "--seed", "1"]
    assert "--hccl_cfg_json" in launch.expand_positional(["train", "s", "r", "h", "d", ""])
    for count in (1, 2, 3, 6):
        with pytest.raises(ConfigError, match="not one of train's flags.*so_path rec_package_path"):
            launch.expand_positional(["train"] + ["x"] * count)


def test_who_is_a_rank():
    assert launch.inside_launch({"OMPI_COMM_WORLD_RANK": "0"})
    assert not launch.inside_launch({}) and not launch.inside_launch({"OMPI_COMM_WORLD_RANK": ""})


def test_who_was_launched_here():
    assert launch.launched_here({"OMPI_COMM_WORLD_RANK": "0", "ESTIMATOR_LAUNCHER": "127.0.0.1:1:x"})
    assert not launch.launched_here({"OMPI_COMM_WORLD_RANK": "0"})


@pytest.mark.parametrize("arguments, expected", [([], False), (["--ranks", "1"], False), (["--ranks", "2"], True),
                                                 (["--hosts", "h:1"], True)])
def test_who_wants_ranks(arguments, expected):
    parser = argparse.ArgumentParser()
    add_launch_arguments(parser)
    assert launch.wants_ranks(parser.parse_args(arguments)) == expected
    with pytest.raises(ConfigError, match="--ranks -1; allowed: a number from 1 on"):
        launch.wants_ranks(parser.parse_args(["--ranks", "-1"]))


def test_every_rank_gets_environment_and_arguments(node, ready):
    executable(node / "bin/horovodrun", RUNNER)
    assert launch.launch(table_flags(node, "--data_dir", "d"), "runs/x", host(node), stream=io.StringIO()) == 0
    for rank in range(2):
        record, = records(node, rank)
        assert record["arguments"] == ["-m", "estimator_app.launch.rank", "estimator_app", "train", "--device", "npu",
                                       "--data_dir", "d"]
        assert record["environment"]["RANK_TABLE_FILE"] == str(node / "hccl.json")
        assert record["environment"]["OMPI_COMM_WORLD_RANK"] == str(rank)
        assert launch.launched_here(record["environment"])


def test_phases_run_one_after_the_other_until_one_fails(node, ready):
    executable(node / "bin/mpirun", RUNNER)

    def stages(ranks, arguments):
        assert ranks == 2
        return [["train"] + arguments + ["--phase", phase] for phase in ("train:0:4", "eval:4", "train:4:8", "eval:8")]

    assert launch.launch(table_flags(node), "runs/x", host(node), stages, stream=io.StringIO()) == 0
    phases = [record["arguments"][-1] for record in records(node, 1)]
    assert phases == ["train:0:4", "eval:4", "train:4:8", "eval:8"]
    (node / "log.1").unlink()
    assert launch.launch(table_flags(node), "runs/x", host(node, TEST_STATUS="7"), stages, stream=io.StringIO()) == 7
    assert len(records(node, 1)) == 1


def test_a_phase_is_asked_for_when_the_one_before_has_ended(node, ready):
    executable(node / "bin/mpirun", RUNNER)
    finished = []

    def stages(_ranks, arguments):
        for number in range(2):
            finished.append(os.path.exists(str(node / "log.0")))
            yield ["train", "--phase", str(number)] + arguments

    assert launch.launch(table_flags(node), "runs/x", host(node), stages, stream=io.StringIO()) == 0
    assert finished == [False, True] and len(records(node, 0)) == 2


def test_the_lock_is_held_from_the_start_to_the_end(node, ready):
    executable(node / "bin/mpirun", RUNNER)
    events = []

    @contextlib.contextmanager
    def lock():
        events.append("too late" if os.path.exists(str(node / "log.0")) else "locked")
        yield
        events.append("free" if os.path.exists(str(node / "log.0")) else "too early")

    launch.launch(table_flags(node), "runs/x", host(node), stream=io.StringIO(), lock=lock())
    assert events == ["locked", "free"]
    launch.launch(table_flags(node, "--dry_run"), "runs/x", host(node), stream=io.StringIO(), lock=lock())
    assert len(events) == 2


def test_phases_that_cannot_be_planned(node, ready):
    def stages(_ranks, _arguments):
        raise UserError("no data")

    stream = io.StringIO()
    assert launch.launch(table_flags(node, "--dry_run"), "runs/x", host(node), stages, stream=stream) == 0
    assert "# note: the evaluations cannot be planned (no data)" in stream.getvalue()
    with pytest.raises(UserError, match="no data"):
        launch.launch(table_flags(node), "runs/x", host(node), stages, stream=io.StringIO())


def test_the_preflight_stops_a_launch(node):
    stream = io.StringIO()
    executable(node / "bin/mpirun", RUNNER)
    assert launch.launch(table_flags(node), "runs/x", host(node), stream=stream) == 1
    assert "missing" in stream.getvalue() and not os.path.exists(str(node / "log.runner"))


def test_no_shell_and_no_killing_in_the_sources():
    folder = os.path.join(PROJECT, "estimator_app", "launch")
    for name in os.listdir(folder):
        if not name.endswith(".py"):
            continue
        with open(os.path.join(folder, name), encoding="utf-8") as stream:
            text = stream.read().replace("os.kill(os.getpid(), ", "")
        assert not re.search(r"shell=True|os\.system|os\.popen|killpg|os\.kill|pkill|killall", text), name


def test_rendered_words_survive_a_shell(node):
    text = dry_run(node, *table_flags(node, "--data_dir", "a'b \"c\" $d `e`"))
    assert shlex.split(text.splitlines()[-1])[-1] == "a'b \"c\" $d `e`"
