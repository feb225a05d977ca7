#!/usr/bin/env bash
# Install the servers that tests talk to, where they are missing and this runs as root.
#
# Tests start their own servers, so nothing else may: services are neither started by the installation nor at boot.
# Without root, or without a network, this says what is missing and succeeds: the tests that need it say that they
# were skipped. With WATCHER_REQUIRE_SERVERS=1 a failed installation is an error.
set -euo pipefail

POLICY=/usr/sbin/policy-rc.d # asked before any service is started; 101 forbids it
ASIDE=$POLICY.before-watcher

# Each server's Debian package is also the name of its service.
missing_packages() {
    command -v prometheus >/dev/null || echo prometheus
    [[ -x /usr/sbin/haproxy ]] || command -v haproxy >/dev/null || echo haproxy
    compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || echo postgresql
}

forbid_starting() {
    local answer=0
    if [[ -x $POLICY ]]; then
        "$POLICY" prometheus start >/dev/null 2>&1 || answer=$?
    fi
    if ((answer == 101)); then
        return 0
    fi
    trap restore_policy EXIT
    if [[ -e $POLICY ]]; then
        mv "$POLICY" "$ASIDE"
    fi
    printf '#!/bin/sh\nexit 101\n' >"$POLICY"
    chmod 755 "$POLICY"
}

restore_policy() {
    rm -f "$POLICY"
    if [[ -e $ASIDE ]]; then
        mv "$ASIDE" "$POLICY"
    fi
}

apt() {
    DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=120 "$@" </dev/null
}

# The package lists may be absent or stale: fetch them only if it does not work without.
install_packages() {
    local -a install=(install --yes --no-install-recommends "$@")
    apt "${install[@]}" || { apt update && apt "${install[@]}"; }
}

disable_at_boot() {
    local service
    for service in "$@"; do
        if command -v update-rc.d >/dev/null; then
            update-rc.d "$service" disable
        fi
    done
}

main() {
    local -a missing
    mapfile -t missing < <(missing_packages)
    if ((${#missing[@]} == 0)); then
        return 0
    fi
    if ((EUID != 0)); then
        echo "Tests that need ${missing[*]} will be skipped; to have them: sudo make servers" >&2
        return 0
    fi
    if ! command -v apt-get >/dev/null; then
        echo "Tests that need ${missing[*]} will be skipped: this system has no apt-get, install them yourself" >&2
        return 0
    fi

    echo "Installing ${missing[*]} with apt" >&2
    forbid_starting
    local said
    if ! said=$({ install_packages "${missing[@]}" && disable_at_boot "${missing[@]}"; } 2>&1); then
        tail -n 5 <<<"$said" >&2
        echo "apt could not install ${missing[*]}; the tests that need them will be skipped" >&2
        [[ ${WATCHER_REQUIRE_SERVERS:-} != 1 ]]
    fi
}

main
