# Getting CPython 3.7 where the machine has none: a pinned uv in a private folder fetches it into the project.
# Sourced by run_estimator.sh.
# shellcheck shell=bash

# The last series of uv that offers CPython 3.7 for x86-64; scripts/uv.txt pins it by hash.
readonly UV_PIN=$ROOT/scripts/uv.txt
readonly OWN_PYTHON=$ROOT/.python # holds uv, what it fetched, and the log
readonly NEXT_BEST="'docker run --rm -it -v \"\$PWD:/app\" -w /app python:3.7 bash $PROG train' in the project's folder, \
or 'conda create -n py37 python=3.7'"

# Sets FOUND_PYTHON to a CPython 3.7, fetched if there is none; ends the script where that fails.
need_python37() {
  local platform version log=$OWN_PYTHON/install.log
  if find_python37; then return 0; fi
  platform=$(uname -s)-$(uname -m)
  if [[ -n ${ESTIMATOR_NO_DOWNLOAD:-} && ${ESTIMATOR_NO_DOWNLOAD:-} != 0 ]]; then
    die "no CPython 3.7 that runs was found, and ESTIMATOR_NO_DOWNLOAD forbids fetching one; tried $(tried)." \
      "Use $NEXT_BEST, 'pyenv install 3.7', or set PYTHON=/path/to/python3.7"
  fi
  case $platform in
    Linux-x86_64 | Darwin-x86_64) ;;
    *)
      die "no CPython 3.7 that runs was found; tried $(tried). None is fetched, because TensorFlow 1.15 has packages for" \
        "x86-64 only and this machine is $platform; use an x86-64 machine or Python, and set PYTHON=/path/to/python3.7"
      ;;
  esac

  version=$(sed -n 's/^uv==\([0-9.]*\).*/\1/p' "$UV_PIN")
  say "no CPython 3.7 was found; fetching uv $version from the Python package index and with it CPython 3.7 from" \
    "${UV_PYTHON_INSTALL_MIRROR:-python-build-standalone on GitHub} into $OWN_PYTHON (ESTIMATOR_NO_DOWNLOAD=1 forbids it)"
  if ! mkdir -p -- "$OWN_PYTHON" || ! : >"$log"; then die "cannot write $OWN_PYTHON; set PYTHON=/path/to/python3.7"; fi
  get_uv "$log" || get_failed "uv $version could not be fetched" "$log"
  uv_python install --no-progress 3.7 >>"$log" 2>&1 </dev/null || get_failed "uv could not fetch CPython 3.7" "$log"
  try_own_python || get_failed "what uv fetched is not a 64-bit CPython 3.7 with ssl, venv and ensurepip" "$log"
}

# uv, cut off from the user's own settings, caches and Pythons; mirrors and proxies stay. Fetches into the project only.
uv_python() {
  local command=$1
  shift
  env -u UV_PYTHON -u UV_OFFLINE UV_PYTHON_INSTALL_DIR="$OWN_PYTHON" UV_PYTHON_DOWNLOADS=manual \
    "$OWN_PYTHON/uv/bin/uv" python "$command" --no-config --no-cache "$@"
}

# Succeeds and sets FOUND_PYTHON if an earlier call fetched a Python that runs.
try_own_python() {
  try_paths "$OWN_PYTHON" "$OWN_PYTHON"/cpython-3.7*/bin/python3.7
}

# Installs the pinned uv into $OWN_PYTHON/uv with the first python3 that can: through its pip, through the pip of a
# virtual environment, or, where a system ships neither, with the standard library alone.
get_uv() {
  local log=$1 python target=$OWN_PYTHON/uv.new
  if [[ -x $OWN_PYTHON/uv/bin/uv && $(<"$OWN_PYTHON/uv/pin") == "$(<"$UV_PIN")" ]] 2>/dev/null; then return 0; fi
  rm -rf -- "$OWN_PYTHON/uv" "$OWN_PYTHON/pip"
  while IFS= read -r python; do
    run_probe "$python" 'import sys; sys.exit(sys.version_info < (3, 5))' || continue
    rm -rf -- "$target"
    if pip_uv "$python" "$target" >>"$log" 2>&1 ||
      { "$python" -I -m venv "$OWN_PYTHON/pip" </dev/null && pip_uv "$OWN_PYTHON/pip/bin/python" "$target"; } >>"$log" 2>&1 ||
      "$python" -I "$ROOT/scripts/fetch_wheel.py" "$UV_PIN" "$target" </dev/null >>"$log" 2>&1; then
      rm -rf -- "$OWN_PYTHON/pip"
      cp -- "$UV_PIN" "$target/pin"
      mv -- "$target" "$OWN_PYTHON/uv"
      return 0
    fi
  done < <(type -aP python3 python || true)
  return 1
}

pip_uv() {
  PIP_USER=0 PIP_NO_INPUT=1 "$1" -I -m pip install --disable-pip-version-check --no-deps --only-binary :all: \
    --ignore-requires-python --require-hashes --target "$2" -r "$UV_PIN" </dev/null && [[ -x $2/bin/uv ]]
}

get_failed() {
  local reason
  reason=$(sed -n 's/^[[:space:]]*\(Caused by: \)\{0,1\}\([^[:space:]].*\)/\2/p' "$2" | tail -n 1)
  die "$1 ($(oneline "${reason:-no python3 to fetch it with}"); $2); use $NEXT_BEST, or set PYTHON=/path/to/python3.7"
}
