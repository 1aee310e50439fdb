#!/usr/bin/env bash
# A name for this machine's processor that can be a folder's: intel-r-xeon-r-processor-2.80ghz.
LC_ALL=C sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1 | tr -cs 'A-Za-z0-9.\n' - | tr 'A-Z' 'a-z' | sed 's/-\+$//'
