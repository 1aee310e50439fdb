#include "util/mem.h"

#include <limits.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "util/fault.h"

static bool bytes_of(int64_t count, size_t size, size_t *bytes) {
    if (count < 0 || __builtin_mul_overflow((size_t)count, size, bytes) || *bytes > PTRDIFF_MAX) {
        fail(ERR_SYSTEM, "cannot allocate %lld elements of %zu bytes", (long long)count, size);
        return false;
    }
    if (*bytes == 0) {
        *bytes = 1;
    }
    return true;
}

static bool is_out(void) {
    return fault_hits(FAULT_ALLOCATE);
}

static void *checked(void *p, size_t bytes) {
    if (!p) {
        fail(ERR_SYSTEM, "out of memory: %zu bytes asked for", bytes);
    }
    return p;
}

void *mem_calloc(int64_t count, size_t size) {
    size_t bytes;
    return bytes_of(count, size, &bytes) ? checked(is_out() ? NULL : calloc(1, bytes), bytes) : NULL;
}

void *mem_grow(void *old, int64_t count, size_t size) {
    size_t bytes;
    return bytes_of(count, size, &bytes) ? checked(is_out() ? NULL : realloc(old, bytes), bytes) : NULL;
}

void *mem_aligned(int64_t count, size_t size) {
    size_t bytes;
    if (!bytes_of(count, size, &bytes)) {
        return NULL;
    }
    bytes = (bytes + 63) / 64 * 64;
    return checked(is_out() ? NULL : aligned_alloc(64, bytes), bytes);
}

void mem_free(void *p) {
    free(p);
}

char *mem_strndup(const char *s, size_t n) {
    char *copy = mem_calloc((int64_t)n + 1, 1);
    if (copy) {
        memcpy(copy, s, n);
    }
    return copy;
}

char *mem_strdup(const char *s) {
    return mem_strndup(s, strlen(s));
}

enum status mem_reserve(void *array, int64_t *capacity, int64_t need, size_t size) {
    if (need < 0) {
        return fail(ERR_SYSTEM, "cannot allocate %lld elements of %zu bytes", (long long)need, size);
    }
    if (need <= *capacity) {
        return OK;
    }
    int64_t wanted = *capacity < 16 ? 16 : *capacity;
    while (wanted < need) {
        if (wanted > INT64_MAX / 2) {
            wanted = need;
        } else {
            wanted *= 2;
        }
    }
    void *old;
    memcpy(&old, array, sizeof old);
    void *grown = mem_grow(old, wanted, size);
    if (!grown) {
        return ERR_SYSTEM;
    }
    memcpy(array, &grown, sizeof grown);
    *capacity = wanted;
    return OK;
}

enum status mem_reserve_all(int64_t *capacity, int64_t need, const struct mem_array *arrays, int n) {
    int64_t grown = *capacity;
    for (int i = 0; i < n; i++) {
        grown = *capacity;
        TRY(mem_reserve(arrays[i].array, &grown, need, arrays[i].size));
    }
    *capacity = grown; /* all of them have it */
    return OK;
}

enum status size_mul(int64_t a, int64_t b, const char *what, int64_t *out) {
    if (a < 0 || b < 0 || __builtin_mul_overflow(a, b, out)) {
        return fail(ERR_DATA, "%s: size %lld x %lld is out of range", what, (long long)a, (long long)b);
    }
    return OK;
}

enum status size_add(int64_t a, int64_t b, const char *what, int64_t *out) {
    if (a < 0 || b < 0 || __builtin_add_overflow(a, b, out)) {
        return fail(ERR_DATA, "%s: size %lld + %lld is out of range", what, (long long)a, (long long)b);
    }
    return OK;
}

enum status to_int(int64_t value, const char *what, int *out) {
    if (value > INT_MAX || value < INT_MIN) {
        return fail(ERR_DATA, "%s: %lld does not fit in 32 bits", what, (long long)value);
    }
    *out = (int)value;
    return OK;
}

void mem_trim(void) {
    malloc_trim(0);
}

int64_t mem_peak_resident(void) {
    struct rusage usage;
    return getrusage(RUSAGE_SELF, &usage) == 0 ? (int64_t)usage.ru_maxrss * 1024 : 0;
}
