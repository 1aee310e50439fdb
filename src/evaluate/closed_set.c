#include "evaluate/closed_set.h"

#include <math.h>
#include <string.h>

#include "evaluate/evaluation.h"
#include "evaluate/metrics.h"
#include "mpi/watchdog.h"
#include "util/hash.h"
#include "util/mem.h"

static const char *const names[CLOSED_VALUES] = {"acc", "acc_norm", "acc_bytes", "mc1", "mc2"};

/* The first with the highest value; by: what values are divided by, NULL for nothing. */
static int32_t highest(const struct closed_prompt *p, const double *by) {
    int32_t best = 0;
    for (int32_t i = 1; i < p->n; i++) {
        double x = by ? p->logp[i] / by[i] : p->logp[i];
        double y = by ? p->logp[best] / by[best] : p->logp[best];
        best = x > y ? i : best;
    }
    return best;
}

void closed_set_values(const struct closed_prompt *p, double out[CLOSED_VALUES]) {
    double top = p->logp[highest(p, NULL)], right = 0, all = 0, wrong = -INFINITY;
    out[CLOSED_ACC] = p->right[highest(p, NULL)];
    out[CLOSED_NORM] = p->right[highest(p, p->characters)];
    out[CLOSED_BYTES] = p->right[highest(p, p->bytes)];
    for (int32_t i = 0; i < p->n; i++) {
        double share = exp(p->logp[i] - top); /* the same shift in both sums */
        right += p->right[i] ? share : 0;
        all += share;
        wrong = p->right[i] ? wrong : fmax(wrong, p->logp[i]);
    }
    out[CLOSED_MC1] = p->logp[p->first] > wrong;
    out[CLOSED_MC2] = right / all;
}

struct closed_evaluation {
    const struct closed_set_options *options;
    const struct dataset_facts *facts;
    struct ratios ratios; /* CLOSED_VALUES, then as many for each subset */
    double *numbers;      /* scratch: logp, characters and bytes of a prompt's choices */
    bool *right;
    int64_t cap_numbers, cap_right;
    double choices; /* of this rank's prompts */
    enum status status;
    struct sums sums;
    struct text *out;
};

static enum status fill(struct closed_evaluation *e, const struct sample *s, const struct scored_row *row,
                        struct closed_prompt *out) {
    int32_t n = s->n_responses;
    TRY(GROW_ARRAY(e->numbers, e->cap_numbers, 3 * (int64_t)n));
    TRY(GROW_ARRAY(e->right, e->cap_right, n));
    for (int32_t i = 0; i < n; i++) {
        int64_t characters, bytes;
        TRY(e->options->length(e->options->context, &s->responses[i], &characters, &bytes));
        e->numbers[i] = row->responses[i].logp;
        e->numbers[n + i] = (double)characters;
        e->numbers[2 * n + i] = (double)bytes;
        e->right[i] = false;
    }
    for (int32_t i = 0; i < s->n_pairs; i++) {
        e->right[s->pairs[i].chosen] = true;
    }
    *out = (struct closed_prompt){.n = n,
                                  .first = s->pairs[0].chosen,
                                  .logp = e->numbers,
                                  .characters = e->numbers + n,
                                  .bytes = e->numbers + 2 * n,
                                  .right = e->right};
    return OK;
}

static enum status count(struct closed_evaluation *e, const struct sample *s, const struct scored_row *row) {
    struct closed_prompt prompt;
    double values[CLOSED_VALUES];
    TRY(fill(e, s, row, &prompt));
    closed_set_values(&prompt, values);
    for (int v = 0; v < CLOSED_VALUES; v++) {
        ratios_count(&e->ratios, v, values[v], 1);
        if (s->subset >= 0) {
            ratios_count(&e->ratios, CLOSED_VALUES * (1 + s->subset) + v, values[v], 1);
        }
    }
    e->choices += s->n_responses;
    return OK;
}

