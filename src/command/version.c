/* --version: what a bug report needs, on a login node, without MPI start-up or configuration. */
#include <stdio.h>

#include "backend/backend.h"
#include "command/line.h"
#include "generated/version.h"
#include "io/file.h"
#include "io/h5.h"
#include "io/yaml.h"
#include "mpi/comm.h"
#include "text/tokenizer.h"
#include "util/hash.h"
#include "util/json.h"

static const char *instruction_sets(void) {
    static char list[128];
    __builtin_cpu_init();
    snprintf(list, sizeof list, "%s%s%s%s", __builtin_cpu_supports("avx2") ? "avx2 " : "",
             __builtin_cpu_supports("fma") ? "fma " : "", __builtin_cpu_supports("avx512f") ? "avx512f " : "",
             __builtin_cpu_supports("avx512bf16") ? "avx512_bf16 " : "");
    return list[0] ? list : "baseline ";
}

enum status line_print_version(void) {
    char hdf5[128];
    char tokenizers[128];
    char blas[160];
    char accelerator[256];
    char hashes[32];
    h5_library(hdf5);
    tokenizer_libraries(tokenizers);
    backend_cpu_library(blas);
    backend_accelerator(accelerator);
    hash_library(hashes);
    printf("collimate %s (%s)  %s\n", COLLIMATE_VERSION, COLLIMATE_GIT, COLLIMATE_BUILD);
    printf("mpi       %s\n", comm_library());
    printf("hdf5      %s\n", hdf5);
    printf("blas      %s\n", blas);
    printf("libraries libyaml %s, jansson %s, %s, xxhash %s, zlib %s\n", yaml_library(), json_library(),
           tokenizers, hashes, zlib_library());
    printf("cpu       %s(products of bf16: fp32%s%s)\n", instruction_sets(),
           backend_cpu_offers_products(PRODUCTS_AVX512) ? ", " PRODUCTS_AVX512 : "",
           backend_cpu_offers_products(PRODUCTS_AMX) ? ", " PRODUCTS_AMX : "");
    printf("cuda      %s\n", accelerator);
    return OK;
}
