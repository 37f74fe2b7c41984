#!/bin/sh
# Makes a base for the worker image out of Debian packages, where no registry can be reached:
#     container/base.sh base.tar && docker import base.tar my-base
set -eu
packages=python3,python3-venv,ca-certificates,git,curl,ripgrep,tini,tzdata
archive=${1:?usage: base.sh ARCHIVE}

as_root=
if [ "$(id -u)" != 0 ] && sudo -n true 2>/dev/null; then as_root="sudo -n"; fi

if ! command -v mmdebstrap >/dev/null; then
    if ! command -v apt-get >/dev/null || { [ "$(id -u)" != 0 ] && [ -z "$as_root" ]; }; then
        echo "mmdebstrap is missing: install it (Debian, Ubuntu: sudo apt-get install mmdebstrap)" >&2
        exit 4
    fi
    echo "Installing mmdebstrap"
    $as_root apt-get update -q
    $as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install -qy --no-install-recommends mmdebstrap debian-archive-keyring
fi

# Like Debian's own slim images: no manuals, no translations.
exec $as_root mmdebstrap --variant=minbase --include="$packages" \
    --aptopt='Acquire::Languages "none"' \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
    bookworm "$archive"
