#include "train/straggler.h"

#include <math.h>
#include <string.h>

#include "util/log.h"
#include "util/mem.h"
#include "util/text.h"

enum { REPORTED = 3 };

enum status stragglers_open(struct comm *c, struct stragglers *out) {
    *out = (struct stragglers){.size = c->size};
    int64_t n;
    TRY(comm_agree(c, NEW_ARRAY(out->ranks, c->size)));
    return comm_gather_all(c, c->host, 1, sizeof c->host, &out->hosts, &n);
}

void stragglers_close(struct stragglers *s) {
    mem_free(s->hosts);
    mem_free(s->ranks);
    *s = (struct stragglers){0};
}

struct straggler stragglers_add(struct stragglers *s, const double *arrivals_s, int64_t step) {
    struct straggler out = {0};
    for (int r = 1; r < s->size; r++) {
        out.rank = arrivals_s[r] > arrivals_s[out.rank] ? r : out.rank;
    }
    double last_s = arrivals_s[out.rank], waited = 0;
    for (int r = 0; r < s->size; r++) {
        double wait_s = last_s - arrivals_s[r];
        waited += wait_s;
        out.most_wait_s = fmax(out.most_wait_s, wait_s);
    }
    double mean_s = last_s - waited / s->size;
    out.imbalance = mean_s > 0 ? last_s / mean_s : 1;
    out.mean_wait_s = waited / s->size;
    out.late_s = s->size > 1 ? waited / (s->size - 1) : 0;
    struct lateness *last = &s->ranks[out.rank];
    last->times++;
    last->total_s += out.late_s;
    if (out.late_s > last->worst_s) {
        last->worst_s = out.late_s;
        last->worst_step = step;
    }
    s->steps++;
    s->waited_s += out.mean_wait_s;
    return out;
}

/* The rank that cost most among those that cost less than `below` does (or the same, and follow it); -1:
 * none. */
static int next_worst(const struct stragglers *s, int below) {
    int worst = -1;
    for (int r = 0; r < s->size; r++) {
        double total = s->ranks[r].total_s;
        bool listed = below >= 0 &&
                      (total > s->ranks[below].total_s || (total == s->ranks[below].total_s && r <= below));
        if (s->ranks[r].times > 0 && !listed && (worst < 0 || total > s->ranks[worst].total_s)) {
            worst = r;
        }
    }
    return worst;
}

static enum status describe(const struct stragglers *s, struct text *out) {
    int rank = -1;
    for (int i = 0; i < REPORTED && (rank = next_worst(s, rank)) >= 0; i++) {
        const struct lateness *l = &s->ranks[rank];
        TRY(text_printf(out,
                        "%s rank %d on %s last in %lld of %lld steps, by %.3g ms on average and %.3g ms at "
                        "worst (step %lld)",
                        i ? ";" : "", rank, s->hosts[rank], (long long)l->times, (long long)s->steps,
                        1e3 * l->total_s / (double)l->times, 1e3 * l->worst_s, (long long)l->worst_step));
    }
    return OK;
}

void stragglers_report(const struct stragglers *s) {
    if (s->size < 2 || s->steps == 0 || log_rank() != 0) {
        return;
    }
    struct text line = {0};
    if (describe(s, &line) == OK) {
        log_root(LOG_INFO, "waiting for the slowest rank took %.1f %% of the time:%s",
                 100 * s->waited_s / (s->elapsed_s > 0 ? s->elapsed_s : 1), line.data);
    } else {
        status_clear(); /* a report is not worth a run */
    }
    text_free(&line);
}
