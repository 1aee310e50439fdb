#!/usr/bin/env bash
# Installs what the tests need, builds and runs them all.
#   tests/run.sh                  release build, every label
#   tests/run.sh --preset asan    the same under AddressSanitizer and UBSan
#   tests/run.sh -L mpi           arguments go to ctest
#   TIDY=all tests/run.sh -L lint    clang-tidy over all sources, not only over those that changed
#   tests/run.sh -L slow          what goes all the way and takes hours; in no other run
#   tests/run.sh -LE cluster      without the runs under a real Slurm, and without installing it (no service is started)
set -euo pipefail
cd "$(dirname "$0")/.."
. jobs/setup.sh
. jobs/env.sh
preset=release
if [ "${1:-}" = --preset ]; then
    preset=$2
    shift 2
fi
# shellcheck disable=SC2086
install_missing $build_packages $test_packages
# shellcheck disable=SC2086
install_missing $fuzz_packages || echo "no clang with libFuzzer could be installed: fuzzing will be skipped"
case " $* " in
*" -L cluster "* | *" -R cluster"*) slurm=1 ;;
*" -L "* | *" -R "* | *" -LE cluster "*) slurm=0 ;;
*) slurm=1 ;;
esac
if [ $slurm = 1 ]; then
    # shellcheck disable=SC2086
    install_quietly $cluster_packages || echo "no Slurm could be installed: its test will be skipped"
fi
build_tests "$preset"
# One more than there are cores: tests also wait, for disks and for launchers. A test that takes both of two cores counts twice.
case " $* " in
*" -L slow "*) set -- -C slow "$@" ;;
esac
ctest --preset "$preset" -j "$(($(nproc) + 1))" "$@"
