#!/bin/sh
# Makes a checkout ready to run: system packages, .venv with the locked packages, PostgreSQL's programs.
#
#   deployments/set_up.sh           what pgsalvo itself needs
#   deployments/set_up.sh --tests   that, and what its tests and checks need
#   deployments/set_up.sh --servers that, and what `make test-servers` needs
#
# Silent when nothing is to be done. System packages are installed on Debian and Ubuntu only, by root or a
# passwordless sudo; elsewhere it names what is missing and stops before it has changed anything.
set -eu
cd "$(dirname "$0")/.."
here=$(pwd -P)
cache=${PGSALVO_TOOLS_DIRECTORY:-${XDG_CACHE_HOME:-${HOME-}/.cache}}
missing=

say() { echo "set-up: $*"; }

stop() {
    echo "set-up: $*" >&2
    exit 1
}

need() { # PROGRAM PACKAGE
    command -v "$1" >/dev/null || missing="$missing $2"
}

state() { # LOCK - what has to be installed anew when it changes
    echo "$1 $(cat "$1" pyproject.toml | cksum)"
}

sound() { # .venv was finished, made in this very place, and its Python is still there
    [ -x .venv/bin/python ] && [ ! -e .venv/.unfinished ] &&
        [ "$(sed -n 's/^command = .* -m venv //p' .venv/pyvenv.cfg)" = "$here/.venv" ]
}

usable_python() {
    for name in python3 python3.14 python3.13 python3.12 python3.11; do
        if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$name"
            return
        fi
    done
}

has_postgresql() { # of any major, with its server
    { command -v initdb || ls /usr/lib/postgresql/*/bin/initdb; } >/dev/null 2>&1
}

need_libraries() { # of the programs in PostgreSQL's wheels
    present=$(PATH="$PATH:/usr/sbin:/sbin" ldconfig -p)
    for library in libssl.so.3=libssl3 libgssapi_krb5.so.2=libgssapi-krb5-2 liblz4.so.1=liblz4-1 \
        libzstd.so.1=libzstd1 libxml2.so.2=libxml2 libreadline.so.8=libreadline8; do
        case $present in
            *"${library%=*} "*) ;;
            *) missing="$missing ${library#*=}" ;;
        esac
    done
}

package_manager() {
    for name in apt-get dnf apk brew; do
        if command -v "$name" >/dev/null; then
            echo "$name"
            return
        fi
    done
}

install_packages() { # PACKAGE... - as root, or not at all
    case $manager in
        apt-get) by_hand="apt-get install" ;;
        dnf) by_hand="dnf install" ;;
        apk) by_hand="apk add" ;;
        brew) by_hand="brew install" ;;
        *) by_hand="install with this system's package manager:" ;;
    esac
    root=
    if [ "$(id -u)" != 0 ]; then
        root="sudo -n"
        sudo -n true 2>/dev/null || manager=
    fi
    [ "$manager" = apt-get ] || stop "these packages are missing; install them, then start again:
    $by_hand $*"
    say "installing $* with apt-get"
    apt="$root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300"
    install="$apt install -y --no-install-recommends"
    $install "$@" >/dev/null 2>&1 || { $apt update && $install "$@" >/dev/null; }
}

install_locked() { # LOCK
    if ! sound; then
        say "making .venv with $("$python" --version)"
        rm -rf .venv
        mkdir .venv
        : >.venv/.unfinished
        "$python" -m venv "$here/.venv"
    fi
    say "installing $(grep -c == "$1") packages into .venv, about a minute"
    : >.venv/.unfinished
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r "$1"
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-index \
        --no-build-isolation --editable .
}

mode=${1-}
manager=$(package_manager)
lock=requirements.lock
[ -z "$mode" ] || lock=tests/requirements.lock # the other's packages at the same versions, and more
case $manager in
    dnf) need gpg gnupg2 ;;
    *) need gpg gnupg ;;
esac
need zstd zstd
need git git
if [ -n "$mode" ]; then
    [ -x /usr/sbin/sshd ] || need sshd openssh-server
    need rsync rsync
    need npm npm # which installs a server of Azure's protocol
fi
if [ "$mode" = --servers ]; then
    [ -x /usr/sbin/smbd ] || need smbd samba
    need ceph-mon ceph-mon
    need ceph-osd ceph-osd
    need radosgw radosgw
    [ -x /usr/sbin/dockerd ] || need dockerd docker.io
    need podman podman
    ls /usr/share/postgresql/*/extension/postgis.control >/dev/null 2>&1 || missing="$missing postgresql-postgis"
fi
if [ "$manager" = apt-get ] && { [ -n "$mode" ] || ! has_postgresql; }; then
    need_libraries
fi
if ! sound; then
    python=$(usable_python)
    [ -n "$python" ] || stop "pgsalvo needs Python 3.11 or newer: install python3.11 (or newer) and python3.11-venv"
    "$python" -c 'import ensurepip' 2>/dev/null || missing="$missing $python-venv"
fi
# shellcheck disable=SC2086 # a list of words
[ -z "$missing" ] || install_packages $missing
# Debian's docker.io has brought it, before Debian 13
[ "$mode" != --servers ] || command -v docker >/dev/null || install_packages docker-cli

if ! sound || ! grep -qxF "$(state "$lock")" .venv/.ready 2>/dev/null; then
    install_locked "$lock"
    { state requirements.lock; state "$lock"; } >.venv/.ready
    rm .venv/.unfinished
fi
if ! has_postgresql && ! grep -qxF "$cache" .venv/.postgresql 2>/dev/null; then
    say "installing the programs of PostgreSQL 17"
    .venv/bin/pgsalvo tools install 17
    echo "$cache" >>.venv/.postgresql
fi
