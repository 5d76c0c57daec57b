#!/usr/bin/env bash
# Install packages of the Debian or Ubuntu archive: those named, or Chromium, DCMTK and
# dicom3tools (dciodvfy), which the tests need beside Python packages. Does nothing where they are
# there; run it as often as you like.
set -euo pipefail

packages=("$@")
[ "$#" -gt 0 ] || packages=(chromium dcmtk dicom3tools)
command="apt-get update && apt-get install -y --no-install-recommends ${packages[*]}"

there() {
    command -v "$1" >/dev/null 2>&1 || dpkg-query -W -f '${Status}' "$1" 2>/dev/null |
        grep -q 'ok installed'
}

missing=()
for package in "${packages[@]}"; do
    there "$package" || missing+=("$package")
done
if [ "${#missing[@]}" -eq 0 ]; then
    echo "there already: ${packages[*]}"
    exit 0
fi

refuse() {
    echo "error: ${missing[*]} missing and $1." >&2
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
    apt-get install -y --no-install-recommends "${missing[@]}"
for package in "${missing[@]}"; do
    there "$package" || refuse "apt-get did not bring it"
done
echo "installed: ${missing[*]}"
