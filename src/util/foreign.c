#include "util/foreign.h"
#include "util/fault.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define TO_JSONL "write it as JSON Lines first: in Python, datasets.Dataset.from_parquet(IN).to_json(OUT)"
#define TO_SAFETENSORS                                                             \
    "load the model in transformers and save it anew: model.save_pretrained(OUT) " \
    "writes safetensors"

static const struct foreign {
    const char *magic;
    int bytes;
    const char *what, *advice;
} kinds[] = {
    {"version https://git-lfs", 23, "a Git LFS pointer, not the file itself",
     "fetch it with \"git lfs pull\""},
    {"PAR1", 4, "a Parquet table", TO_JSONL},
    {"ARROW1", 6, "an Arrow table",
     "write it as JSON Lines first: in Python, datasets.Dataset.from_file(IN).to_json(OUT)"},
    {"\x28\xb5\x2f\xfd", 4, "compressed with zstd", "unpack it with \"zstd -d\", or pack it with gzip"},
    {"\xfd"
     "7zXZ",
     5, "compressed with xz", "unpack it with \"xz -d\", or pack it with gzip"},
    {"BZh", 3, "compressed with bzip2", "unpack it with \"bzip2 -d\", or pack it with gzip"},
    {"\x04\x22\x4d\x18", 4, "compressed with lz4", "unpack it with \"lz4 -d\", or pack it with gzip"},
    {"PK\x03\x04", 4, "a zip archive, as torch.save() writes too", "unpack it; weights: " TO_SAFETENSORS},
    {"\x80\x02", 2, "a pickle of Python", TO_SAFETENSORS},
    {"GGUF", 4, "GGUF", "take the model's folder with safetensors"},
};

/* Foreign to records alone: other readers are for just these. */
static const struct foreign hdf5 = {"\x89HDF\r\n\x1a\n", 8, "an HDF5 file",
                                    "prepared data are given as data=FILE"};

/* Text without first bytes of its own: told by name. */
static enum status refuse_tables(const char *path) {
    static const struct { const char *end, *what; } tables[] = {{".csv", "comma"}, {".tsv", "tab"}};
    size_t n = strlen(path);
    for (size_t i = 0; i < sizeof tables / sizeof tables[0]; i++) {
        size_t k = strlen(tables[i].end);
        if (n > k && strcmp(path + n - k, tables[i].end) == 0) {
            return fail(ERR_DATA,
                        "%s: is a table of %s separated values; write it as JSON Lines first: in Python, "
                        "datasets.Dataset.from_csv(IN).to_json(OUT)",
                        path, tables[i].what);
        }
    }
    return OK;
}

static enum status refuse_kinds(int descriptor, const char *path, const struct foreign *list, size_t count) {
    char begin[40];
    ssize_t n = pread(descriptor, begin, sizeof begin, 0);
    for (size_t i = 0; i < count; i++) {
        const struct foreign *f = &list[i];
        if (n >= f->bytes && memcmp(begin, f->magic, (size_t)f->bytes) == 0) {
            return fail(ERR_DATA, "%s: is %s; %s", path, f->what, f->advice);
        }
    }
    return OK;
}

enum status foreign_refuse(int descriptor, const char *path) {
    return refuse_kinds(descriptor, path, kinds, sizeof kinds / sizeof kinds[0]);
}

enum status foreign_check(const char *path) {
    struct stat facts;
    int file = stat(path, &facts) == 0 && S_ISREG(facts.st_mode) && !fault_hits(FAULT_OPEN)
                   ? open(path, O_RDONLY | O_CLOEXEC)
                   : -1;
    if (file < 0) {
        return OK;
    }
    enum status st = foreign_refuse(file, path);
    st = st == OK ? refuse_kinds(file, path, &hdf5, 1) : st;
    st = st == OK ? refuse_tables(path) : st;
    close(file);
    return st;
}
