#!/usr/bin/env bash
# Install the servers that tests talk to, and the clients they run, where they are missing: Debian packages where this
# runs as root, and Unleash into this folder, .servers, where there is npm.
#
# Tests start their own servers, so nothing else may: services are neither started by the installation nor at boot.
# Without root, npm or a network, this says what is missing and succeeds: the tests that need it say that they were
# skipped. With WATCHER_REQUIRE_SERVERS=1 a failed installation is an error.
set -euo pipefail
cd "$(dirname "$0")/.."

UNLEASH=7.5.1 # newer ones need more than Node 20
POLICY=/usr/sbin/policy-rc.d # asked before any service is started; 101 forbids it
ASIDE=$POLICY.before-watcher

# Each server's Debian package is also the name of its service; a client's has none.
missing_packages() {
    command -v prometheus >/dev/null || echo prometheus
    command -v chromium >/dev/null || echo chromium
    command -v kubectl >/dev/null || echo kubernetes-client
    command -v systemd-analyze >/dev/null || echo systemd
    [[ -x /usr/sbin/haproxy ]] || command -v haproxy >/dev/null || echo haproxy
    command -v prometheus-alertmanager >/dev/null || echo prometheus-alertmanager
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
        if [[ -e /etc/init.d/$service ]] && command -v update-rc.d >/dev/null; then
            update-rc.d "$service" disable
        fi
    done
}

install_debian_packages() {
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

# No root is needed: nothing outside of this folder is written, but npm's own cache.
install_unleash() {
    local place=.servers/unleash draft=.servers/unleash.draft
    if grep -qs "\"version\": \"$UNLEASH\"" $place/node_modules/unleash-server/package.json; then
        return 0
    fi
    local enough='process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)'
    if ! command -v npm >/dev/null || ! node --eval "$enough" 2>/dev/null; then
        echo "Tests that need Unleash will be skipped: there is no npm with Node 20 or newer, install it yourself" >&2
        return 0
    fi

    echo "Installing Unleash $UNLEASH with npm into $place" >&2
    rm -rf $draft
    mkdir -p $draft
    # The packages' own scripts are left out: Unleash runs without, and one of them reports home.
    local -a quietly=(--ignore-scripts --no-audit --no-fund --no-update-notifier --loglevel=error)
    # By default a missing network is noticed after a minute, at every `make test`.
    local -a soon=(--fetch-retries=3 --fetch-retry-mintimeout=1000 --fetch-retry-maxtimeout=5000)
    local said
    if ! said=$(npm install --prefix $draft "${quietly[@]}" "${soon[@]}" unleash-server@$UNLEASH 2>&1 </dev/null); then
        rm -rf $draft
        head -n 5 <<<"$said" >&2
        echo "npm could not install Unleash; the tests that need it will be skipped" >&2
        [[ ${WATCHER_REQUIRE_SERVERS:-} != 1 ]]
        return
    fi
    # Whoever owns this folder may remove it, after `sudo make servers` too.
    if ((EUID == 0)); then
        chown -R --reference=. .servers
    fi
    rm -rf $place
    mv $draft $place
}

install_debian_packages
install_unleash
