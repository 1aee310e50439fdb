/* --version: what a bug report needs, on a login node, without MPI start-up, device or configuration. */
#include <stdio.h>

#include "command/line.h"
#include "generated/version.h"
#include "mpi/comm.h"

static const char *instruction_sets(void) {
    static char list[128];
    __builtin_cpu_init();
    snprintf(list, sizeof list, "%s%s%s%s", __builtin_cpu_supports("avx2") ? "avx2 " : "",
             __builtin_cpu_supports("fma") ? "fma " : "", __builtin_cpu_supports("avx512f") ? "avx512f " : "",
             __builtin_cpu_supports("avx512bf16") ? "avx512_bf16 " : "");
    return list;
}

enum status line_print_version(void) {
    printf("collimate %s (%s)  %s\n", COLLIMATE_VERSION, COLLIMATE_GIT, COLLIMATE_BUILD);
    printf("mpi       %s\n", comm_library());
    printf("cpu       %s\n", instruction_sets());
    return OK;
}
