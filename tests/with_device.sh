#!/bin/sh
# In the place of the program (COLLIMATE=tests/with_device.sh, COLLIMATE_PROGRAM=the program): commands that take a device
# and name none get device=$COLLIMATE_TEST_DEVICE, which the ranks of a node may share.
for argument; do
    case $argument in
    device=* | device_ranks=* | --dry-run | --help | --print-config) exec "$COLLIMATE_PROGRAM" "$@" ;;
    esac
done
case $1 in
--*)
    flag=$1
    shift
    ;;
*) flag= ;;
esac
words=" $* "
case ${1:-} in
evaluate) [ "${words#* model=}" = "$words" ] && exec "$COLLIMATE_PROGRAM" ${flag:+"$flag"} "$@" ;;
esac
case ${1:-} in
sft | dpo | reward | score | evaluate | generate | embed)
    command=$1
    shift
    set -- "$command" "device=$COLLIMATE_TEST_DEVICE" "$@"
    [ "$COLLIMATE_TEST_DEVICE" != cuda ] || set -- "$@" device_ranks=8
    ;;
esac
exec "$COLLIMATE_PROGRAM" ${flag:+"$flag"} "$@"
