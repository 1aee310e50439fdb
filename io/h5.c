#include "io/h5_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "io/h5_guard.h"
#include "mpi/comm_handle.h"
#include "mpi/watchdog.h"
#include "util/fault.h"
#include "util/hash.h"
#include "util/mem.h"

enum { TEXT_LIMIT = 1 << 20 }; /* bytes of a text attribute that we believe */

void h5_quiet(void) {
    (void)H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
}

void h5_library(char out[128]) {
    static const struct {
        H5Z_filter_t filter;
        const char *name;
    } filters[] = {{H5Z_FILTER_DEFLATE, "deflate"},
                   {H5Z_FILTER_SHUFFLE, "shuffle"},
                   {H5Z_FILTER_FLETCHER32, "fletcher32"}};
    unsigned major = 0;
    unsigned minor = 0;
    unsigned release = 0;
    bool known = H5get_libversion(&major, &minor, &release) >= 0;
    bool there[COUNT_OF(filters)];
    for (int i = 0; i < COUNT_OF(filters); i++) {
        there[i] = H5Zfilter_avail(filters[i].filter) > 0;
    }
    int n = known ? snprintf(out, 128, "%u.%u.%u parallel, filters", major, minor, release)
                  : snprintf(out, 128, "(unknown version) parallel, filters");
    for (int i = 0; i < COUNT_OF(filters) && n > 0 && n < 100; i++) {
        n += there[i] ? snprintf(out + n, (size_t)(128 - n), " %s", filters[i].name) : 0;
    }
}

static herr_t first_reason(unsigned n, const H5E_error2_t *error, void *context) {
    (void)n;
    snprintf(context, 200, "%s", error->desc ? error->desc : "no reason given");
    return 1; /* the innermost one is enough */
}

enum status h5_fail(enum status code, const char *path, const char *format, ...) {
    char reason[200] = "no reason given";
    char what[400];
    (void)H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, first_reason, reason);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(what, sizeof what, format, arguments);
    va_end(arguments);
    return fail(code, "%s: %s (HDF5: %s)", path, what, reason);
}

int array_type_bytes(enum array_type type) {
    switch (type) {
    case ARRAY_I8:
    case ARRAY_U8:
        return 1;
    case ARRAY_I32:
    case ARRAY_F32:
        return 4;
    default:
        return 8;
    }
}

hid_t h5_disk_type(enum array_type type) {
    switch (type) {
    case ARRAY_I8:
        return H5T_STD_I8LE;
    case ARRAY_U8:
        return H5T_STD_U8LE;
    case ARRAY_I32:
        return H5T_STD_I32LE;
    case ARRAY_I64:
        return H5T_STD_I64LE;
    case ARRAY_U64:
        return H5T_STD_U64LE;
    case ARRAY_F32:
        return H5T_IEEE_F32LE;
    default:
        return H5T_IEEE_F64LE;
    }
}

hid_t h5_memory_type(enum array_type type) {
    switch (type) {
    case ARRAY_I8:
        return H5T_NATIVE_INT8;
    case ARRAY_U8:
        return H5T_NATIVE_UINT8;
    case ARRAY_I32:
        return H5T_NATIVE_INT32;
    case ARRAY_I64:
        return H5T_NATIVE_INT64;
    case ARRAY_U64:
        return H5T_NATIVE_UINT64;
    case ARRAY_F32:
        return H5T_NATIVE_FLOAT;
    default:
        return H5T_NATIVE_DOUBLE;
    }
}

/* No collective buffering and no data sieving: ROMIO fills the holes between pieces from the file, and where
 * that is not written yet with whatever its buffer held, so that unused space would differ from run to run.
 */
static MPI_Info file_hints(void) {
    static const char *const off[] = {"romio_cb_write", "romio_ds_write"};
    MPI_Info info = MPI_INFO_NULL;
    if (MPI_Info_create(&info) != MPI_SUCCESS) {
        return MPI_INFO_NULL;
    }
    for (int i = 0; i < COUNT_OF(off); i++) {
        (void)MPI_Info_set(info, off[i], "disable"); /* a hint: without it the file is as right */
    }
    return info;
}

