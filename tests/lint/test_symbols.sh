# The program exports nothing: a name of ours can never take over a library's.
set -u
exported=$(nm -D --defined-only "$COLLIMATE" | grep -vE ' (_init|_fini|_edata|_end|__bss_start|_IO_stdin_used|data_start|__data_start|_start|main)$' |
    grep -vE ' (ompi_|H5|stdout|stderr|stdin|optarg|environ|__environ)' | # copies of library data that the linker makes
    grep -vE '__(asan|ubsan|lsan|sanitizer|interceptor|msan|tsan)' | grep -E ' [TDBR] ' | head)
case "$BUILD" in *asan*) echo "skipped: sanitizers export their own names"; exit 77 ;; esac
[ -z "$exported" ] || { echo "exported: $exported"; exit 1; }
