#include "data/lengths.h"

#include "util/mem.h"

enum { BINS = 1 << 16, BAR = 50 };

enum status lengths_open(struct lengths *l, const char *name) {
    *l = (struct lengths){.name = name, .least = INT64_MAX};
    return NEW_ARRAY(l->bins, BINS);
}

void lengths_close(struct lengths *l) {
    mem_free(l->bins);
    l->bins = NULL;
}

void lengths_add(struct lengths *l, int64_t length) {
    l->count++;
    l->sum += length;
    l->least = length < l->least ? length : l->least;
    l->most = length > l->most ? length : l->most;
    l->bins[length < BINS ? length : BINS - 1]++;
}

enum status lengths_reduce(struct comm *c, struct lengths *l) {
    int64_t sums[] = {l->count, l->sum};
    TRY(comm_sum_i64(c, sums, COUNT_OF(sums)));
    TRY(comm_sum_i64(c, l->bins, BINS));
    TRY(comm_min_i64(c, &l->least, 1));
    TRY(comm_max_i64(c, &l->most, 1));
    l->count = sums[0];
    l->sum = sums[1];
    int64_t seen = 0;
    for (int i = 0; i < BINS && seen <= (l->count - 1) / 2; i++) {
        seen += l->bins[i];
        l->median = i;
    }
    return OK;
}

int64_t lengths_top(const struct lengths *l, int64_t n) {
    int64_t top = 0;
    for (int64_t i = BINS - 1; i > 0 && n > 0; i--) {
        int64_t taken = l->bins[i] < n ? l->bins[i] : n;
        top += taken * (i < BINS - 1 ? i : l->most);
        n -= taken;
    }
    return top < l->sum ? top : l->sum;
}

enum status lengths_print(const struct lengths *l, struct text *out) {
    if (l->count == 0) {
        return text_puts(out, "");
    }
    return text_printf(out, "%s tokens: %lld; length min %lld, median %s%lld, mean %.1f, max %lld", l->name,
                       (long long)l->sum, (long long)l->least, l->median == BINS - 1 ? ">= " : "",
                       (long long)l->median, (double)l->sum / (double)l->count, (long long)l->most);
}

/* 0, 1, 2, 3, 4, 6, 8, 12, 16, 24, …: the lower bound that follows `low`. */
static int64_t next_bound(int64_t low) {
    if (low < 4) {
        return low + 1;
    }
    bool power = (low & (low - 1)) == 0;
    return power ? low + low / 2 : low / 3 * 4;
}

/* Lengths in [low, next_bound(low)). */
static int64_t bin_count(const struct lengths *l, int64_t low) {
    int64_t n = 0;
    for (int64_t i = low; i < next_bound(low) && i < BINS; i++) {
        n += l->bins[i];
    }
    return n;
}

static enum status put_bin(const struct lengths *l, int64_t low, int64_t most, struct text *out) {
    static const char bar[] = "##################################################";
    int64_t n = bin_count(l, low);
    int width = (int)((n * BAR + most - 1) / most);
    return text_printf(out, "  %6lld to %6lld %10lld %6.2f %% %.*s\n", (long long)low,
                       (long long)next_bound(low) - 1, (long long)n, 100.0 * (double)n / (double)l->count,
                       width, bar);
}

enum status lengths_histogram(const struct lengths *l, struct text *out) {
    int64_t most = 0;
    for (int64_t low = 0; low < BINS; low = next_bound(low)) {
        int64_t n = bin_count(l, low);
        most = n > most ? n : most;
    }
    for (int64_t low = 0; low < BINS; low = next_bound(low)) {
        TRY(bin_count(l, low) > 0 ? put_bin(l, low, most, out) : OK);
    }
    return OK;
}
