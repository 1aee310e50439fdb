# on_gpu.sh COMMAND...: runs it where the program finds a CUDA device; elsewhere says why not and counts as skipped (77).
set -u
device=$("$COLLIMATE" --version | sed -n 's/^cuda *//p')
case "$device" in
GPU-*) exec "$@" ;;
esac
echo "skipped: ${device:-no CUDA back end}"
exit 77
