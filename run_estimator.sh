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
#   ESTIMATOR_PYTHON_DIRS  colon-separated folders (globs allowed) searched last for python3.7
#   PYENV_ROOT             pyenv's folder                            default: ~/.pyenv
#   CONDA_PREFIX           an active conda environment, searched for python3.7
#   TF_CPP_MIN_LOG_LEVEL   TensorFlow's C++ log level                default: 2 (warnings are hidden)
#   PYTHONWARNINGS         Python's warning filter                   default: ignore::FutureWarning
#   PIP_*                  pip's own settings (index, proxy, cache) are honoured; install locations are not
#
# Written for bash 3.2 and newer: no associative arrays, no mapfile, guarded expansion of empty arrays.
set -euo pipefail

readonly PROG=run_estimator.sh
# A wheel tagged for a recent glibc is invisible to an older pip; such a pip is replaced by this one.
readonly PIP_PIN='pip==24.0 --hash=sha256:ba0d021a166865d2265246961bec0152ff124de910c5cc39f1156ce3fa7c69dc'
readonly PIP_OLDEST=2003 # 20.3, as major * 100 + minor
readonly PACKAGES='estimator_app feature_specs input_fn preprocessing rec_sdk_cpu benchmarks'

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

usage() {
  cat <<'TEXT'
usage: bash run_estimator.sh <command> [flags...]

  setup      make the Python environment and install the pinned packages (--dev: also test and lint tools;
             --tf2: also TensorFlow 2 on another Python, for the test of exported models; --recreate: start anew)
  prepare    raw census text -> TFRecord shards and manifest
  train      train, evaluating at every checkpoint; with no data given, on a generated sample
  eval       evaluate the latest checkpoint and print one JSON line
  predict    score raw census text into a CSV file
  export     write a self-contained SavedModel and check it
  tune       search hyper-parameters on validation rows of the training file; resumable
  bench      measure speed against a baseline
  preflight  list what a run needs and what is missing (--device npu: on an NPU host)
  test       run the tests (--long: also those that take minutes; other flags go to pytest)
  lint       run the linter and the type checker ("lint ruff" or "lint mypy" for one of them)
  help       this text; "<command> --help" lists a command's flags with defaults and units

Every command installs what it needs the first time. With "--device npu" the host's own Python is used and nothing
is installed. docs/installation.md has the details.
TEXT
}

# ---------------------------------------------------------------------------------------------------------------------
# Finding CPython 3.7

TRIED=()        # what was looked at and why it was passed over, in order
FOUND_PYTHON='' # the result

# Runs an interpreter bounded in time, cut off from the caller's input and from PYTHON* variables.
run_probe() {
  local limit=()
  if command -v timeout >/dev/null 2>&1; then limit=(timeout 20); fi
  ${limit[@]+"${limit[@]}"} "$1" -I -c "$2" </dev/null 2>/dev/null
}

