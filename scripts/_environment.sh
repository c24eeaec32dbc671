# Sourced by the other scripts: makes .venv and installs medseg with its pinned dependencies, once.
# environment EXTRAS: "" for use, "[dev]" for development too. Sets $root and $python.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python="$root/.venv/bin/python"

find_python() {
    local candidate
    for candidate in python3.11 python3.12 python3.13 python3 python; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    echo "medseg needs Python 3.11 or newer on the PATH" >&2
    return 1
}

environment() {
    local extras=$1 wanted stamp="$root/.venv/installed$1"
    wanted=$(cat "$root/pyproject.toml" "$root/constraints.txt" | cksum)
    mkdir -p "$root/.venv"
    (
        # two scripts started at once take turns
        if command -v flock >/dev/null; then flock 9; fi
        if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
            if [ ! -x "$python" ]; then
                "$(find_python)" -m venv "$root/.venv"
            fi
            # without --no-compile, pip compiles every file of every package before it returns
            "$python" -m pip install --quiet --disable-pip-version-check --no-compile \
                --constraint "$root/constraints.txt" --editable "$root$extras"
            echo "$wanted" >"$stamp"
        fi
    ) 9>"$root/.venv/lock"
}

# check_types starts pyright in the background; report_types waits for it, prints what it found and fails with it.
check_types() {
    types_log=$(mktemp)
    "$root/.venv/bin/pyright" --project "$root" >"$types_log" 2>&1 &
    types_pid=$!
    trap 'kill "$types_pid" 2>/dev/null || true; rm -f "$types_log"' EXIT
}

report_types() {
    local failed=0
    wait "$types_pid" || failed=1
    cat "$types_log"
    return "$failed"
}
