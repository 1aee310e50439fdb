/* Runs a fuzz target once on every file named, or in every folder named: seeds and findings as ordinary
 * tests. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fuzz.h"

static int n_run;

static void run_file(const char *path) {
    FILE *file = fopen(path, "rb");
    struct stat facts;
    FUZZ_CHECK(file && fstat(fileno(file), &facts) == 0);
    size_t size = (size_t)facts.st_size;
    uint8_t *data = malloc(size ? size : 1); /* exactly as long, so that sanitizers see a read past the end */
    FUZZ_CHECK(data && fread(data, 1, size, file) == size);
    fclose(file);
    LLVMFuzzerTestOneInput(data, size);
    free(data);
    n_run++;
}

static void run(const char *path) {
    struct stat facts;
    FUZZ_CHECK(stat(path, &facts) == 0);
    if (!S_ISDIR(facts.st_mode)) {
        run_file(path);
        return;
    }
    struct dirent **names;
    int n = scandir(path, &names, NULL, alphasort);
    FUZZ_CHECK(n >= 0);
    for (int i = 0; i < n; i++) {
        char inner[4096];
        snprintf(inner, sizeof inner, "%s/%s", path, names[i]->d_name);
        if (names[i]->d_name[0] != '.') {
            run(inner);
        }
        free(names[i]);
    }
    free(names);
}

int main(int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        run(argv[i]);
    }
    if (n_run == 0) {
        fprintf(stderr, "no input was run\n");
        return 1;
    }
    printf("%d inputs\n", n_run);
    return 0;
}
