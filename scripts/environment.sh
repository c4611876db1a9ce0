# The virtual environment that scripts/test and scripts/demo share; read by them with `source`, in the repository root.
# OSTCAL_PYTHON names the interpreter that makes it; else the first of those below that is Python 3.11 or newer.

VENV=.venv

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
told += [open(path, encoding="utf-8").read() for path in ("pyproject.toml", "ostcal/_version.py")]
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

# prepare_environment EXTRAS: make the environment and install the package with EXTRAS ('[capture]' or '[test]') where that is
# not done yet, and set PYTHON and BIN.
prepare_environment() {
    local extras=$1 base wanted stamp
    base=$(find_python) || exit 1
    wanted=$(fingerprint "$base")
    stamp=$VENV/installed-${extras//[\[\]]/}
    # What was installed for the tests serves the demo too.
    if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ] && [ "$(cat "$VENV/installed-test" 2>/dev/null)" != "$wanted" ]; then
        install_package "$base" "$extras"
        printf '%s\n' "$wanted" >"$stamp"
    fi
    PYTHON=$(environment_python)
    BIN=$(dirname "$PYTHON")
}

# install_package INTERPRETER EXTRAS: make the environment anew where it is of another Python, and install into it.
install_package() {
    local base=$1 extras=$2 version='import sys; print(sys.version)'
    if [ "$("$(environment_python)" -c "$version" 2>/dev/null)" != "$("$base" -c "$version")" ]; then
        say "making the environment $VENV with $("$base" --version)"
        rm -rf "$VENV"
        "$base" -m venv "$VENV" || fail "$base cannot make environments: install its venv module (Debian: python3-venv)"
    fi
    say "installing ostcal$extras into $VENV (a minute or two the first time)"
    rm -f "$VENV"/installed*
    "$(environment_python)" -m pip install -qq --disable-pip-version-check --editable ".$extras" ||
        fail "the installation failed: see the lines above; the package registry must be reachable"
}
