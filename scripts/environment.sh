# The virtual environment: made once, installed from hash-pinned lock files. Sourced by run_estimator.sh.
# shellcheck shell=bash

# A wheel tagged for a recent glibc is invisible to an older pip; such a pip is replaced by this one.
readonly PIP_PIN='pip==24.0 --hash=sha256:ba0d021a166865d2265246961bec0152ff124de910c5cc39f1156ce3fa7c69dc'
readonly PIP_OLDEST=2003 # 20.3, as major * 100 + minor

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

count_packages() { grep -c '^[A-Za-z0-9].*==' "$ROOT/$1" || true; }

# Keeps other calls from changing the environment until unlock_environment or the end, where flock is available.
lock_environment() {
  mkdir -p -- "$(dirname -- "$VENV")" || die "cannot create the folder of $VENV; set ESTIMATOR_VENV to a writable place"
  if ! command -v flock >/dev/null 2>&1; then return 0; fi
  { exec 9>"$VENV.lock"; } 2>/dev/null || die "cannot write $VENV.lock; set ESTIMATOR_VENV to a writable place"
  if ! flock -n 9; then
    say "another run is setting up $VENV; waiting for it"
    flock 9
  fi
}

unlock_environment() {
  if command -v flock >/dev/null 2>&1; then exec 9>&-; fi
}

# Makes sure that $VENV holds the packages of lock file $1.
ensure_env() {
  local lock=$1 line
  line=$(stamp_line "$lock")
  if is_current "$line"; then return 0; fi
  lock_environment
  line=$(stamp_line "$lock")
  if ! is_current "$line"; then
    make_venv
    install_lock "$lock"
    write_stamp "$lock" "$line"
  fi
  unlock_environment
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

  need_python37
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
  total=$(count_packages "$lock")

  version=$("$VENV/bin/python" -I -m pip --version 2>/dev/null | sed -n 's/^pip \([0-9]*\)\.\([0-9]*\).*/\1 \2/p') || version=''
  if [[ -n $version ]] && ((10#${version% *} * 100 + 10#${version#* } < PIP_OLDEST)); then
    printf '%s\n' "$PIP_PIN" >"$VENV/.pip-pin.txt"
    pip_install "$VENV" "$log" 1 -r "$VENV/.pip-pin.txt" || install_failed "$log"
  fi

  say "installing $total pinned packages from $lock (once; some minutes on a slow connection)"
  pip_install "$VENV" "$log" "$total" -r "$ROOT/$lock" || install_failed "$log"

  if ! "$VENV/bin/python" -I -W ignore -c 'import tensorflow' >>"$log" 2>&1 </dev/null; then
    show_tail "$log"
    die "the packages are installed but TensorFlow does not import (its CPU build needs AVX and glibc 2.17); see $log"
  fi
}

# pip install with hash checking, quiet: everything goes to the log, and a terminal sees one line that counts packages.
pip_install() {
  local venv=$1 log=$2 total=$3
  shift 3
  PIP_USER=0 PIP_NO_INPUT=1 env -u PIP_TARGET -u PIP_PREFIX -u PIP_ROOT \
    "$venv/bin/python" -I -m pip install --disable-pip-version-check --progress-bar off \
    --require-hashes "$@" </dev/null 2>&1 | show_progress "$log" "$total"
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