# Succeeds and sets FOUND_PYTHON if $1 runs and is a 64-bit CPython 3.7 that can make virtual environments.
# Otherwise records the reason under the name $2.
try_python() {
  local candidate=$1 name=$2 answer
  case $candidate in
    "$VENV"/*) return 1 ;; # the environment cannot be made from itself
  esac
  answer=$(run_probe "$candidate" '
import sys
missing = []
for name in ("ssl", "venv", "ensurepip"):
    try:
        __import__(name)
    except ImportError:
        missing.append(name)
print("%s %d.%d %d-bit%s" % (sys.implementation.name, sys.version_info[0], sys.version_info[1],
                             64 if sys.maxsize > 2**32 else 32, " without " + ",".join(missing) if missing else ""))
') || answer='does not run'
  if [[ $answer == 'cpython 3.7 64-bit' ]]; then
    FOUND_PYTHON=$candidate
    return 0
  fi
  TRIED+=("$name ($(oneline "${answer:-does not run}"))")
  return 1
}

oneline() {
  local text=${1//$'\n'/ }
  printf '%s' "${text:0:60}"
}

# Tries each python3.7 that a shell pattern list finds; $1 names the source, the rest are existing or missing paths.
try_paths() {
  local name=$1 path seen=0
  shift
  for path in "$@"; do
    [[ -x $path && ! -d $path ]] || continue
    seen=1
    if try_python "$path" "$path"; then return 0; fi
  done
  if ((!seen)); then TRIED+=("$name (none)"); fi
  return 1
}

find_python37() {
  local path dir line roots=() paths=() old_ifs=$IFS

  if [[ -n ${PYTHON:-} ]]; then
    if path=$(type -P -- "$PYTHON"); then
      if try_python "$path" "PYTHON=$PYTHON"; then return 0; fi
      say "PYTHON=$PYTHON is not a 64-bit CPython 3.7 with ssl, venv and ensurepip; looking for another"
    else
      TRIED+=("PYTHON=$PYTHON (no such program)")
      say "PYTHON=$PYTHON does not exist; looking for another"
    fi
  fi

  # Every python3.7 on PATH, not only the first: a shim that refuses to run may hide a real one.
  while IFS= read -r path; do paths+=("$path"); done < <(type -aP python3.7 || true)
  if try_paths 'python3.7 on PATH' ${paths[@]+"${paths[@]}"}; then return 0; fi

  if [[ -n ${PYENV_ROOT:-} ]]; then roots+=("$PYENV_ROOT"); fi
  if [[ -n ${HOME:-} && ${PYENV_ROOT:-} != "$HOME/.pyenv" ]]; then roots+=("$HOME/.pyenv"); fi
  paths=()
  for dir in ${roots[@]+"${roots[@]}"}; do
    for path in "$dir"/versions/3.7*/bin/python3.7; do paths=("$path" ${paths[@]+"${paths[@]}"}); done
  done
  if try_paths pyenv ${paths[@]+"${paths[@]}"}; then return 0; fi

  if command -v uv >/dev/null 2>&1; then
    path=$(UV_PYTHON_DOWNLOADS=never uv python find --system 3.7 2>/dev/null </dev/null) || path=''
    if try_paths uv ${path:+"$path"}; then return 0; fi
  else
    TRIED+=('uv (not installed)')
  fi

  paths=()
  if [[ -n ${CONDA_PREFIX:-} ]]; then paths+=("$CONDA_PREFIX/bin/python3.7"); fi
  if command -v conda >/dev/null 2>&1; then
    while IFS= read -r line; do
      case $line in
        '#'* | '') ;;
        */*) paths+=("/${line#*/}/bin/python3.7") ;; # name, perhaps a star, then the absolute path
      esac
    done < <(conda env list 2>/dev/null </dev/null || true)
  fi
  if [[ -n ${HOME:-} && -r $HOME/.conda/environments.txt ]]; then
    while IFS= read -r line; do
      if [[ -n $line ]]; then paths+=("$line/bin/python3.7"); fi
    done <"$HOME/.conda/environments.txt"
  fi
  if try_paths conda ${paths[@]+"${paths[@]}"}; then return 0; fi

  paths=()
  local places=${ESTIMATOR_PYTHON_DIRS-/usr/local/bin:/usr/bin:/opt/python*/bin:/opt/python/cp37*/bin:/opt/homebrew/bin}
  IFS=:
  for dir in $places; do # unquoted: entries may be globs
    if [[ -n $dir ]]; then paths+=("$dir/python3.7"); fi
  done
  IFS=$old_ifs
  if try_paths "${places:-no further folders}" ${paths[@]+"${paths[@]}"}; then return 0; fi
  return 1
}

no_python() {
  local list='' item
  for item in ${TRIED[@]+"${TRIED[@]}"}; do list+="${list:+, }$item"; done
  die "no CPython 3.7 that runs was found; tried $list. Get one with 'pyenv install 3.7', 'uv python install 3.7'" \
    "or 'conda create -n py37 python=3.7', or set PYTHON=/path/to/python3.7"
}

