# What `setup` adds on request: TensorFlow 2 for one test and for peers of benchmarks, Horovod for many ranks, Spark for
# preparation on a cluster.
# Sourced by run_estimator.sh.
# shellcheck shell=bash

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
  pip_install "$TF2_VENV" "$log" "$(count_packages "$lock")" -r "$ROOT/$lock" || install_failed "$log"
  printf '%s\n' "$line" >"$TF2_VENV/.estimator-stamp"
}

# Adds LightGBM and scikit-learn to $TF2_VENV, which ensure_tf2 has made, for benchmarks.
ensure_tf2_peers() {
  local lock=requirements-peers-tf2.txt log=$TF2_VENV/.peers.log stamp=$TF2_VENV/.estimator-stamp-peers line
  line="$(stamp_line "$lock") with $(stamp_line requirements-tf2.txt)"
  if [[ -r $stamp && $(<"$stamp") == "$line" ]]; then return 0; fi
  if [[ ! -x $TF2_VENV/bin/python ]]; then
    die "setup --peers: the peers of benchmarks need Python 3.11 or 3.10, and none was found"
  fi
  rm -f -- "$stamp"
  : >"$log"
  say "installing LightGBM and scikit-learn of $lock into $TF2_VENV (once)"
  pip_install "$TF2_VENV" "$log" "$(count_packages "$lock")" --no-deps -r "$ROOT/$lock" || install_failed "$log"
  printf '%s\n' "$line" >"$stamp"
}

# DeepCTR runs on TensorFlow 1.15, not on 2.15: it goes into the project's environment.
install_peers() {
  local lock=$1 log=$2
  say "installing DeepCTR of $lock (once)"
  pip_install "$VENV" "$log" "$(count_packages "$lock")" --no-deps -r "$ROOT/$lock" || install_failed "$log"
}

# Makes sure that the environment holds the extra $1, which the lock file requirements-$1.txt describes. The function
# install_$1 does it; it is called under the environment's lock, with the lock file's name and a log.
ensure_extra() {
  local name=$1 lock=requirements-$1.txt line stamp=$VENV/.estimator-stamp-$1
  line="$(stamp_line "$lock") with $(stamp_line requirements.txt)" # a build against another TensorFlow is another build
  if [[ -r $stamp && $(<"$stamp") == "$line" ]]; then return 0; fi
  lock_environment
  rm -f -- "$stamp"
  : >"$VENV/.$name.log"
  "install_$name" "$lock" "$VENV/.$name.log"
  printf '%s\n' "$line" >"$stamp"
  unlock_environment
}

install_spark() {
  local lock=$1 log=$2
  if ! run_probe_program "${JAVA_HOME:+$JAVA_HOME/bin/}java" -version; then
    die "setup --spark: Spark needs Java 8, 11 or 17, and no java runs (on PATH or in JAVA_HOME);" \
      "install one, for example with 'sudo apt-get install openjdk-17-jre-headless'"
  fi
  say "installing the packages of $lock (once; some 300 MB)"
  # Spark comes as a source archive: the environment's own pinned setuptools make its wheel, not the newest ones.
  pip_install "$VENV" "$log" "$(count_packages "$lock")" --no-deps --no-build-isolation -r "$ROOT/$lock" ||
    install_failed "$log"
}

run_probe_program() { "$@" </dev/null >/dev/null 2>&1; }

# Horovod has no wheels: it is built from pinned source against the environment's TensorFlow, and the wheel is kept outside
# the clone, where every clone of the same versions finds it.
install_distributed() {
  local lock=$1 log=$2 wheel cache
  lock_part drop "$lock" horovod cmake >"$VENV/.distributed.txt"
  # Horovod's build takes from any index what it needs and does not find, so that these must be there before it.
  pip_install "$VENV" "$log" 1 --no-deps -r "$VENV/.distributed.txt" || install_failed "$log"

  cache=$(wheel_cache "$lock")
  wheel=$(find_wheel "$cache")
  if [[ -n $wheel ]] && install_wheel "$wheel" "$log"; then
    say "Horovod comes from $wheel"
    return 0
  fi
  build_horovod "$lock" "$log" "$cache"
  wheel=$(find_wheel "$cache")
  if ! install_wheel "$wheel" "$log"; then
    show_tail "$log"
    die "Horovod was built but does not import with Gloo; see $log"
  fi
}

