# Sourced by quickstart.sh and tests/run.sh: installs what lacks (Debian, Ubuntu) and builds. Seconds when nothing changed.

# What the program needs (README says why).
build_packages="build-essential cmake ninja-build pkg-config git libopenmpi-dev openmpi-bin libhdf5-openmpi-dev
    libopenblas-openmp-dev libyaml-dev libjansson-dev libpcre2-dev libutf8proc-dev libxxhash-dev zlib1g-dev"
# What its tests need besides.
test_packages="libcmocka-dev clang-format clang-tidy hdf5-tools"
# What fuzzing needs besides; without it those tests are skipped.
fuzz_packages="clang libclang-rt-14-dev libomp-dev"
# What the tests under a real Slurm need besides.
cluster_packages="slurmctld slurmd slurm-client slurm-wlm-basic-plugins munge openssh-server iproute2"

# install_missing PACKAGE...: apt-get installs those that are not there; a hint on other systems.
install_missing() {
    local missing=() package
    if ! command -v dpkg-query > /dev/null; then
        echo "not a Debian system: please install the equivalents of: $*" >&2
        return 0
    fi
    for package in "$@"; do
        dpkg-query -W -f='${Status}' "$package" 2> /dev/null | grep -q 'ok installed' || missing+=("$package")
    done
    [ ${#missing[@]} -eq 0 ] && return 0
    echo "installing: ${missing[*]}"
    local root=()
    [ "$(id -u)" -eq 0 ] || root=(sudo)
    "${root[@]}" apt-get -qq update
    "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "${missing[@]}" > /dev/null
}

# install_quietly PACKAGE...: the same, and no service of theirs is started.
install_quietly() {
    local policy=/usr/sbin/policy-rc.d rc=0
    if [ -e "$policy" ] || [ "$(id -u)" -ne 0 ]; then
        install_missing "$@"
        return
    fi
    printf '#!/bin/sh\nexit 101\n' > "$policy"
    chmod +x "$policy"
    install_missing "$@" || rc=$?
    rm -f "$policy"
    return $rc
}

# configure PRESET [ARGUMENTS]: quiet unless it fails.
configure() {
    local log
    log=$(mktemp)
    cmake --preset "$@" > "$log" 2>&1 || {
        cat "$log" >&2
        rm -f "$log"
        return 1
    }
    rm -f "$log"
}

# build_program PRESET: configures where that was not done and builds the program alone in build/PRESET.
build_program() {
    [ -f "build/$1/build.ninja" ] || configure "$1"
    cmake --build --preset "$1" --target collimate -- --quiet
}

# build_tests PRESET: the program and its tests.
build_tests() {
    { [ -f "build/$1/build.ninja" ] && grep -q '^COLLIMATE_TESTS:.*=ON$' "build/$1/CMakeCache.txt"; } ||
        configure "$1" -D COLLIMATE_TESTS=ON
    cmake --build --preset "$1" -- --quiet
}
