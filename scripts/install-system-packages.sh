#!/usr/bin/env bash
# Install what the tests need beside Python packages: Chromium, from the Debian archive.
# Does nothing where it is there already; run it as often as you like.
set -euo pipefail

packages=(chromium)
command='apt-get update && apt-get install -y --no-install-recommends '"${packages[*]}"

if command -v chromium >/dev/null 2>&1; then
    echo "chromium is there: $(command -v chromium)"
    exit 0
fi

refuse() {
    echo "error: chromium is missing and $1." >&2
    echo "Run as root:  $command" >&2
    exit 1
}

command -v apt-get >/dev/null 2>&1 || refuse "this system has no apt-get"

if [ "$(id -u)" -eq 0 ]; then
    as_root=(env)
elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
    as_root=(sudo -n env)
else
    refuse "this user is neither root nor allowed to sudo without a password"
fi

"${as_root[@]}" DEBIAN_FRONTEND=noninteractive apt-get update
"${as_root[@]}" DEBIAN_FRONTEND=noninteractive \
    apt-get install -y --no-install-recommends "${packages[@]}"
command -v chromium >/dev/null 2>&1 || refuse "apt-get installed it nowhere on PATH"
echo "chromium is installed: $(command -v chromium)"