# Prints the folder of the wheel that belongs to the lock file, the Python, the TensorFlow and the machine.
wheel_cache() {
  local base=${XDG_CACHE_HOME:-${HOME:+$HOME/.cache}} tensorflow key
  tensorflow=$(sed -n 's/^tensorflow==\([0-9.]*\).*/\1/p' "$ROOT/requirements.txt")
  key=$(hash_of "$ROOT/$1")
  printf '%s/%s-cp37-tf%s-%s-%s' "${base:-$VENV/.cache}/estimator_app/wheels" "${key:0:16}" "$tensorflow" \
    "$(uname -s)" "$(uname -m)"
}

find_wheel() {
  local path
  for path in "$1"/horovod-*.whl; do
    if [[ -f $path ]]; then printf '%s' "$path"; fi
    return 0
  done
}

install_wheel() {
  "$VENV/bin/python" -I -m pip install --disable-pip-version-check --no-deps --no-index --force-reinstall "$1" \
    </dev/null >>"$2" 2>&1 &&
    "$VENV/bin/python" -I -W ignore -c 'import horovod.tensorflow as hvd; assert hvd.gloo_built()' </dev/null >>"$2" 2>&1
}

build_horovod() {
  local lock=$1 log=$2 cache=$3 work=$VENV/.build start=$SECONDS jobs wheel
  if ! run_probe_program "${CXX:-g++}" --version; then
    die "setup --distributed: building Horovod needs a C++ compiler, and ${CXX:-g++} does not run; install one, for" \
      "example with 'sudo apt-get install g++ make', or set CXX"
  fi
  if ! run_probe_program make --version; then
    die "setup --distributed: building Horovod needs make; install it, for example with 'sudo apt-get install make'"
  fi
  mkdir -p -- "$cache" || die "cannot create $cache; set XDG_CACHE_HOME to a writable place"
  rm -rf -- "$work" # what an interrupted build left
  mkdir -- "$work"
  say "building Horovod with ${CXX:-g++} (once; 1 to 12 minutes; the wheel is kept in $cache, progress in $log)"
  lock_part keep "$lock" horovod >"$work/horovod.txt"
  lock_part keep "$lock" cmake >"$work/cmake.txt"
  jobs=$(getconf _NPROCESSORS_ONLN 2>/dev/null) || jobs=2
  if ! pip_install "$VENV" "$log" 1 --no-deps --target "$work/tools" -r "$work/cmake.txt" ||
    ! PATH="$work/tools/bin:$PATH" PYTHONPATH="$work/tools" MAKEFLAGS="${MAKEFLAGS:--j$jobs}" \
      HOROVOD_WITH_TENSORFLOW=1 HOROVOD_WITHOUT_PYTORCH=1 HOROVOD_WITHOUT_MXNET=1 HOROVOD_WITH_GLOO=1 HOROVOD_WITHOUT_MPI=1 \
      "$VENV/bin/python" -m pip wheel --disable-pip-version-check --verbose --no-deps --no-build-isolation \
      --no-cache-dir --require-hashes --wheel-dir "$work" -r "$work/horovod.txt" </dev/null 2>&1 | show_build "$log" "$start"; then
    show_tail "$log" 20
    die "Horovod could not be built; see $log (its C++ compiler must know C++14; 2 GB of memory for each of MAKEFLAGS=-j$jobs)"
  fi
  wheel=$(find_wheel "$work")
  # Whole or not at all: other clones may be looking for it.
  if ! cp -- "$wheel" "$cache/new.$$" || ! mv -f -- "$cache/new.$$" "$cache/${wheel##*/}"; then
    die "cannot write $cache; set XDG_CACHE_HOME to a writable place"
  fi
  rm -rf -- "$work"
  say "built Horovod in $((SECONDS - start)) s"
}

# Like show_progress, for a build: a terminal sees make's percentage and the time.
show_build() {
  local log=$1 start=$2 line percent='\[ *([0-9]+%)\]' # in a variable: bash 3.2 cannot parse it in place
  while IFS= read -r line || [[ -n $line ]]; do
    printf '%s\n' "$line" >>"$log"
    if [[ -t 2 && $line =~ $percent ]]; then
      printf '\r\033[K  building Horovod: %s, %d s' "${BASH_REMATCH[1]}" $((SECONDS - start)) >&2
    fi
  done
  if [[ -t 2 ]]; then printf '\r\033[K' >&2; fi
}

# Prints the entries of a lock file that are (keep) or are not (drop) those of the named packages.
lock_part() {
  local what=$1 lock=$2 names line on=1
  shift 2
  names=" $* "
  while IFS= read -r line; do
    case $line in
      [A-Za-z0-9]*==*)
        on=0
        if [[ $names == *" ${line%%==*} "* ]]; then on=1; fi
        if [[ $what == drop ]]; then on=$((!on)); fi
        ;;
    esac
    if ((on)); then printf '%s\n' "$line"; fi
  done <"$ROOT/$lock"
}
