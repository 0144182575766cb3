"""Runs the real command line in a process of its own."""
import os
import subprocess
import sys

PROJECT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def run_app(*arguments, cwd, timeout=300, environment=None, check=True):
    """Runs ``python -m estimator_app`` and returns the finished process (text streams)."""
    env = dict(os.environ, PYTHONPATH=PROJECT, TF_CPP_MIN_LOG_LEVEL="2", PYTHONWARNINGS="ignore::FutureWarning")
    env.update(environment or {})
    done = subprocess.run([sys.executable, "-m", "estimator_app"] + [str(item) for item in arguments], cwd=str(cwd),
                          env=env, capture_output=True, text=True,
                          timeout=timeout)
    if check and done.returncode:
        raise AssertionError("exit status %d\n%s\n%s" % (done.returncode, done.stdout, done.stderr))
    return done
