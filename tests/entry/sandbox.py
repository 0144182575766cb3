"""A copy of the project with stand-ins for Python and pip: nothing is installed."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

from feature_specs import files

PROJECT = Path(files.PROJECT)
BASH = shutil.which("bash")
TOOLS = (
    "basename bash cat chmod cp date dirname env flock grep ls mkdir mktemp mv readlink rm sed sha256sum sleep sort "
    "tail tee timeout touch uname"
).split()

# A stand-in for a Python interpreter. It answers the script's probes, makes "virtual environments" that hold a copy
# of itself, and writes each call to $FAKE_LOG. $FAKE_PIP and $FAKE_APP are run in place of pip and of the app,
# $FAKE_FETCH in place of scripts/fetch_wheel.py, $FAKE_BUILD in place of building a wheel in $dir.
FAKE_PYTHON = r"""#!%s
probe='%s'
host='%s'
all="$*"
echo "${*//$'\n'/ }" >>"$FAKE_LOG"
case "$*" in
  *ensurepip*) echo "$probe" ;;
  *'import sys, pip'*) echo "${probe%% 64-bit*}" ;;
  '-I -c'*find_spec*) echo "$host" ;;
  '-c'*find_spec*) [[ $host == tensorflow ]] ;;
  '-I -m venv '*) mkdir -p "$4/bin" && cp "$0" "$4/bin/python" && : >"$4/pyvenv.cfg" ;;
  '-I -m pip --version') echo "${FAKE_PIP_VERSION:-pip 24.0 from nowhere (python 3.7)}" ;;
  '-I -c import sys; sys.exit('*) exit 0 ;;
  '-I -m pip install '*uv.txt)
    target=${all#*--target }
    target=${target%%%% -r *}
    mkdir -p "$target/bin" && cp "$FAKE_UV" "$target/bin/uv"
    ;;
  '-I '*fetch_wheel.py*)
    target=$4
    eval "${FAKE_FETCH:-false}"
    ;;
  '-m pip wheel '*)
    dir=${all#*--wheel-dir }
    dir=${dir%%%% -r *}
    eval "${FAKE_BUILD:-touch \"\$dir/horovod-1.whl\"}"
    ;;
  *'import horovod'*) eval "${FAKE_HOROVOD:-true}" ;;
  '-I -m pip install '*) eval "${FAKE_PIP:-true}" ;;
  *'import tensorflow') exit "${FAKE_TF_STATUS:-0}" ;;
  '-m estimator_app '*)
    shift 2
    { printf '%%s\n' "cwd=$PWD" "path=$PYTHONPATH" "python=$0" "warnings=$PYTHONWARNINGS" "tflog=$TF_CPP_MIN_LOG_LEVEL"
      printf 'arg=%%s\n' "$@"; } >"$FAKE_LOG.app"
    eval "${FAKE_APP:-true}"
    ;;
  '-m pytest '*)
    shift 2
    { printf '%%s\n' "census=${CENSUS_KDD_DIR:-}" "tf2=${TF2_PYTHON:-}"
      printf 'arg=%%s\n' "$@"; } >"$FAKE_LOG.app"
    echo 'slowest durations'
    echo '3 passed, 1 skipped in 0.12s'
    ;;
  '-m ruff '* | '-m mypy '*) eval "${FAKE_LINT:-true}" ;;
  *) exit 99 ;;
esac
"""
DISTRIBUTED = """cloud==1 \\
    --hash=sha256:00
    # via horovod
cmake==3 \\
    --hash=sha256:01 \\
    --hash=sha256:02
horovod==0.28.1 \\
    --hash=sha256:03
psutil==5 \\
    --hash=sha256:04
"""
GOOD = "cpython 3.7 64-bit"


class Sandbox:
    """A copy of the project in a folder of its own, and an environment in which only stand-ins can be found."""

    def __init__(self, folder):
        self.folder = folder
        self.project = folder / "the project"
        self.tools = folder / "tools"
        self.bin = folder / "bin"
        self.work = folder / "work dir"
        self.log = folder / "calls"
        for path in (self.project / ".ci", self.tools, self.bin, self.work, folder / "home"):
            path.mkdir(parents=True)
        for name in TOOLS:
            found = shutil.which(name)
            if found:
                (self.tools / name).symlink_to(found)
        shutil.copy(str(PROJECT / "run_estimator.sh"), str(self.project))
        shutil.copytree(str(PROJECT / "scripts"), str(self.project / "scripts"))
        (self.project / "estimator_app").mkdir()
        shutil.copy(str(PROJECT / "estimator_app" / "__init__.py"), str(self.project / "estimator_app"))
        shutil.copy(str(PROJECT / ".ci" / "run"), str(self.project / ".ci"))
        (self.project / "requirements.txt").write_text(
            "one==1 --hash=sha256:00\ntensorflow==1.15.5 \\\n    --hash=sha256:01\n")
        (self.project / "requirements-dev.txt").write_text("one==1 --hash=sha256:00\ntwo==2 --hash=sha256:00\n")
        (self.project / "requirements-tf2.txt").write_text("three==3 --hash=sha256:00\n")
        (self.project / "requirements-peers.txt").write_text("four==4 --hash=sha256:00\n")
        (self.project / "requirements-peers-tf2.txt").write_text("five==5 --hash=sha256:00\n")
        (self.project / "requirements-spark.txt").write_text("pyspark==4 --hash=sha256:00\n")
        (self.project / "requirements-distributed.txt").write_text(DISTRIBUTED)
        (self.project / "tests").mkdir()
        self.env = {
            "PATH": "%s:%s" % (self.bin, self.tools),
            "HOME": str(folder / "home"),
            "TMPDIR": str(folder),
            "ESTIMATOR_PYTHON_DIRS": "",
            "FAKE_LOG": str(self.log),
        }

    @property
    def stamp(self):
        return self.project / ".venv" / ".estimator-stamp"

    def fake(self, path, probe=GOOD, host="bare"):
        """Writes a stand-in interpreter to `path` (absolute, or relative to the folder on PATH)."""
        return self.program(path, FAKE_PYTHON % (BASH, probe, host))

    def program(self, path, text):
        path = self.bin / path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)
        return path

    def shim(self, path="python3.7"):
        """A pyenv shim of a version that is installed but not selected."""
        return self.program(path, "#!%s\necho 'pyenv: python3.7: command not found' >&2\nexit 127\n" % BASH)

    def start(self, *args, script=None, cwd=None, **env):
        return subprocess.Popen(
            [BASH, str(script or self.project / "run_estimator.sh")] + list(args),
            cwd=str(cwd or self.work),
            env=dict(self.env, **env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            universal_newlines=True,
            start_new_session=True,
        )

    def start_until(self, mark, *args, **kwargs):
        """Starts the script and returns when it, or a stand-in that it runs, has made the file `mark`."""
        process = self.start(*args, **kwargs)
        deadline = time.time() + 60
        while not mark.exists() and time.time() < deadline:
            time.sleep(0.02)
        return process

    def run(self, *args, **kwargs):
        process = self.start(*args, **kwargs)
        try:
            process.out, process.err = process.communicate(timeout=120)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        return process

    def calls(self, text=""):
        """The stand-ins' calls so far that contain `text`."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [line for line in lines if text in line]

    def app(self):
        """What the app saw: {"cwd": ..., "path": ..., "python": ...} and its arguments."""
        lines = Path(str(self.log) + ".app").read_text().splitlines()
        pairs = [line.split("=", 1) for line in lines]
        return dict(p for p in pairs if p[0] != "arg"), [p[1] for p in pairs if p[0] == "arg"]

    def forget(self):
        self.log.write_text("")