hid_t h5_parallel_access(const struct comm *c) {
    hid_t access = H5Pcreate(H5P_FILE_ACCESS);
    MPI_Info info = file_hints();
    if (access >= 0 && (H5Pset_fapl_mpio(access, comm_file_handle(c), info) < 0 ||
                        H5Pset_coll_metadata_write(access, true) < 0)) {
        H5Pclose(access);
        access = H5I_INVALID_HID;
    }
    if (info != MPI_INFO_NULL) {
        MPI_Info_free(&info);
    }
    return access;
}

enum status h5_check_name(const char *name, char out[H5_NAME_BYTES]) {
    int n = snprintf(out, H5_NAME_BYTES, "%s.check", name);
    return n > 0 && n < H5_NAME_BYTES ? OK : fail(ERR_INTERNAL, "array name %s is too long", name);
}

uint64_t h5_block_hash(const void *data, int64_t bytes, int64_t block) {
    return hash_bytes(data, (size_t)bytes, (uint64_t)block);
}

enum status h5_sum_hash(struct comm *c, uint64_t own, uint64_t *total) {
    *total = own;
    return comm_sum_u64(c, total, 1);
}

/* Opening. */

static enum status check_content(struct h5_file *f, const char *content, int version) {
    char *found = NULL;
    int64_t found_version = 0;
    if (!h5_has_attribute(f, "content") || !h5_has_attribute(f, "format_version")) {
        return fail(ERR_DATA, "%s: an HDF5 file, but not one that collimate wrote (no \"content\")", f->path);
    }
    TRY(h5_get_text(f, "content", &found));
    if (content && strcmp(found, content) != 0) {
        fail(ERR_DATA, "%s: holds %.40s where %s are expected", f->path, found, content);
        mem_free(found);
        return ERR_DATA;
    }
    mem_free(found);
    TRY(h5_get_i64(f, "format_version", &found_version));
    if (content && (found_version > version || found_version < 1)) {
        return fail(ERR_DATA, "%s: format version %lld, this program reads up to %d; use a newer collimate",
                    f->path, (long long)found_version, version);
    }
    return OK;
}

static enum status new_file(const char *path, struct h5_file **out) {
    struct h5_file *f = mem_calloc(1, sizeof *f);
    if (!f) {
        return ERR_SYSTEM;
    }
    f->id = H5I_INVALID_HID;
    f->path = mem_strdup(path);
    if (!f->path) {
        mem_free(f);
        return ERR_SYSTEM;
    }
    *out = f;
    return OK;
}

/* Local. Whether the file that all ranks are about to open for writing is what it has to be. */
static enum status check_for_updates(const char *path, const char *content, int version) {
    struct h5_file *f;
    TRY(h5_guard(path, GUARD_UPDATES));
    TRY(h5_open(path, content, version, &f));
    h5_close(f);
    return OK;
}

enum status h5_plain_open(const char *path, struct h5_plain *out) {
    *out = (struct h5_plain){.path = path, .descriptor = -1};
    if (!strchr(path, ':')) {
        return OK;
    }
    out->descriptor = fault_hits(FAULT_OPEN) ? -1 : open(path, O_RDWR | O_CLOEXEC);
    snprintf(out->link, sizeof out->link, "/proc/self/fd/%d", out->descriptor);
    if (out->descriptor < 0 || access(out->link, R_OK | W_OK) != 0) {
        enum status st =
            fail(ERR_WRITE,
                 "%s: MPI-IO takes what is before a colon for a file system, and the file cannot be "
                 "opened through /proc either: %s; choose a path without a colon",
                 path, strerror(errno));
        h5_plain_close(out);
        return st;
    }
    out->path = out->link;
    return OK;
}

void h5_plain_close(struct h5_plain *p) {
    if (p->descriptor >= 0) {
        close(p->descriptor);
    }
    p->descriptor = -1;
}

static hid_t local_access(void) {
    hid_t access = H5Pcreate(H5P_FILE_ACCESS);
#if H5_VERSION_GE(1, 10, 7)
    /* Files are renamed into place, so readers need no locks, which some parallel file systems lack. */
    if (access >= 0) {
        (void)H5Pset_file_locking(access, false, true);
    }
#endif
    return access;
}

