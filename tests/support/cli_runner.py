"""Runs the real command line in a process of its own."""
import os
import subprocess
import sys

from feature_specs.files import PROJECT


def run_app(*arguments, cwd, timeout=300, environment=None, check=True):
    """Runs ``python -m estimator_app`` and returns the finished process (text streams)."""
    done = subprocess.run(_command(arguments), cwd=str(cwd), env=_environment(environment), capture_output=True,
                          text=True, timeout=timeout)
    if check and done.returncode:
        raise AssertionError("exit status %d\n%s\n%s" % (done.returncode, done.stdout, done.stderr))
    return done


def start_app(*arguments, cwd, **options):
    """Starts the command and returns the process, whose standard error goes to its standard output."""
    return subprocess.Popen(_command(arguments), cwd=str(cwd), env=_environment(), stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, text=True, **options)


def _command(arguments):
    return [sys.executable, "-m", "estimator_app"] + [str(item) for item in arguments]


def _environment(changes=None):
    return dict(os.environ, PYTHONPATH=PROJECT, TF_CPP_MIN_LOG_LEVEL="2", PYTHONWARNINGS="ignore::FutureWarning",
                **(changes or {}))