# ---------------------------------------------------------------------------------------------------------------------
# The virtual environment

hash_of() {
  local line
  if command -v sha256sum >/dev/null 2>&1; then
    line=$(sha256sum <"$1")
  elif command -v shasum >/dev/null 2>&1; then
    line=$(shasum -a 256 <"$1")
  else
    line=$(cksum <"$1")
  fi
  printf '%s' "${line%% *}"
}

# Prints the stamp line that an up-to-date environment holds for a lock file.
stamp_line() {
  local lock=$1
  [[ -r $ROOT/$lock ]] || die "$ROOT/$lock is missing; restore it (git checkout -- $lock)"
  printf '%s %s' "$lock" "$(hash_of "$ROOT/$lock")"
}

# Succeeds if the environment is whole and the stamp holds the given line. Starts no Python.
is_current() {
  local stamp
  ((!RECREATE)) || return 1
  [[ -x $VENV/bin/python && -f $VENV/pyvenv.cfg && -r $STAMP ]] || return 1
  stamp=$(<"$STAMP")
  [[ $'\n'$stamp$'\n' == *$'\n'"$1"$'\n'* ]]
}

# Makes sure that $VENV holds the packages of lock file $1.
ensure_env() {
  local lock=$1 line
  line=$(stamp_line "$lock")
  if is_current "$line"; then return 0; fi

  mkdir -p -- "$(dirname -- "$VENV")" || die "cannot create the folder of $VENV; set ESTIMATOR_VENV to a writable place"
  if command -v flock >/dev/null 2>&1; then
    { exec 9>"$VENV.lock"; } 2>/dev/null || die "cannot write $VENV.lock; set ESTIMATOR_VENV to a writable place"
    if ! flock -n 9; then
      say "another run is setting up $VENV; waiting for it"
      flock 9
    fi
    line=$(stamp_line "$lock")
    if is_current "$line"; then
      exec 9>&-
      return 0
    fi
  fi

  make_venv
  install_lock "$lock"
  write_stamp "$lock" "$line"
  if command -v flock >/dev/null 2>&1; then exec 9>&-; fi
}

