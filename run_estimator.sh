#!/usr/bin/env bash
# The one entry point of the project: prepares a Python environment once, then runs a command in it.
#
#   bash run_estimator.sh <command> [flags...]        "bash run_estimator.sh help" lists the commands
#
# Flags after the command go, untouched, to `python -m estimator_app <command>`; relative paths in them mean what they
# mean in the caller's working directory. The exit status is that of the Python program.
#
# Environment variables (all optional; docs/installation.md explains them):
#   PYTHON                 interpreter to try first (CPython 3.7; with --device npu: the host's Python)
#   ESTIMATOR_VENV         where the virtual environment lives       default: <project>/.venv
#   TF2_PYTHON             a Python with TensorFlow 2, for the test of exported models
#                                                                    default: <project>/.venv-tf2/bin/python if it exists
#   ESTIMATOR_NO_DOWNLOAD  1: no Python is fetched where none is found
#   ESTIMATOR_PYTHON_DIRS  colon-separated folders (globs allowed) searched last for python3.7
#   PYENV_ROOT             pyenv's folder                            default: ~/.pyenv
#   CONDA_PREFIX           an active conda environment, searched for python3.7
#   JAVA_HOME, CXX         Java for `setup --spark`; the C++ compiler for `setup --distributed`
#   XDG_CACHE_HOME         where the wheel that `setup --distributed` builds is kept   default: ~/.cache
#   UV_PYTHON_INSTALL_MIRROR   where a fetched Python comes from
#   TF_CPP_MIN_LOG_LEVEL   TensorFlow's C++ log level                default: 2 (warnings are hidden)
#   PYTHONWARNINGS         Python's warning filter                   default: ignore::FutureWarning
#   PIP_*                  pip's own settings (index, proxy, cache) are honoured; install locations are not
#
# Written for bash 3.2 and newer: no associative arrays, no mapfile, guarded expansion of empty arrays.
set -euo pipefail

readonly PROG=run_estimator.sh
readonly PACKAGES='estimator_app feature_specs input_fn preprocessing rec_sdk_cpu benchmarks'
readonly APP_COMMANDS='prepare describe train eval predict export tune bench preflight'
readonly COMMANDS="setup $APP_COMMANDS test lint help"

say() { printf '%s: %s\n' "$PROG" "$*" >&2; }
die() {
  say "$@"
  exit 1
}

# Prints the project's folder: that of this script, with symbolic links followed.
find_root() {
  local source=$1 target
  while [[ -L $source ]]; do
    target=$(readlink "$source")
    case $target in
      /*) source=$target ;;
      *) source=$(dirname -- "$source")/$target ;;
    esac
  done
  case $source in
    */*) ;;
    *) source=./$source ;;
  esac
  (CDPATH='' cd -P -- "${source%/*}/" && pwd)
}

# Python puts the working directory before the project on its path when it runs a module; refuse where that would run
# somebody else's package of the same name.
check_shadowing() {
  local name
  if [[ $PWD == "$ROOT" || $PWD -ef $ROOT ]]; then return 0; fi
  for name in $PACKAGES; do
    if [[ -e $PWD/$name/__init__.py || -e $PWD/$name.py ]]; then
      die "the working directory has its own '$name', which Python would import in place of the project's;" \
        "run from another folder"
    fi
  done
}

export_environment() {
  export PYTHONPATH="$ROOT${PYTHONPATH:+:$PYTHONPATH}"
  export TF_CPP_MIN_LOG_LEVEL="${TF_CPP_MIN_LOG_LEVEL-2}"
  export PYTHONWARNINGS="${PYTHONWARNINGS-ignore::FutureWarning}" # TensorFlow 1.15 prints dozens of them on import
}

run_app() {
  local python
  check_shadowing
  if wants_npu "$@"; then
    if ! find_host_python "$@"; then
      die "--device npu runs with the host's Python, and none with TensorFlow was found; tried $(tried)." \
        "Load the vendor's environment first, or set PYTHON=/path/to/python3.7"
    fi
    python=$FOUND_PYTHON
  else
    ensure_env requirements.txt
    python=$VENV/bin/python
    unset PYTHONHOME # it would send the environment's interpreter to another standard library
  fi
  export_environment
  exec "$python" -m estimator_app "$@"
}

main() {
  local command=${1:-} nearest
  if (($#)); then shift; fi
  case $command in
    '')
      usage >&2
      exit 2
      ;;
    help | -h | --help)
      if (($#)) && [[ $1 != help && $1 != -* ]]; then
        main "$1" --help
      else
        usage
      fi
      ;;
    --version) version ;;
    setup) run_setup "$@" ;;
    test) run_test "$@" ;;
    lint) run_lint "$@" ;;
    *)
      if [[ " $APP_COMMANDS " != *" $command "* ]]; then
        nearest=$(nearest_command "$command")
        if [[ -n $nearest ]]; then nearest="; did you mean '$nearest'"; fi
        say "unknown command '$command'$nearest; 'bash $PROG help' lists the commands"
        exit 2
      fi
      run_app "$command" "$@"
      ;;
  esac
}

ROOT=$(find_root "${BASH_SOURCE[0]}")
VENV=${ESTIMATOR_VENV:-$ROOT/.venv}
case $VENV in
  /*) ;;
  *) VENV=$PWD/$VENV ;;
esac
VENV=${VENV%/}
STAMP=$VENV/.estimator-stamp
TF2_VENV=$VENV-tf2
RECREATE=0 # set by `setup --recreate`: an existing environment does not count
readonly ROOT VENV STAMP TF2_VENV
# shellcheck source=scripts/find_python.sh
source "$ROOT/scripts/find_python.sh"
# shellcheck source=scripts/get_python.sh
source "$ROOT/scripts/get_python.sh"
# shellcheck source=scripts/environment.sh
source "$ROOT/scripts/environment.sh"
# shellcheck source=scripts/extras.sh
source "$ROOT/scripts/extras.sh"
# shellcheck source=scripts/host_python.sh
source "$ROOT/scripts/host_python.sh"
# shellcheck source=scripts/commands.sh
source "$ROOT/scripts/commands.sh"
main "$@"
