#!/usr/bin/env bash
# Installs Colign into .venv in this clone and runs it. Needs Debian or Ubuntu with Python 3.11 or newer.
#
#   bash deploy/local.sh demo [args]     install, then run `colign demo`
#   bash deploy/local.sh test [args]     install with the test and lint extras, then run pytest
#   bash deploy/local.sh check           install with the test and lint extras, then ruff and mypy
#   bash deploy/local.sh install         install only
#   bash deploy/local.sh lock [reqs]     write deploy/constraints-cpu.txt anew (run it with the oldest Python supported)
#   bash deploy/local.sh lock gpu [reqs] write deploy/constraints-gpu.txt anew from constraints-cpu.txt; metadata are
#                                        enough for it, neither a GPU nor gigabytes of CUDA are needed
#
# PYTHON=<command or path> chooses the interpreter; otherwise an existing .venv keeps its own, and a new one takes
# the newest Python that the pins support.
#
# On Linux, torch from the default index brings gigabytes of CUDA packages. To take a CPU build of the same version,
# point pip at it through pip's own settings before the first call:
#   PIP_EXTRA_INDEX_URL=<index of torch's CPU wheels> bash deploy/local.sh demo
#   PIP_FIND_LINKS=<folder that holds the CPU wheel>  bash deploy/local.sh demo
#
# Exit codes: 2 when this machine or the call needs changing (a message says how), 1 when the installation failed,
# otherwise that of the command run.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
venv=$root/.venv
stamp=$venv/colign-stamp
constraints=$root/deploy/constraints-cpu.txt
newest_minor=14 # the pins have no wheels for a later Python 3

export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1

say() { printf 'local.sh: %s\n' "$*" >&2; }

needs() { # stop because the machine or the call needs changing
  say "$@"
  exit 2
}

minor_of() { # the 3.x minor version of interpreter $1; fails where it does not run or is not Python 3
  "$1" -c 'import sys; print(sys.version_info[1] if sys.version_info[0] == 3 else 1 / 0)' 2>/dev/null </dev/null
}

has_venv() { "$1" -c 'import venv, ensurepip' 2>/dev/null </dev/null; }

# What the environment itself depends on, and what is installed in it.
venv_key() { "$1" -c 'import sys; print(sys.version.split()[0], sys.argv[1])' "$root" 2>/dev/null </dev/null; }
pins_key() { cat "$root/pyproject.toml" "$constraints" | sha256sum | cut -d ' ' -f 1; }

