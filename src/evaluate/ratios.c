#include "evaluate/ratios.h"

#include <math.h>
#include <string.h>

#include "util/mem.h"

enum status ratios_open(const struct interval_options *o, int n, struct ratios *out) {
    *out = (struct ratios){.n = n, .confidence = o->confidence};
    double **arrays[] = {&out->numerators, &out->denominators, &out->low, &out->high};
    for (int i = 0; i < COUNT_OF(arrays); i++) {
        TRY(NEW_ARRAY(*arrays[i], n));
    }
    TRY(NEW_ARRAY(out->shares, n));
    TRY(NEW_ARRAY(out->totals, 2 * (int64_t)n));
    TRY(exact_open(2 * (int64_t)n, &out->exact));
    return bootstrap_open(o->seed, o->samples, n, &out->bootstrap);
}

void ratios_close(struct ratios *r) {
    double *arrays[] = {r->numerators, r->denominators, r->totals, r->low, r->high};
    for (int i = 0; i < COUNT_OF(arrays); i++) {
        mem_free(arrays[i]);
    }
    mem_free(r->shares);
    exact_close(&r->exact);
    bootstrap_close(&r->bootstrap);
    *r = (struct ratios){0};
}

void ratios_are_shares(struct ratios *r, int first, int n) {
    for (int v = first; v < first + n; v++) {
        r->shares[v] = true;
    }
}

void ratios_count(struct ratios *r, int v, double numerator, double denominator) {
    r->numerators[v] += numerator;
    r->denominators[v] += denominator;
}

void ratios_end_row(struct ratios *r, int64_t unit) {
    for (int v = 0; v < r->n; v++) {
        exact_add(&r->exact, 2 * v, exact_of(&r->exact, r->numerators[v]), 1);
        exact_add(&r->exact, 2 * v + 1, exact_of(&r->exact, r->denominators[v]), 1);
    }
    bootstrap_add(&r->bootstrap, unit, r->numerators, r->denominators);
    memset(r->numerators, 0, (size_t)r->n * sizeof *r->numerators);
    memset(r->denominators, 0, (size_t)r->n * sizeof *r->denominators);
}

enum status ratios_reduce(struct comm *c, struct ratios *r) {
    TRY(exact_reduce(c, &r->exact, r->totals));
    return bootstrap_intervals(c, &r->bootstrap, r->confidence, r->totals, r->shares, r->low, r->high);
}

double ratios_rows(const struct ratios *r, int v) {
    return r->totals[2 * v + 1];
}

double ratios_value(const struct ratios *r, int v) {
    return ratios_rows(r, v) > 0 ? r->totals[2 * v] / ratios_rows(r, v) : NAN;
}

/* "[low, high]" */
static enum status put_interval(const struct ratios *r, int v, struct text *out) {
    TRY(text_puts(out, "["));
    TRY(text_json_number(out, r->low[v]));
    TRY(text_puts(out, ", "));
    TRY(text_json_number(out, r->high[v]));
    return text_puts(out, "]");
}

enum status ratios_put_member(const struct ratios *r, const char *name, int v, const char *const keys[2],
                              struct text *out) {
    TRY(text_json(out, name, strlen(name)));
    TRY(text_printf(out, ": {\"%s\": ", keys[0]));
    TRY(text_json_number(out, ratios_value(r, v)));
    TRY(text_printf(out, ", \"%s\": %.0f", keys[1], ratios_rows(r, v)));
    if (r->bootstrap.samples > 0) {
        TRY(text_puts(out, ", \"interval\": "));
        TRY(put_interval(r, v, out));
    }
    return text_puts(out, "}");
}

enum status ratios_put_group(const struct ratios *r, const struct ratios_group *g, struct text *out) {
    const char *separator = "";
    TRY(text_printf(out, ", \"%s\": {", g->name));
    for (int i = 0; i < g->n; i++) {
        if (g->names[i] && ratios_rows(r, g->first + i) > 0) {
            TRY(text_puts(out, separator));
            TRY(ratios_put_member(r, g->names[i], g->first + i, g->keys, out));
            separator = ", ";
        }
    }
    return text_puts(out, "}");
}

enum status ratios_print(const struct ratios *r, const char *const *names, int n, struct text *out) {
    const char *separator = "";
    if (r->bootstrap.samples == 0) {
        return OK;
    }
    TRY(text_puts(out, ", \"confidence\": "));
    TRY(text_json_number(out, r->confidence));
    TRY(text_puts(out, ", \"intervals\": {"));
    for (int v = 0; v < n; v++) {
        if (names[v]) {
            TRY(text_printf(out, "%s\"%s\": ", separator, names[v]));
            TRY(put_interval(r, v, out));
            separator = ", ";
        }
    }
    return text_puts(out, "}");
}
