#!/usr/bin/env bash
# Everything about scaling on this machine in one command, in less than ten minutes on 2 cores: scaling.sh, network.sh (skipped
# where it cannot run), the cost model's predictions, and RESULTS/README.md with their tables.
#   benchmarks/report.sh [RESULTS_FOLDER]
# Let nothing else run meanwhile; the column "other load" tells whether something did.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
results=$(realpath -m "${1:-$here/results/$(bash "$here/machine.sh")}")
bash "$here/scaling.sh" "$results" > /dev/null
bash "$here/network.sh" "$results" || [ $? -eq 77 ]
PYTHONDONTWRITEBYTECODE=1 "${PYTHON:-python3}" "$here/report.py" "$results" > "$results/README.md"
cat "$results/README.md"