# Leaves a virtual environment with a Python 3.7 that runs in $VENV; keeps a good one, rebuilds a broken one.
make_venv() {
  local answer log=$VENV/.install.log
  if [[ -e $VENV || -L $VENV ]]; then
    answer=''
    if ((!RECREATE)) && [[ -f $VENV/pyvenv.cfg && -x $VENV/bin/python ]]; then
      answer=$(run_probe "$VENV/bin/python" '
import sys, pip
print("%s %d.%d" % ((sys.implementation.name,) + sys.version_info[:2]))') || answer=''
    fi
    if [[ $answer == 'cpython 3.7' ]]; then return 0; fi
    # Only what is known to be an environment of this project, or holds nothing, is ever deleted.
    if [[ $VENV != "$ROOT/.venv" && ! -e $VENV/.estimator-venv && -n $(ls -A -- "$VENV" 2>/dev/null || echo x) ]]; then
      die "$VENV is not a Python 3.7 environment that this script made or can use; remove it or change ESTIMATOR_VENV"
    fi
  fi

  find_python37 || no_python
  if [[ -e $VENV || -L $VENV ]]; then
    if [[ -n $(ls -A -- "$VENV" 2>/dev/null) ]]; then say "removing the old $VENV"; fi
    rm -rf -- "$VENV"
  fi
  say "making $VENV with $FOUND_PYTHON"
  mkdir -p -- "$VENV"
  : >"$VENV/.estimator-venv"
  if ! "$FOUND_PYTHON" -I -m venv "$VENV" >"$log" 2>&1 </dev/null; then
    show_tail "$log"
    die "$FOUND_PYTHON could not make a virtual environment (disk full? ensurepip missing?); set PYTHON to another CPython 3.7"
  fi
}

# Installs a hash-pinned lock file. The stamp is absent from the start to the end, so that a run that is interrupted
# anywhere is repeated by the next one.
install_lock() {
  local lock=$1 log=$VENV/.install.log total version
  rm -f -- "$STAMP"
  : >"$log"
  total=$(grep -c '^[A-Za-z0-9].*==' "$ROOT/$lock" || true)

  version=$("$VENV/bin/python" -I -m pip --version 2>/dev/null | sed -n 's/^pip \([0-9]*\)\.\([0-9]*\).*/\1 \2/p') || version=''
  if [[ -n $version ]] && ((10#${version% *} * 100 + 10#${version#* } < PIP_OLDEST)); then
    printf '%s\n' "$PIP_PIN" >"$VENV/.pip-pin.txt"
    pip_install "$VENV" "$log" 1 "$VENV/.pip-pin.txt" || install_failed "$log"
  fi

  say "installing $total pinned packages from $lock (once; some minutes on a slow connection)"
  pip_install "$VENV" "$log" "$total" "$ROOT/$lock" || install_failed "$log"

  if ! "$VENV/bin/python" -I -W ignore -c 'import tensorflow' >>"$log" 2>&1 </dev/null; then
    show_tail "$log"
    die "the packages are installed but TensorFlow does not import (its CPU build needs AVX and glibc 2.17); see $log"
  fi
}

# pip, quiet: everything goes to the log, and a terminal sees one line that counts packages.
pip_install() {
  local venv=$1 log=$2 total=$3 file=$4
  PIP_USER=0 PIP_NO_INPUT=1 env -u PIP_TARGET -u PIP_PREFIX -u PIP_ROOT \
    "$venv/bin/python" -I -m pip install --disable-pip-version-check --progress-bar off \
    --require-hashes -r "$file" </dev/null 2>&1 | show_progress "$log" "$total"
}

show_progress() {
  local log=$1 total=$2 line count=0 tty=0
  if [[ -t 2 ]]; then tty=1; fi
  while IFS= read -r line || [[ -n $line ]]; do
    printf '%s\n' "$line" >>"$log"
    if ((!tty)); then continue; fi
    case $line in
      Collecting* | 'Requirement already satisfied'*)
        count=$((count + 1))
        line=${line%% from *}
        printf '\r\033[K  %d/%d %s' "$((count < total ? count : total))" "$total" "$(oneline "${line%% in *}")" >&2
        ;;
      'Installing collected'*) printf '\r\033[K  unpacking %d packages' "$total" >&2 ;;
    esac
  done
  if ((tty)); then printf '\r\033[K' >&2; fi
}

show_tail() { tail -n "${2:-12}" -- "$1" | sed 's/^/  | /' >&2; }

install_failed() {
  local log=$1 hint='check the network, proxy and pip settings, then run the command again'
  if grep -q 'DO NOT MATCH THE HASHES' "$log"; then
    hint='a download differs from the pinned hash; check the package index in use, clear its cache (pip cache purge), try again'
  elif grep -qi 'no space left' "$log"; then
    hint='the disk is full; about 1.5 GB are needed'
  elif grep -qE 'No matching distribution|Could not find a version' "$log"; then
    case $(uname -s)-$(uname -m) in
      Linux-x86_64 | Darwin-x86_64) hint='the package index in use does not offer this version; check its settings' ;;
      *) hint="TensorFlow 1.15 has wheels for x86-64 only and this machine is $(uname -m); use an x86-64 machine or Python" ;;
    esac
  fi
  show_tail "$log"
  die "installing the packages failed: $hint (full log: $log)"
}

# The development lock contains the run-time lock, so that installing it brings both up to date.
write_stamp() {
  local lock=$1 line=$2
  printf '%s\n' "$line" >"$STAMP.tmp"
  if [[ $lock == requirements-dev.txt ]]; then printf '%s\n' "$(stamp_line requirements.txt)" >>"$STAMP.tmp"; fi
  mv -f -- "$STAMP.tmp" "$STAMP"
}

