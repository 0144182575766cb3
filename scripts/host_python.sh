# The host's Python, for NPUs. Sourced by run_estimator.sh.
# shellcheck shell=bash

# Succeeds if the command line asks for an NPU: the last --device says npu, or it is the positional launch form
# `train so_path rec_package_path hccl_json data_path [ip]`.
wants_npu() {
  local command=$1 device='' arg previous=''
  shift
  if [[ $command == train && $# -gt 3 && $1 != -* && $2 != -* && $3 != -* && $4 != -* ]]; then return 0; fi
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
