# The virtual environment that scripts/test and scripts/demo share; read by them with `source`, in the repository root.
# OSTCAL_PYTHON names the interpreter that makes it; else the first of those below that is Python 3.11 or newer.

VENV=.venv
LOCK=scripts/requirements-test.txt

# say TEXT...: one line for the person who waits.
say() {
    printf '%s\n' "$*"
}

# fail TEXT...: say what is wrong and what to do, and stop.
fail() {
    printf '%s\n' "$*" >&2
    exit 1
}

is_recent() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

# find_python: print an interpreter that is new enough.
find_python() {
    local candidate
    if [ -n "${OSTCAL_PYTHON:-}" ]; then
        is_recent "$OSTCAL_PYTHON" || fail "OSTCAL_PYTHON=$OSTCAL_PYTHON is not Python 3.11 or newer: name one that is"
        printf '%s' "$OSTCAL_PYTHON"
        return
    fi
    for candidate in python3 python3.11 python3.12 python3.13 python; do
        if is_recent "$candidate"; then
            printf '%s' "$candidate"
            return
        fi
    done
    fail "no Python 3.11 or newer was found: install one, or name it with OSTCAL_PYTHON=/path/to/python3.11"
}

# fingerprint INTERPRETER: print what an installation depends on, as a digest. The place of the checkout is part of it,
# because an environment that was moved does not work.
fingerprint() {
    "$1" -c '
import hashlib, os, sys
told = [sys.version, os.path.realpath(os.getcwd())]
told += [open(path, encoding="utf-8").read() for path in ("pyproject.toml", "ostcal/_version.py", "scripts/requirements-test.txt")]
print(hashlib.sha256("\0".join(told).encode()).hexdigest())'
}

# environment_python: print the interpreter of the environment; Windows keeps it in another folder.
environment_python() {
    if [ -x "$VENV/Scripts/python.exe" ]; then
        printf '%s' "$VENV/Scripts/python.exe"
    else
        printf '%s' "$VENV/bin/python"
    fi
}

# prepare_environment EXTRAS [PACKAGES]: make the environment and install the package with EXTRAS ('[capture]' or '[test]')
# where that is not done yet, and set PYTHON and BIN. PACKAGES are the `newest` that pyproject.toml allows, its `lowest`, or
# those `locked` for the checks.
prepare_environment() {
    local extras=$1 packages=${2:-newest} base wanted stamp
    base=$(find_python) || exit 1
    wanted=$(fingerprint "$base")
    stamp=$VENV/installed-${extras//[\[\]]/}
    # What was installed for the tests serves the demo too.
    if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted $packages" ] &&
        { [ "$extras" = '[test]' ] || [ "$(cut -d ' ' -f 1 "$VENV/installed-test" 2>/dev/null)" != "$wanted" ]; }; then
        install_package "$base" "$extras" "$packages"
        printf '%s\n' "$wanted $packages" >"$stamp"
    fi
    PYTHON=$(environment_python)
    BIN=$(dirname "$PYTHON")
}

# lock_fits INTERPRETER: succeed where the locked packages are those of this system and this Python.
lock_fits() {
    "$1" -c 'import platform, sys
wanted = ("linux", "x86_64", "CPython", (3, 11))
sys.exit((sys.platform, platform.machine(), platform.python_implementation(), sys.version_info[:2]) != wanted)'
}

# install_package INTERPRETER EXTRAS PACKAGES: make the environment anew where it is of another Python, and install into it.
install_package() {
    local base=$1 extras=$2 packages=$3 version='import sys; print(sys.version)'
    # To uv what is there already is as good as what is lower.
    if [ "$packages" = lowest ] || [ "$("$(environment_python)" -c "$version" 2>/dev/null)" != "$("$base" -c "$version")" ]; then
        say "making the environment $VENV with $("$base" --version)"
        rm -rf "$VENV"
        "$base" -m venv "$VENV" || fail "$base cannot make environments: install its venv module (Debian: python3-venv)"
    fi
    if [ "$packages" = locked ] && ! lock_fits "$base"; then
        say "$LOCK is of Python 3.11 on Linux (x86_64): the newest packages are taken"
        packages=newest
    fi
    say "installing ostcal$extras into $VENV, $packages packages (a minute or two the first time)"
    rm -f "$VENV"/installed*
    install_packages "$extras" "$packages" ||
        fail "the installation failed: see the lines above; the package registry must be reachable"
}

# install_packages EXTRAS PACKAGES: install into the environment; uv takes the locked ones in a fifth of the time of pip.
install_packages() {
    local python pip uv
    python=$(environment_python)
    pip=("$python" -m pip install -qq --disable-pip-version-check)
    uv=("$python" -m uv pip install --quiet --python "$python")
    if [ "$2" = newest ]; then
        "${pip[@]}" --upgrade --upgrade-strategy eager --editable ".$1"
        return
    fi
    "${pip[@]}" --require-hashes --requirement scripts/requirements-uv.txt || return
    if [ "$2" = locked ]; then
        "${uv[@]}" --require-hashes --requirement "$LOCK" && "${uv[@]}" --no-deps --no-build-isolation --editable .
    else
        "${uv[@]}" --resolution lowest-direct --editable ".$1"
    fi
}