# ---------------------------------------------------------------------------------------------------------------------
# TensorFlow 2, which only a test needs: the client of an exported model

# Makes $TF2_VENV with TensorFlow 2. Where no Python for it is found, says so and succeeds: the test is skipped then.
ensure_tf2() {
  local lock=requirements-tf2.txt log=$TF2_VENV/.install.log line path answer python='' version
  line=$(stamp_line "$lock")
  if ((!RECREATE)) && [[ -x $TF2_VENV/bin/python && -r $TF2_VENV/.estimator-stamp ]] &&
    [[ $(<"$TF2_VENV/.estimator-stamp") == "$line" ]]; then return 0; fi
  for version in 3.11 3.10; do
    for path in $(type -aP "python$version" || true) \
      "${PYENV_ROOT:-${HOME:-}/.pyenv}"/versions/"$version"*/bin/"python$version"; do
      if [[ ! -x $path ]]; then continue; fi
      answer=$(run_probe "$path" 'import ensurepip, ssl, sys, venv; print("%d.%d" % sys.version_info[:2])') || answer=''
      if [[ $answer == "$version" ]]; then
        python=$path
        break 2
      fi
    done
  done
  if [[ -z $python ]]; then
    say "no Python 3.11 or 3.10 for TensorFlow 2 was found; the test that needs it will be skipped"
    return 0
  fi
  say "making $TF2_VENV with $python, for TensorFlow 2 (once)"
  rm -rf -- "$TF2_VENV"
  if ! "$python" -I -m venv "$TF2_VENV" </dev/null >&2; then die "$python could not make $TF2_VENV"; fi
  pip_install "$TF2_VENV" "$log" "$(grep -c '^[A-Za-z0-9].*==' "$ROOT/$lock")" "$ROOT/$lock" || install_failed "$log"
  printf '%s\n' "$line" >"$TF2_VENV/.estimator-stamp"
}

# ---------------------------------------------------------------------------------------------------------------------
# The host's Python, for NPUs

# Succeeds if the command line asks for an NPU: the last --device says npu, or it is the positional launch form
# `train so_path rec_package_path hccl_json data_path [ip]`.
wants_npu() {
  local command=$1 device='' arg previous=''
  shift
  if [[ $command == train && $# -gt 0 && $1 != -* ]]; then return 0; fi
  for arg in "$@"; do
    if [[ $previous == --device ]]; then device=$arg; fi
    case $arg in
      --device=*) device=${arg#--device=} ;;
    esac
    previous=$arg
  done
  [[ $device == npu ]]
}

# Succeeds if the command only looks or explains, so that a Python without TensorFlow will do.
only_looks() {
  local arg
  if [[ $1 == preflight ]]; then return 0; fi
  for arg in "$@"; do
    case $arg in
      --dry_run | --dry-run | --help | -h) return 0 ;;
    esac
  done
  return 1
}

# Sets FOUND_PYTHON to the host's Python for an NPU run. Never installs.
find_host_python() {
  local name path answer fallback=''
  for name in "${PYTHON:-}" python3.7 python3; do
    if [[ -z $name ]]; then continue; fi
    if ! path=$(type -P -- "$name"); then
      TRIED+=("$name (not found)")
      continue
    fi
    answer=$(run_probe "$path" '
import importlib.util, sys
print("old" if sys.version_info < (3, 7) else "tensorflow" if importlib.util.find_spec("tensorflow") else "bare")') ||
      answer='does not run'
    # -I hides packages that PYTHONPATH alone provides, as a vendor set-up script may do it.
    if [[ $answer == bare ]] && "$path" -c \
      'import importlib.util as u, sys; sys.exit(u.find_spec("tensorflow") is None)' </dev/null 2>/dev/null; then
      answer=tensorflow
    fi
    case $answer in
      tensorflow)
        FOUND_PYTHON=$path
        return 0
        ;;
      bare)
        TRIED+=("$path (no tensorflow)")
        fallback=${fallback:-$path}
        ;;
      old) TRIED+=("$path (older than Python 3.7)") ;;
      *) TRIED+=("$path (does not run)") ;;
    esac
  done
  if only_looks "$@"; then
    if is_current "$(stamp_line requirements.txt)"; then fallback=$VENV/bin/python; fi
    FOUND_PYTHON=$fallback
  fi
  [[ -n $FOUND_PYTHON ]]
}

