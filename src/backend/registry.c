/* Which back ends there are, and the choice among them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/backend_internal.h"
#include "backend/operation_times.h"
#include "util/text.h"

/* A row per built-in back end; "auto" is none of them. */
static const struct {
    const char *name;
    backend_opener *open;
} registry[] = {
    {"cpu", cpu_open},
    {"cuda", cuda_open},
    {"check:cpu", check_open},
    {"plan", plan_open},
};

const char *cpu_level_wanted(void) {
    return getenv("COLLIMATE_CPU_LEVEL");
}

static enum status unknown_device(const char *name) {
    const char *nearest = "auto";
    int distance = text_distance(name, nearest);
    for (int i = 0; i < COUNT_OF(registry); i++) {
        int d = text_distance(name, registry[i].name);
        if (d < distance) {
            distance = d;
            nearest = registry[i].name;
        }
    }
    return fail(ERR_USAGE, "device: unknown back end \"%s\"; the nearest known one is \"%s\"", name, nearest);
}

static enum status open_auto(const struct backend_request *request, struct backend **out, char why[256]) {
    char reason[256];
    if (cuda_is_wanted(reason)) {
        return cuda_open(request, out, why);
    }
    TRY(cpu_open(request, out, why));
    memcpy(why, reason, sizeof reason);
    return OK;
}

enum status backend_open(const struct backend_request *request, struct backend **out, char why[256]) {
    const char *device = request->device ? request->device : "auto";
    const char *compute = request->compute ? request->compute : "fp32";
    if (strcmp(compute, "fp32") != 0 && strcmp(compute, "bf16") != 0 && strcmp(compute, "tf32") != 0) {
        return fail(ERR_USAGE, "compute: \"%s\" is not a type; give fp32, tf32 or bf16", compute);
    }
    struct backend_request asked = *request;
    asked.device = device;
    asked.compute = compute;
    why[0] = '\0';
    if (strcmp(device, "auto") == 0) {
        return open_auto(&asked, out, why);
    }
    for (int i = 0; i < COUNT_OF(registry); i++) {
        if (strcmp(device, registry[i].name) == 0) {
            return registry[i].open(&asked, out, why);
        }
    }
    return unknown_device(device);
}

void backend_accelerator(char out[256]) {
    const struct backend_request request = {.device = "cuda", .compute = "fp32"};
    struct backend *b = NULL;
    char why[256] = "";
    if (cuda_open(&request, &b, why) == OK) {
        snprintf(out, 256, "%.250s", b->caps.description);
        backend_close(b);
    } else {
        snprintf(out, 256, "%.250s", status_message()->text);
        status_clear();
    }
}

void backend_close(struct backend *b) {
    if (b) {
        operation_times_close(b);
        b->ops->destroy(b);
    }
}
