#!/usr/bin/env bash
# Fuzzing that gives the same verdict at each run: the same inputs, about 8 s a target, two targets at a time.
set -u
. tests/fuzz/clang.sh
bash tests/fuzz/fuzz.sh fixed
