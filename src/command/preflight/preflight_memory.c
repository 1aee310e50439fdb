/* What the run will hold (the estimate of --dry-run) beside what each host and each rank has. */
#include <string.h>

#include "command/preflight/preflight.h"

/* Above this share of what is left, a run may meet its limit. */
static const double full_share = 0.9;

static void judge(struct preflight *p, double need, double have, const char *what) {
    char a[32], b[32];
    needs_size(need, a);
    needs_size(have, b);
    if (have <= 0) {
        preflight_say(p, FINDING_WARN, "memory", "%s: %s needed, how much there is cannot be seen", what, a);
    } else if (need <= have) { /* else the list of checks has refused it */
        preflight_say(p, need > full_share * have ? FINDING_WARN : FINDING_OK, "memory",
                      "%s: %s needed, %s left", what, a, b);
    }
}

static void judge_node(struct preflight *p, const struct seat *first) {
    char what[160];
    int64_t left = machine_memory_left(&first->memory);
    bool group = first->memory.group > 0 && left < first->memory.available;
    snprintf(what, sizeof what, "%s, %d ranks%s", first->host, first->node_size,
             group ? " in a control group with a limit" : "");
    /* What the processes hold already is in the estimate and no longer in what is left. */
    double held = (double)p->need.baseline * first->node_size;
    judge(p, needs_host(&p->need, first->device_free > 0) * first->node_size,
          left > 0 ? (double)left + held : 0, what);
}

static void judge_rank(struct preflight *p, int rank) {
    const struct seat *s = &p->seats[rank];
    char what[64];
    if (s->memory.process > 0) {
        snprintf(what, sizeof what, "rank %d, limit of its address space", rank);
        judge(p, needs_host(&p->need, s->device_free > 0), (double)s->memory.process, what);
    }
    if (s->device_free > 0) {
        int sharing = 0;
        for (int r = 0; r < p->comm->size; r++) {
            const struct seat *other = &p->seats[r];
            sharing += strcmp(other->host, s->host) == 0 && strcmp(other->device, s->device) == 0;
        }
        snprintf(what, sizeof what, "rank %d, %.40s", rank, s->device);
        judge(p, (double)(p->need.total - p->need.baseline - p->need.batches), (double)s->device_free, what);
        if (sharing > 1 && p->comm->node_size > 1) {
            preflight_say(p, FINDING_OK, "memory",
                          "rank %d: the device's description is that of %d ranks here", rank, sharing);
        }
    }
}

enum status preflight_memory(struct preflight *p) {
    char total[32], pass[32], state[32];
    if (!p->has_rows || !p->has_model || !p->has_backend) {
        preflight_say(p, FINDING_WARN, "memory", "not estimated: it takes a model, data and a device");
        return OK;
    }
    struct estimate_options options;
    enum status st = comm_agree(p->comm, trainer_estimate(&p->trainer, &options));
    if (preflight_failed(p, "memory", st == OK ? estimate_training(&options, &p->need) : st)) {
        return OK;
    }
    p->has_need = true;
    const struct estimate *n = &p->need;
    preflight_say(
        p, FINDING_OK, "memory",
        "a rank takes %s: parameters, gradients and %lld states of %lld parameters %s, activations of "
        "%lld tokens %s, the process itself %.0f MB",
        needs_size((double)n->total, total), (long long)n->state_arenas, (long long)n->parameters,
        needs_size((double)(n->base + n->model + n->gradients + n->optimizer + n->partial), state),
        (long long)n->forest_tokens, needs_size((double)estimate_pass(n), pass), (double)n->baseline / 1e6);
    for (int r = 0; r < p->comm->size; r++) {
        if (p->seats[r].node_rank == 0) {
            judge_node(p, &p->seats[r]);
        }
    }
    for (int r = 0; r < p->comm->size; r++) {
        judge_rank(p, r);
    }
    return OK;
}