enum status h5_open(const char *path, const char *content, int version, struct h5_file **out) {
    struct h5_file *f = NULL;
    TRY(h5_guard(path, GUARD_READS));
    h5_quiet();
    TRY(new_file(path, &f));
    enum status st = OK;
    hid_t access = local_access();
    errno = 0;
    f->id = fault_hits(FAULT_OPEN) ? H5I_INVALID_HID : H5Fopen(path, H5F_ACC_RDONLY, access);
    if (f->id < 0) {
        bool is_full = errno == EMFILE || errno == ENFILE || errno == ENOMEM; /* no fault of the file */
        st = is_full ? fail(ERR_INPUT, "%s: %s", path, strerror(errno))
                     : h5_fail(ERR_DATA, path, "cannot be opened; truncated or damaged");
    }
    if (access >= 0) {
        H5Pclose(access);
    }
    if (st == OK) {
        st = check_content(f, content, version);
    }
    if (st != OK) {
        h5_close(f);
        return st;
    }
    *out = f;
    return OK;
}

enum status h5_content(const char *path, char **content) {
    struct h5_file *f;
    TRY(h5_open(path, NULL, 0, &f));
    enum status st = h5_get_text(f, "content", content);
    h5_close(f);
    return st;
}

/* Collective. HDF5 1.10 tells the ranks by a broadcast which parts of a file are in all their memories, when
 * the first of them asks for a link in it (H5Lget_info): no rank may be elsewhere then, for want of memory.
 */
static enum status look_together(struct h5_file *f, const char *content, int version) {
    H5L_info_t link;
    watchdog_wait(f->c->watchdog, "opening a file");
    (void)H5Lget_info(f->id, "no such name", &link, H5P_DEFAULT);
    watchdog_go(f->c->watchdog);
    return check_content(f, content, version);
}

enum status h5_open_shared(struct comm *c, const char *path, const char *content, int version,
                           struct h5_file **out) {
    struct h5_file *f = NULL;
    struct h5_plain plain = {.descriptor = -1};
    enum status st = check_for_updates(path, content, version);
    st = st == OK ? h5_plain_open(path, &plain) : st;
    if (st == OK) {
        st = new_file(path, &f);
    }
    st = comm_agree(c, st); /* nobody enters what is collective unless all do */
    hid_t access = st == OK ? h5_parallel_access(c) : H5I_INVALID_HID;
    if (st == OK && access < 0) {
        st = h5_fail(ERR_SYSTEM, path, "no parallel access");
    }
    st = comm_agree(c, st);
    if (st == OK && f) {
        f->c = c;
        watchdog_wait(c->watchdog, "opening a file");
        f->id = H5Fopen(plain.path, H5F_ACC_RDWR, access);
        if (f->id < 0 || fault_hits(FAULT_OPEN)) {
            st = h5_fail(ERR_DATA, path, "cannot be opened for writing; read-only, truncated or damaged");
        }
        st = comm_agree(c, st);
        st = st == OK ? comm_agree(c, look_together(f, content, version)) : st;
    }
    h5_plain_close(&plain);
    if (access >= 0) {
        H5Pclose(access);
    }
    if (st != OK) {
        h5_close(f);
        return st;
    }
    *out = f;
    return OK;
}

void h5_close(struct h5_file *f) {
    if (!f) {
        return;
    }
    struct watchdog *watchdog = f->c ? f->c->watchdog : NULL;
    watchdog_wait(watchdog, "closing a file");
    h5_columns_close(f);
    if (f->id >= 0) {
        (void)H5Fclose(f->id);
    }
    watchdog_go(watchdog);
    mem_free(f->path);
    mem_free(f);
}

enum status h5_close_shared(struct h5_file *f) {
    enum status st = OK;
    struct comm *c = f->c;
    watchdog_wait(c->watchdog, "closing a file");
    h5_columns_close(f);
    if (H5Fclose(f->id) < 0 || fault_hits(FAULT_CLOSE)) {
        st = h5_fail(ERR_WRITE, f->path, "cannot be closed; is the disk full?");
    }
    f->id = H5I_INVALID_HID;
    h5_close(f);
    return comm_agree(c, st);
}

