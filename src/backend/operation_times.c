#include "backend/operation_times.h"

#include "util/clock.h"
#include "util/mem.h"

enum { MOST_PENDING = BACKEND_STAMPS / 2 };

struct operation_times {
    struct operation_time rows[OPERATION_TIMES];
    double began;
    /* Of a device: calls whose time is not known yet, a ring; call i has stamps 2i and 2i + 1. */
    int pending[MOST_PENDING];
    int first, n;
};

enum status operation_times_start(struct backend *b) {
    struct operation_times *times;
    TRY(NEW_ARRAY(times, 1));
    operation_times_close(b);
    b->times = times;
    return OK;
}

void operation_times_close(struct backend *b) {
    mem_free(b->times);
    b->times = NULL;
}

/* The time of the oldest call that the device has not been asked for. */
static enum status take_oldest(struct backend *b) {
    struct operation_times *t = b->times;
    double seconds = 0;
    TRY(b->ops->stamp_seconds(b, 2 * t->first, 2 * t->first + 1, &seconds));
    t->rows[t->pending[t->first]].seconds += seconds;
    t->first = (t->first + 1) % MOST_PENDING;
    t->n--;
    return OK;
}

enum status operation_times_begin(struct backend *b) {
    struct operation_times *t = b->times;
    if (!b->ops->stamp) {
        t->began = clock_seconds();
        return OK;
    }
    if (t->n == MOST_PENDING) {
        TRY(take_oldest(b));
    }
    return b->ops->stamp(b, 2 * ((t->first + t->n) % MOST_PENDING));
}

enum status operation_times_end(struct backend *b, int row, double flops, double bytes, enum status st) {
    struct operation_times *t = b->times;
    struct operation_time *mine = &t->rows[row];
    TRY(st);
    if (b->ops->stamp) {
        int slot = (t->first + t->n) % MOST_PENDING;
        TRY(b->ops->stamp(b, 2 * slot + 1));
        t->pending[slot] = row;
        t->n++;
    } else {
        mine->seconds += clock_seconds() - t->began;
    }
    mine->calls++;
    mine->flops += flops;
    mine->bytes += bytes;
    return OK;
}

enum status operation_times_read(struct backend *b, struct operation_time out[OPERATION_TIMES]) {
    struct operation_times *t = b->times;
    while (t && t->n > 0) {
        TRY(take_oldest(b));
    }
    for (int i = 0; i < OPERATION_TIMES; i++) {
        out[i] = t ? t->rows[i] : (struct operation_time){0};
    }
    return OK;
}

const char *operation_times_name(int row) {
    static const char *const moved[] = {"write", "read", "copy", "zero"};
    return row < OPERATION_COUNT ? operation_name(row) : moved[row - MOVED_WRITE];
}
