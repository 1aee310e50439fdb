/* environment.json: what made a result. */
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>

#include "command/run_folder.h"
#include "generated/version.h"
#include "io/file.h"
#include "util/hash.h"
#include "util/log.h"
#include "util/mem.h"

/* The variables that change how a run behaves; nothing else of the environment is recorded.
 * lint/test_variables keeps those that the program itself reads in it. */
static const char *const variables[] = {"OMP_NUM_THREADS",       "OMP_PROC_BIND",      "OMP_PLACES",
                                        "CUDA_VISIBLE_DEVICES",  "SLURM_JOB_ID",       "SLURM_JOB_NUM_NODES",
                                        "SLURM_RESTART_COUNT",   "SLURM_JOB_END_TIME", "COLLIMATE_ALONE",
                                        "COLLIMATE_CHECK",       "COLLIMATE_FAULT",    "COLLIMATE_CPU_LEVEL",
                                        "COLLIMATE_PLUGIN_PATH", "COLLIMATE_WATCHDOG", "OMPI_COMM_WORLD_SIZE",
                                        "OMPI_MCA_btl",          "OMPI_MCA_io"};

static enum status put(struct text *out, const char *name, const char *value) {
    TRY(text_printf(out, ",\n  \"%s\": ", name));
    return text_json(out, value, strlen(value));
}

/* The model name of the first processor, "" where /proc does not say. */
static void processor(char out[128]) {
    out[0] = '\0';
    FILE *file = fopen("/proc/cpuinfo", "r");
    if (!file) {
        return;
    }
    char line[512];
    while (fgets(line, sizeof line, file)) {
        char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) == 0 && colon) {
            colon[1 + strcspn(colon + 1, "\n")] = '\0';
            snprintf(out, 128, "%s", colon + 2);
            break;
        }
    }
    fclose(file);
}

static enum status put_line(const struct run *run, struct text *out) {
    TRY(text_puts(out, ",\n  \"command_line\": ["));
    for (int i = 0; i < run->argc; i++) {
        TRY(text_puts(out, i ? ", " : ""));
        TRY(text_json(out, run->argv[i], strlen(run->argv[i])));
    }
    return text_puts(out, "]");
}

static enum status put_variables(struct text *out) {
    TRY(text_puts(out, ",\n  \"variables\": {"));
    const char *separator = "";
    for (int i = 0; i < COUNT_OF(variables); i++) {
        const char *value = getenv(variables[i]);
        if (value) {
            TRY(text_printf(out, "%s\"%s\": ", separator, variables[i]));
            TRY(text_json(out, value, strlen(value)));
            separator = ", ";
        }
    }
    return text_puts(out, "}");
}

static enum status put_config_hash(const struct run *run, struct text *out) {
    struct text config = {0};
    char digits[17];
    TRY(options_print(run->options, false, &config));
    hash_text(hash_bytes(config.data, config.len, 0), digits);
    text_free(&config);
    return put(out, "configuration_hash", digits);
}

enum status environment_print(const struct run *run, const struct backend *b, const char *started,
                              const struct run_end *end, struct text *out) {
    struct utsname host = {0};
    char cpu[128];
    uname(&host);
    processor(cpu);
    TRY(text_printf(out, "{\n  \"program\": \"collimate %s\"", COLLIMATE_VERSION));
    TRY(put(out, "source", COLLIMATE_GIT));
    TRY(put(out, "build", COLLIMATE_BUILD));
    TRY(put_line(run, out));
    TRY(put_config_hash(run, out));
    TRY(text_printf(out, ",\n  \"seed\": %lld,\n  \"ranks\": %d,\n  \"ranks_per_node\": %d",
                    (long long)run->settings->seed, run->comm->size, run->comm->node_size));
    TRY(put(out, "host", run->comm->host));
    TRY(put(out, "kernel", host.release));
    TRY(put(out, "cpu", cpu));
    TRY(put(out, "mpi", comm_library()));
    TRY(put(out, "device", b->caps.description));
    TRY(b->caps.products ? put(out, "products", b->caps.products) : OK);
    TRY(text_printf(out, ",\n  \"threads_per_rank\": %d", b->caps.threads));
    TRY(put_variables(out));
    TRY(put(out, "started", started));
    if (end) {
        TRY(put(out, "ended", end->at));
        TRY(text_printf(out, ",\n  \"exit_code\": %d,\n  \"peak_resident_bytes\": %lld", end->code,
                        (long long)mem_peak_resident()));
    }
    return text_printf(out, ",\n  \"warnings\": %d\n}", log_warnings());
}