# ---------------------------------------------------------------------------------------------------------------------
# Running

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
  local python list='' item
  check_shadowing
  if wants_npu "$@"; then
    if ! find_host_python "$@"; then
      for item in ${TRIED[@]+"${TRIED[@]}"}; do list+="${list:+, }$item"; done
      die "--device npu runs with the host's Python, and none with TensorFlow was found; tried $list." \
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

run_setup() {
  local lock=requirements.txt tf2=0 arg
  for arg in "$@"; do
    case $arg in
      --dev) lock=requirements-dev.txt ;;
      --tf2) tf2=1 ;;
      --recreate) RECREATE=1 ;;
      -h | --help)
        printf 'usage: bash run_estimator.sh setup [--dev] [--tf2] [--recreate]\n\n'
        printf '  --dev       also install the test and lint tools (default: run-time packages only)\n'
        printf '  --tf2       also make .venv-tf2 with TensorFlow 2, for the test of exported models\n'
        printf '  --recreate  delete the environment and make it again\n'
        return 0
        ;;
      *)
        say "setup: unknown flag '$arg'; allowed are --dev, --tf2 and --recreate"
        exit 2
        ;;
    esac
  done
  ensure_env "$lock"
  if ((tf2)); then ensure_tf2; fi
  say "ready: $VENV holds the packages of $lock"
}

run_test() {
  local arg long=0 has_path=0 marker=0 args=()
  for arg in "$@"; do
    case $arg in
      --long)
        long=1
        continue
        ;;
      -m | -m?*) marker=1 ;;
      -*) ;;
      *) if [[ -e ${arg%%::*} ]]; then has_path=1; fi ;;
    esac
    args+=("$arg")
  done
  if ((!has_path)); then args+=("$ROOT/tests"); fi
  if ((!long && !marker)); then args=(-m 'not long' ${args[@]+"${args[@]}"}); fi
  check_shadowing
  ensure_env requirements-dev.txt
  unset PYTHONHOME
  if [[ -z ${TF2_PYTHON:-} && -x $TF2_VENV/bin/python ]]; then export TF2_PYTHON=$TF2_VENV/bin/python; fi
  export_environment
  exec "$VENV/bin/python" -m pytest -c "$ROOT/pytest.ini" --rootdir "$ROOT" ${args[@]+"${args[@]}"}
}

run_lint() {
  local which=${1:-all} status=0
  case $which in
    all | ruff | mypy) ;;
    -h | --help)
      printf 'usage: bash run_estimator.sh lint [ruff|mypy]\n'
      return 0
      ;;
    *)
      say "lint: unknown tool '$which'; allowed are ruff and mypy"
      exit 2
      ;;
  esac
  ensure_env requirements-dev.txt
  cd -- "$ROOT" # the tools take no path from the caller
  if [[ $which != mypy ]]; then "$VENV/bin/python" -m ruff check . || status=1; fi
  if [[ $which != ruff ]]; then "$VENV/bin/python" -m mypy --config-file mypy.ini || status=1; fi
  return "$status"
}

main() {
  local command=${1:-}
  if (($#)); then shift; fi
  case $command in
    '')
      usage >&2
      exit 2
      ;;
    help | -h | --help)
      if (($#)); then
        main "$1" --help
      else
        usage
      fi
      ;;
    setup) run_setup "$@" ;;
    prepare | train | eval | predict | export | tune | bench | preflight) run_app "$command" "$@" ;;
    test) run_test "$@" ;;
    lint) run_lint "$@" ;;
    *)
      say "unknown command '$command'; 'bash $PROG help' lists the commands"
      exit 2
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
main "$@"
