/* Device memory of check:cpu, and what is watched around one operation.
 *
 * Device addresses come from a reservation without access rights (mmap PROT_NONE), so that host code which
 * dereferences one crashes at that line. Each allocation has a block of the wrapped back end's memory behind
 * it, with guard bytes at both ends; fresh memory holds POISON bytes, a NaN in every floating type. Addresses
 * are never given out twice, so a stale one is recognized.
 *
 * A call lists the tensors of an operation. call_begin() checks that each lies in a live allocation, turns
 * its address into the real one, poisons the outputs that will be overwritten and remembers what must not
 * change. call_end() compares that (inputs, the gaps between an output's rows, the bytes around it) and
 * looks for poison that is left in an output: never written, or computed from memory that never was.
 */
#ifndef COLLIMATE_CHECK_MEMORY_H
#define COLLIMATE_CHECK_MEMORY_H

#include "backend/backend.h"

enum { CHECK_GUARD = 64, CHECK_AROUND = 4096, CALL_USES = 12 };

struct check_allocation {
    uintptr_t device;
    int64_t bytes;
    char *block; /* the wrapped back end's memory: guard, bytes, guard */
    bool live;
};

struct check_memory {
    struct backend *inner;
    char *reservation;
    int64_t reserved, used;
    struct check_allocation *allocations; /* by rising device address */
    int64_t count, capacity;
    bool bad_free; /* free() cannot fail: reported by the next operation */
};

enum status check_memory_open(struct backend *inner, struct check_memory *out);
void check_memory_close(struct check_memory *m);
enum status check_memory_alloc(struct check_memory *m, int64_t bytes, void **out);
void check_memory_free(struct check_memory *m, void *device);
/* The real address of `bytes` bytes at a device address. Fails: ERR_INTERNAL naming op and tensor. */
enum status check_memory_find(const struct check_memory *m, const char *op, const char *name,
                              const void *device, int64_t bytes, char **out);

/* Writes POISON over memory that nobody may use any more. */
void check_memory_poison(struct check_memory *m, void *device, int64_t bytes);

struct use {
    const char *name;
    struct tensor *tensor;
    enum use_kind kind;
    char *region, *before; /* watched bytes, and their copy where an output lies among them */
    int64_t bytes;
    uint64_t hash;
};

struct call {
    struct check_memory *memory;
    const char *op;
    struct use uses[CALL_USES];
    int count;
};

/* The tensor's address is rewritten by call_begin(), so it must be the caller's own copy. None is skipped. */
void call_use(struct call *c, const char *name, struct tensor *t, enum use_kind kind);
enum status call_begin(struct call *c);
/* Passes on a failure of the operation itself. Always releases what call_begin() took. */
enum status call_end(struct call *c, enum status result);
/* The same for an operation that updates the rows of t (a USE_SOME) which `rows` names: only they are
 * searched for poison. */
enum status call_rows_end(struct call *c, enum status result, struct tensor t, struct tensor rows);
/* After call_begin(): every value of an I32 tensor lies in [low, high). */
enum status call_indices(const struct call *c, const char *name, struct tensor t, int64_t low, int64_t high);

#endif
