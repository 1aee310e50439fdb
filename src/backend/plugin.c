/* The CUDA back end lives in a shared object of its own, so that the program starts where CUDA is missing.
 *
 * It is looked for in the folder COLLIMATE_PLUGIN_PATH where that is set, otherwise beside the program: in
 * ../LIBDIR/collimate with the LIBDIR of the build (lib, lib64, lib/x86_64-linux-gnu), ../lib/collimate and
 * ../lib64/collimate (installed, perhaps moved), in cuda/, ../cuda/ and its own folder (build tree). It stays
 * loaded until the process ends: unloading a CUDA runtime is not safe.
 */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backend/backend_internal.h"

static const char PLUGIN_NAME[] = "libcollimate_cuda.so";
#ifndef COLLIMATE_LIBDIR
#define COLLIMATE_LIBDIR "lib"
#endif

/* Folder of the running program, without the last slash. */
static bool program_folder(char *out, size_t size) {
    ssize_t n = readlink("/proc/self/exe", out, size - 1);
    if (n <= 0) {
        return false;
    }
    out[n] = '\0';
    char *slash = strrchr(out, '/');
    if (!slash) {
        return false;
    }
    *slash = '\0';
    return true;
}

static void *open_in(const char *folder, const char *below, char reason[160]) {
    char path[4096];
    int n = snprintf(path, sizeof path, "%s%s/%s", folder, below, PLUGIN_NAME);
    if (n < 0 || (size_t)n >= sizeof path || access(path, R_OK) != 0) {
        return NULL;
    }
    void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!handle) {
        const char *error = dlerror();
        snprintf(reason, 160, "%.150s", error ? error : "dlopen failed");
    }
    return handle;
}

static void *find_plugin(char reason[160]) {
    snprintf(reason, 160, "%s is not installed", PLUGIN_NAME);
    const char *given = getenv("COLLIMATE_PLUGIN_PATH");
    if (given && given[0]) {
        return open_in(given, "", reason);
    }
    static const char installed[] = "/../" COLLIMATE_LIBDIR "/collimate";
    static const char *const below[] = {installed, "/../lib/collimate", "/../lib64/collimate",
                                        "/cuda",   "/../cuda",          ""};
    char folder[2048];
    void *handle = NULL;
    if (program_folder(folder, sizeof folder)) {
        for (int i = 0; i < COUNT_OF(below) && !handle; i++) {
            handle = open_in(folder, below[i], reason);
        }
    }
    return handle;
}

static enum status load(const struct backend_plugin **out) {
    char reason[160];
    void *handle = find_plugin(reason);
    if (!handle) {
        return fail(ERR_SYSTEM, "no CUDA: %s", reason);
    }
    const struct backend_plugin *(*entry)(void) = NULL;
    void *symbol = dlsym(handle, "collimate_backend");
    memcpy(&entry, &symbol, sizeof entry); /* ISO C has no cast from void * to a function */
    const struct backend_plugin *plugin = entry ? entry() : NULL;
    if (!plugin || plugin->api_version != BACKEND_API_VERSION) {
        return fail(ERR_SYSTEM, "no CUDA: %s is of another version (%d, not %d); install both from one build",
                    PLUGIN_NAME, plugin ? plugin->api_version : 0, BACKEND_API_VERSION);
    }
    *out = plugin;
    return OK;
}

enum status cuda_open(const struct backend_request *request, struct backend **out, char why[256]) {
    const struct backend_plugin *plugin;
    TRY(load(&plugin));
    return plugin->open(request, status_set, out, why);
}

/* The driver's library comes with the driver; a plug-in that was named brings what it needs. */
static bool may_have_device(void) {
    const char *given = getenv("COLLIMATE_PLUGIN_PATH");
    return (given && given[0]) || dlopen("libcuda.so.1", RTLD_LAZY | RTLD_LOCAL) != NULL;
}

bool cuda_is_wanted(char why[256]) {
    const struct backend_plugin *plugin = NULL;
    snprintf(why, 256, "no CUDA device, using the CPU");
    if (!may_have_device()) {
        return false;
    }
    if (load(&plugin) != OK) {
        snprintf(why, 256, "%.200s; using the CPU", status_message()->text);
        status_clear();
        return false;
    }
    if (plugin->devices() == 0) {
        return false;
    }
    snprintf(why, 256, "CUDA only when asked for: device=cuda");
    return plugin->score > 0;
}