find_python() { # sets $python
  local candidate minor usable=()
  if [[ -n ${PYTHON:-} ]]; then
    minor=$(minor_of "$PYTHON") || needs "PYTHON=$PYTHON does not run as Python 3. Give a Python 3.11 or newer."
    ((minor >= 11)) || needs "PYTHON=$PYTHON is Python 3.$minor, and Colign needs Python 3.11 or newer."
    usable=("$PYTHON")
  else
    for ((minor = newest_minor; minor >= 11; minor--)); do
      if [[ $(minor_of "python3.$minor") == "$minor" ]]; then usable+=("python3.$minor"); fi
    done
    if minor=$(minor_of python3) && ((minor >= 11 && minor <= newest_minor)); then usable+=(python3); fi
  fi
  if ((${#usable[@]} == 0)); then
    needs "Colign needs Python 3.11 to 3.$newest_minor, and" \
      "$(minor=$(minor_of python3) && echo "python3 here is 3.$minor." || echo "no python3 was found.")" \
      "On Debian 12, Ubuntu 24.04 or later run: sudo apt-get install python3 python3-venv;" \
      "elsewhere install one and name it: PYTHON=/path/to/python3.11 bash deploy/local.sh ..."
  fi
  for candidate in "${usable[@]}"; do
    if has_venv "$candidate"; then
      python=$candidate
      return
    fi
  done
  python=${usable[0]}
  install_venv_module
}

install_venv_module() { # Debian and Ubuntu keep ensurepip, and with it pip, in a package of its own
  local package own_minor apt=(apt-get)
  if [[ $("$python" -c 'import sys; print(sys.base_prefix)') != /usr ]] || ! command -v apt-get >/dev/null; then
    needs "$python cannot make virtual environments: its modules venv and ensurepip are missing." \
      "Install them, or name another Python 3.11 or newer with PYTHON=..."
  fi
  own_minor=$(minor_of "$python")
  package=python3.$own_minor-venv
  if [[ $(minor_of /usr/bin/python3) == "$own_minor" ]]; then package=python3-venv; fi
  local todo="$python cannot make virtual environments. Run: sudo apt-get install $package; then run this again."
  if ((EUID != 0)); then
    sudo -n true 2>/dev/null </dev/null || needs "$todo"
    apt=(sudo -n env DEBIAN_FRONTEND=noninteractive apt-get)
  fi
  say "installing $package with apt-get"
  export DEBIAN_FRONTEND=noninteractive
  "${apt[@]}" -qq update </dev/null >/dev/null || say "apt-get update failed; going on with the lists that are here"
  "${apt[@]}" -qq -o DPkg::Lock::Timeout=120 -o Dpkg::Use-Pty=0 install --no-install-recommends --yes "$package" \
    </dev/null >/dev/null ||
    needs "apt-get could not install $package (see above; is the network there?). $todo"
  has_venv "$python" || needs "$package is installed, yet $python still cannot make virtual environments." \
    "Name another Python 3.11 or newer with PYTHON=..."
}

pip_install() {
  "$venv/bin/python" -m pip install -qq "$@" </dev/null || {
    say "pip could not install what is needed (see above; is the network there?). Then run the same command again."
    exit 1
  }
}

make_venv() { # $1: the interpreter
  say "making .venv with $("$1" -c 'import sys; print("Python", sys.version.split()[0])')"
  rm -rf "$venv"
  "$1" -m venv "$venv" </dev/null || {
    say "$1 could not make .venv (see above)."
    exit 1
  }
}

install_project() { # $1: base or dev
  local old_venv="" old_pins="" old_level="" level=$1 python="" extras="" tools=()
  if [[ -f $stamp ]]; then
    { read -r old_venv && read -r old_pins && read -r old_level; } <"$stamp" || true
  fi
  # A .venv without a stamp is half-made; one whose key has changed was moved, or its Python was replaced.
  if [[ ! -x $venv/bin/colign || $(venv_key "$venv/bin/python") != "$old_venv" ]]; then old_level=""; fi
  if [[ -n ${PYTHON:-} || -z $old_level ]]; then
    find_python
    if [[ -z $old_level || $(venv_key "$python") != "$old_venv" ]]; then
      make_venv "$python"
      old_level=""
    fi
  fi
  if [[ $old_level == dev ]]; then level=dev; fi
  if [[ $old_pins == "$(pins_key)" && $old_level == "$level" ]]; then return; fi

  rm -f "$stamp"
  say "installing pip and setuptools"
  # setuptools-scm: seqeval comes as source only, and is built with the pinned tools, too
  mapfile -t tools <<<"$(grep -E '^(pip|setuptools|setuptools-scm|wheel)==' "$constraints")"
  pip_install -c "$constraints" "${tools[@]}"
  if [[ $level == dev ]]; then extras="[test,lint]"; fi
  say "installing colign$extras and what it needs (a first time takes minutes)"
  pip_install -c "$constraints" --no-build-isolation -e "$root$extras"
  printf '%s\n' "$(venv_key "$venv/bin/python")" "$(pins_key)" "$level" >"$stamp.new"
  mv "$stamp.new" "$stamp"
  say "installed in .venv"
}

check() {
  local failed=0
  cd "$root"
  say "ruff check"
  "$venv/bin/ruff" check . || failed=1
  say "ruff format --check"
  "$venv/bin/ruff" format --check . || failed=1
  say "mypy"
  "$venv/bin/mypy" || failed=1
  return $failed
}

make_scratch() { # sets $python, $scratch and, for pip_install, $venv: an environment of its own
  find_python
  scratch=$(mktemp -d)
  # shellcheck disable=SC2064 # the name as it is now
  trap "rm -rf '$scratch'" EXIT
  venv=$scratch/venv
  "$python" -m venv "$venv" </dev/null
}

write_lock() { # $1: the file, whose header is kept; standard input: the pins
  { grep '^#' "$1" && cat; } >"$scratch/constraints"
  cp "$scratch/constraints" "$1"
  say "wrote ${1#"$root/"}"
}

unresolved() {
  say "uv could not resolve the environment (see above; is the network there?)."
  exit 1
}

lock_cpu() { # the newest of everything but torch, unless the further arguments say otherwise
  local python="" scratch="" torch extras
  make_scratch
  torch=$(grep '^torch==' "$constraints")
  extras=$("$python" -c 'import sys, tomllib
project = tomllib.load(open(sys.argv[1], "rb"))["project"]
print(*project["optional-dependencies"].keys() - {"gpu"}, sep=",")' "$root/pyproject.toml")
  say "installing everything anew"
  pip_install --upgrade pip setuptools setuptools-scm wheel
  pip_install "$torch"
  torch=$("$venv/bin/python" -m pip freeze | grep '^torch==') # this build and no other
  pip_install uv                                              # which resolves in seconds what takes pip many minutes
  "$venv/bin/uv" pip install --quiet --python "$venv/bin/python" --no-build-isolation "$torch" \
    -e "${root}[$extras]" "$@" </dev/null || unresolved
  "$venv/bin/python" -m pip freeze --all --exclude colign --exclude uv | sed -E 's/\+[a-z0-9.]+$//' |
    write_lock "$constraints"
}

lock_gpu() { # the versions of the CPU where RAPIDS allows them, so that as little as can be differs
  local python="" scratch=""
  make_scratch
  pip_install uv
  say "resolving the environment of GPUs"
  cp "$constraints" "$scratch/pins" # uv keeps what the file that it writes says already, wherever it can
  printf '%s\n' pip setuptools setuptools-scm wheel "$@" |
    "$venv/bin/uv" pip compile --quiet --all-extras --python-version 3.11 --python-platform x86_64-manylinux_2_28 \
      --no-annotate --no-header --output-file "$scratch/pins" "$root/pyproject.toml" - >/dev/null || unresolved
  write_lock "$root/deploy/constraints-gpu.txt" <"$scratch/pins"
}

action=${1:-}
shift || true
case $action in
  demo)
    install_project base
    exec "$venv/bin/colign" demo "$@"
    ;;
  test)
    install_project dev
    cd "$root"
    exec "$venv/bin/python" -m pytest "$@"
    ;;
  check)
    install_project dev
    check
    ;;
  install) install_project base ;;
  lock)
    if [[ ${1:-} == gpu ]]; then
      shift
      lock_gpu "$@"
    else
      lock_cpu "$@"
    fi
    ;;
  *)
    echo "usage: bash deploy/local.sh demo [args] | test [args] | check | install | lock [gpu] [requirements]" >&2
    exit 2
    ;;
esac
