#include "data/foreign.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char EXPORT[] = "write it as JSON Lines, e.g. with Python's datasets: "
                             "load_dataset(…).to_json(\"pairs.jsonl\")";
static const struct kind {
    const char *start;
    size_t n;
    const char *name, *advice;
} kinds[] = {
    {"PAR1", 4, "a Parquet file", EXPORT},
    {"ARROW1", 6, "an Arrow file", EXPORT},
    {"\x89HDF\r\n\x1a\n", 8, "an HDF5 file, not records", "data=FILE is for prepared ones"},
    {"\x28\xb5\x2f\xfd", 4, "compressed with zstd", "unpack it, or pack it with gzip"},
    {"\xfd\x37zXZ", 5, "compressed with xz", "unpack it, or pack it with gzip"},
    {"BZh", 3, "compressed with bzip2", "unpack it, or pack it with gzip"},
    {"PK\x03\x04", 4, "a zip archive", "unpack it, or pack it with gzip"},
    {"version https://git-lfs", 23, "a Git LFS pointer without its data", "fetch it with git lfs pull"},
};

enum status foreign_check(const char *path) {
    char start[32] = {0};
    struct stat facts;
    int file = stat(path, &facts) == 0 && S_ISREG(facts.st_mode) ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) {
        return OK;
    }
    ssize_t n = read(file, start, sizeof start);
    close(file);
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        if (n >= (ssize_t)kinds[i].n && memcmp(start, kinds[i].start, kinds[i].n) == 0) {
            return fail(ERR_DATA, "%s: this is %s; %s", path, kinds[i].name, kinds[i].advice);
        }
    }
    return OK;
}
