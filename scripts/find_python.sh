# Finding CPython 3.7 on this machine. Sourced by run_estimator.sh.
# shellcheck shell=bash

TRIED=()        # what was looked at and why it was passed over, in order
FOUND_PYTHON='' # the result

# Prints what was looked at, as one line.
tried() {
  local list='' item
  for item in ${TRIED[@]+"${TRIED[@]}"}; do list+="${list:+, }$item"; done
  printf '%s' "$list"
}

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
  [[ -d $OWN_PYTHON ]] && try_own_python
}