static void visit(void *context, const struct sample *sample, const struct scored_row *row,
                  const struct sums *sums) {
    struct closed_evaluation *e = context;
    (void)sums;
    enum status st = e->status == OK && sample->n_pairs > 0 ? count(e, sample, row) : OK;
    e->status = e->status == OK ? st : e->status;
    ratios_end_row(&e->ratios, evaluation_unit(sample));
}

/* "subsets": {"name": {"acc": {"value", "prompts", "interval"}, …}, …} */
static enum status put_subsets(const struct closed_evaluation *e, struct text *out) {
    static const char *const keys[2] = {"value", "prompts"};
    const struct ratios *r = &e->ratios;
    const char *separator = "";
    TRY(text_puts(out, ", \"subsets\": {"));
    for (int i = 0; i < e->facts->n_subsets; i++) {
        int first = CLOSED_VALUES * (1 + i);
        if (!(ratios_rows(r, first) > 0)) {
            continue;
        }
        TRY(text_puts(out, separator));
        TRY(text_json(out, e->facts->subsets[i], strlen(e->facts->subsets[i])));
        for (int v = 0; v < CLOSED_VALUES; v++) {
            TRY(text_puts(out, v ? ", " : ": {"));
            TRY(ratios_put_member(r, names[v], first + v, keys, out));
        }
        TRY(text_puts(out, "}"));
        separator = ", ";
    }
    return text_puts(out, "}");
}

static enum status print_result(const struct closed_evaluation *e, double choices) {
    const struct closed_set_options *o = e->options;
    struct text *out = e->out;
    char digits[17];
    TRY(metrics_put(out, "", "rows", e->sums.v[SUM_ROWS]));
    TRY(metrics_put(out, "", "choices", choices));
    hash_text(o->model_hash, digits);
    TRY(text_printf(out, ", \"model_hash\": \"%s\"", digits));
    hash_text(dataset_hash(o->rows->data), digits);
    TRY(text_printf(out, ", \"data_hash\": \"%s\"", digits));
    for (int v = 0; v < CLOSED_VALUES; v++) {
        TRY(metrics_put(out, "", names[v], ratios_value(&e->ratios, v)));
    }
    TRY(e->facts->n_subsets > 0 ? put_subsets(e, out) : OK);
    TRY(ratios_print(&e->ratios, names, CLOSED_VALUES, out));
    return text_puts(out, "}\n");
}

static enum status run_rows(struct closed_evaluation *e) {
    const struct closed_set_options *o = e->options;
    struct scorer scorer = {0};
    struct terms terms = {0};
    int n = CLOSED_VALUES * (1 + e->facts->n_subsets);
    terms_one("sft", &terms);
    enum status st = ratios_open(&o->intervals, n, &e->ratios);
    st = st == OK ? scorer_open(o->model, o->workspace, KEEP_NOTHING, &scorer) : st;
    TRY_TO(done, comm_agree(o->comm, st));
    ratios_are_shares(&e->ratios, 0, n);
    watchdog_phase(o->comm->watchdog, "evaluating");
    TRY_TO(done, evaluate_rows(o->comm, &scorer, o->source, &terms, visit, e, &e->sums));
    TRY_TO(done, comm_agree(o->comm, e->status));
    TRY_TO(done, ratios_reduce(o->comm, &e->ratios));
    double choices = e->choices;
    TRY_TO(done, comm_sum_f64(o->comm, &choices, 1));
    st = comm_agree(o->comm, print_result(e, choices));
done:
    scorer_close(&scorer);
    return st;
}

enum status closed_set_evaluate(const struct closed_set_options *o, struct text *out) {
    struct closed_evaluation e = {.options = o, .facts = dataset_facts(o->rows->data), .out = out};
    enum status st = run_rows(&e);
    ratios_close(&e.ratios);
    mem_free(e.numbers);
    mem_free(e.right);
    return st;
}