const char *h5_path(const struct h5_file *f) {
    return f->path;
}

/* Attributes. */

bool h5_has_attribute(struct h5_file *f, const char *name) {
    return H5Aexists(f->id, name) > 0;
}

bool h5_attribute_name(struct h5_file *f, int64_t i, char *name, size_t size) {
    return H5Aget_name_by_idx(f->id, ".", H5_INDEX_NAME, H5_ITER_INC, (hsize_t)i, name, size, H5P_DEFAULT) >
           0;
}

/* The attribute of that class with one element; its storage type in *type. */
static enum status attribute_open(struct h5_file *f, const char *name, H5T_class_t class, hid_t *attribute,
                                  hid_t *type) {
    *attribute = H5Aopen(f->id, name, H5P_DEFAULT);
    if (*attribute < 0) {
        return h5_fail(ERR_DATA, f->path, "attribute \"%s\" is missing or damaged", name);
    }
    hid_t space = H5Aget_space(*attribute);
    hssize_t points = space >= 0 ? H5Sget_simple_extent_npoints(space) : -1;
    if (space >= 0) {
        H5Sclose(space);
    }
    *type = H5Aget_type(*attribute);
    if (points != 1 || *type < 0 || H5Tget_class(*type) != class) {
        return fail(ERR_DATA, "%s: attribute \"%s\" is not of the type expected", f->path, name);
    }
    return OK;
}

static void attribute_close(hid_t attribute, hid_t type) {
    if (type >= 0) {
        H5Tclose(type);
    }
    if (attribute >= 0) {
        H5Aclose(attribute);
    }
}

static enum status get_integer(struct h5_file *f, const char *name, hid_t memory, void *out) {
    hid_t attribute = H5I_INVALID_HID, type = H5I_INVALID_HID;
    enum status st = attribute_open(f, name, H5T_INTEGER, &attribute, &type);
    if (st == OK && (H5Tget_size(type) > 8 || H5Aread(attribute, memory, out) < 0)) {
        st = h5_fail(ERR_DATA, f->path, "attribute \"%s\" cannot be read", name);
    }
    attribute_close(attribute, type);
    return st;
}

enum status h5_get_i64(struct h5_file *f, const char *name, int64_t *out) {
    return get_integer(f, name, H5T_NATIVE_INT64, out);
}

enum status h5_get_u64(struct h5_file *f, const char *name, uint64_t *out) {
    return get_integer(f, name, H5T_NATIVE_UINT64, out);
}

enum status h5_get_text(struct h5_file *f, const char *name, char **out) {
    hid_t attribute = H5I_INVALID_HID, type = H5I_INVALID_HID;
    char *text = NULL;
    enum status st;
    TRY_TO(done, attribute_open(f, name, H5T_STRING, &attribute, &type));
    size_t size = H5Tget_size(type);
    if (H5Tis_variable_str(type) != 0 || size == 0 || size > TEXT_LIMIT) {
        st = fail(ERR_DATA, "%s: attribute \"%s\" is not a text of fixed size", f->path, name);
        goto done;
    }
    TRY_TO(done, NEW_ARRAY(text, (int64_t)size + 1));
    if (H5Aread(attribute, type, text) < 0) {
        st = h5_fail(ERR_DATA, f->path, "attribute \"%s\" cannot be read", name);
    }
done:
    attribute_close(attribute, type);
    if (st != OK) {
        mem_free(text);
        return st;
    }
    *out = text;
    return OK;
}

bool h5_has(struct h5_file *f, const char *name) {
    char part[256];
    for (const char *slash = strchr(name + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        size_t n = (size_t)(slash - name);
        if (n >= sizeof part) {
            return false;
        }
        memcpy(part, name, n);
        part[n] = '\0';
        if (H5Lexists(f->id, part, H5P_DEFAULT) <= 0) {
            return false;
        }
    }
    return H5Lexists(f->id, name, H5P_DEFAULT) > 0;
}
