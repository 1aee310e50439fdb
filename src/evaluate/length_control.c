#include "evaluate/length_control.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "io/file.h"
#include "util/mem.h"

enum {
    FEATURES = LENGTH_FEATURES,
    FOLDS = 5,
    STRENGTHS = 10,
    MOST_TURNS = 1000,
    MOST_INSTRUCTIONS = 1 << 24
};

static double sigmoid(double z) {
    return z >= 0 ? 1 / (1 + exp(-z)) : exp(z) / (1 + exp(z));
}
/* log(1 + exp(z)) */
static double softplus(double z) {
    return fmax(z, 0) + log1p(exp(-fabs(z)));
}
static double product(const double *x, const double *w) {
    double z = 0;
    for (int i = 0; i < FEATURES; i++) {
        z += x[i] * w[i];
    }
    return z;
}

/* Rows that are fitted: all but fold `out` (-1: all). Folds as scikit-learn's GroupKFold deals single rows.
 */
struct fit {
    const struct length_row *rows;
    int64_t n;
    int out;
    double strength; /* C: of the losses beside the L1 norm */
};
static bool is_left_out(const struct fit *f, int64_t i) {
    return (int)((f->n - 1 - i) % FOLDS) == f->out;
}

/* The objective, and where they are not NULL its smooth part's gradient and Hessian. */
static double objective(const struct fit *f, const double *w, double *gradient, double (*hessian)[FEATURES]) {
    double value = 0;
    if (gradient) {
        memset(gradient, 0, FEATURES * sizeof *gradient);
        memset(hessian, 0, FEATURES * sizeof *hessian);
    }
    for (int64_t i = 0; i < f->n; i++) {
        const struct length_row *r = &f->rows[i];
        double z = product(r->x, w);
        double c = f->strength * r->weight;
        if (is_left_out(f, i)) {
            continue;
        }
        value += c * (softplus(z) - r->preference * z);
        for (int a = 0; gradient && a < FEATURES; a++) {
            double p = sigmoid(z);
            gradient[a] += c * (p - r->preference) * r->x[a];
            for (int b = 0; b < FEATURES; b++) {
                hessian[a][b] += c * p * (1 - p) * r->x[a] * r->x[b];
            }
        }
    }
    for (int a = 0; a < FEATURES; a++) {
        value += fabs(w[a]);
    }
    return value;
}

/* Coordinate descent on the quadratic model with the L1 norm: a step from w. */
static void quadratic_step(const double *w, const double *gradient, double (*hessian)[FEATURES],
                           double *step) {
    memset(step, 0, FEATURES * sizeof *step);
    for (int turn = 0; turn < MOST_TURNS; turn++) {
        double moved = 0;
        for (int a = 0; a < FEATURES; a++) {
            double h = hessian[a][a] + 1e-12;
            double slope = gradient[a] + product(hessian[a], step);
            double at = w[a] + step[a];
            double free = at - slope / h;
            double next = fmax(fabs(free) - 1 / h, 0);
            next = free < 0 ? -next : next;
            moved = fmax(moved, fabs(next - at));
            step[a] = next - w[a];
        }
        if (moved < 1e-14) {
            return;
        }
    }
}

/* The largest share of a step, halved up to 33 times, that does not raise the objective; 0: none. */
static double share_of_step(const struct fit *f, double value, const double *w, const double *step) {
    double share = 1;
    for (int halving = 0; halving < 34; halving++) {
        double next[FEATURES] = {0};
        for (int a = 0; a < FEATURES; a++) {
            next[a] = w[a] + share * step[a];
        }
        if (objective(f, next, NULL, NULL) <= value) {
            return share;
        }
        share /= 2;
    }
    return 0;
}

/* Proximal Newton steps until nothing moves. */
static void solve(const struct fit *f, double *w) {
    double gradient[FEATURES], hessian[FEATURES][FEATURES], step[FEATURES];
    for (int turn = 0; turn < MOST_TURNS; turn++) {
        double value = objective(f, w, gradient, hessian);
        double moved = 0;
        quadratic_step(w, gradient, hessian, step);
        double share = share_of_step(f, value, w, step);
        for (int a = 0; a < FEATURES; a++) {
            moved = fmax(moved, fabs(share * step[a]));
            w[a] += share * step[a];
        }
        if (moved < 1e-12) {
            return;
        }
    }
}

/* Mean weighted log-loss of the rows that were left out. */
static double loss_outside(const struct fit *f, const double *w) {
    double sum = 0;
    int64_t rows = 0;
    for (int64_t i = 0; i < f->n; i++) {
        const struct length_row *r = &f->rows[i];
        double p = fmin(fmax(sigmoid(product(r->x, w)), 1e-15), 1 - 1e-15);
        if (is_left_out(f, i)) {
            sum -= r->weight * (r->preference * log(p) + (1 - r->preference) * log(1 - p));
            rows++;
        }
    }
    return rows > 0 ? sum / (double)rows : 0;
}

enum status length_fit(const struct length_row *rows, int64_t n, double *weights) {
    double best = INFINITY;
    double strength = 1;
    for (int s = 0; s < STRENGTHS; s++) {
        struct fit f = {.rows = rows, .n = n, .strength = pow(10, -4 + 8.0 * s / (STRENGTHS - 1))};
        double loss = 0;
        for (f.out = 0; f.out < FOLDS; f.out++) {
            double w[FEATURES] = {0};
            solve(&f, w);
            loss += loss_outside(&f, w);
        }
        if (loss < best) {
            best = loss;
            strength = f.strength;
        }
    }
    memset(weights, 0, FEATURES * sizeof *weights);
    const struct fit all = {.rows = rows, .n = n, .out = -1, .strength = strength};
    solve(&all, weights);
    return OK;
}

/* Appends the features of those of n verdicts that are on first and second, lengths still in characters;
 * false: something that they need is unknown. */
static bool features(const struct verdict *verdicts, int64_t n, int32_t first, int32_t second,
                     const struct gamed *gamed, struct length_row *rows, int64_t *n_rows) {
    for (int64_t i = 0; i < n; i++) {
        const struct verdict *v = &verdicts[i];
        bool is_swapped = v->first == second && v->second == first;
        double difficulty = 0;
        if (!is_swapped && (v->first != first || v->second != second)) {
            continue;
        }
        if (gamed) {
            difficulty = v->record < gamed->n_difficulty ? gamed->difficulty[v->record] : NAN;
        }
        if (isnan(difficulty) || v->length[0] < 0 || v->length[1] < 0) {
            return false;
        }
        double apart = (double)(v->length[0] - v->length[1]);
        rows[(*n_rows)++] = (struct length_row){.x = {is_swapped ? -apart : apart, difficulty, 1},
                                                .preference = is_swapped ? 1 - v->preference : v->preference,
                                                .weight = 1};
    }
    return true;
}

/* Lengths in standard deviations (n - 1), as tanh; false where they do not vary. */
static bool standardize(struct length_row *rows, int64_t n) {
    double mean = 0;
    double squares = 0;
    for (int64_t i = 0; i < n; i++) {
        mean += rows[i].x[0] / (double)n;
    }
    for (int64_t i = 0; i < n; i++) {
        squares += (rows[i].x[0] - mean) * (rows[i].x[0] - mean);
    }
    double deviation = n > 1 ? sqrt(squares / (double)(n - 1)) : 0;
    for (int64_t i = 0; i < n && deviation > 0; i++) {
        rows[i].x[0] = tanh(rows[i].x[0] / deviation);
    }
    return deviation > 0;
}

/* Mean of the predictions at no difference of length, and its standard error. */
static void predict(const struct length_row *rows, int64_t n, struct length_controlled *out) {
    double squares = 0;
    out->win_rate = 0;
    for (int64_t i = 0; i < n; i++) {
        out->win_rate += sigmoid(out->weights[1] * rows[i].x[1] + out->weights[2]) / (double)n;
    }
    for (int64_t i = 0; i < n; i++) {
        double apart = sigmoid(out->weights[1] * rows[i].x[1] + out->weights[2]) - out->win_rate;
        squares += apart * apart;
    }
    out->standard_error = sqrt(squares / (double)n / (double)(n - 1));
}

enum status length_control(const struct verdicts *v, int32_t first, int32_t second, const struct gamed *gamed,
                           struct length_controlled *out) {
    int64_t extra = gamed ? gamed->n : 0;
    int64_t judged = 0;
    struct length_row *rows = NULL;
    *out = (struct length_controlled){NAN, NAN, {NAN, NAN, NAN}};
    TRY(NEW_ARRAY(rows, extra + v->n + v->n_unjudged + 1));
    /* The baselines' rows come first, as in the published program: folds depend on it. */
    struct length_row *own = rows + extra;
    bool is_known = features(v->list, v->n, first, second, gamed, own, &judged);
    int64_t n = judged;
    is_known = is_known && features(v->unjudged, v->n_unjudged, first, second, gamed, own, &n);
    if (!is_known || !standardize(own, n)) {
        mem_free(rows);
        return OK;
    }
    if (extra > 0) {
        memcpy(rows, gamed->rows, (size_t)extra * sizeof *rows);
    }
    enum status st = length_fit(rows, extra + judged, out->weights);
    predict(own, n, out);
    mem_free(rows);
    return st;
}

void gamed_free(struct gamed *g) {
    mem_free(g->rows);
    mem_free(g->difficulty);
    *g = (struct gamed){0};
}

enum column { INDEX, DIFFICULTY, DELTA, PREFERENCE, NOT_GAMED, COLUMNS };
static const char *const column_names[COLUMNS] = {"index", "instruction_difficulty", "std_delta_len",
                                                  "preference", "not_gamed_baseline"};

/* The cell at *at, ended; moves *at to the next one, NULL behind the last. */
static char *take_cell(char **at) {
    char *cell = *at;
    *at = strchr(cell, ',');
    if (*at) {
        *(*at)++ = '\0';
    }
    return cell;
}

/* Places of the columns in a header; cells have no commas in them. */
static enum status find_columns(char *line, const char *path, int places[COLUMNS]) {
    for (int c = 0; c < COLUMNS; c++) {
        places[c] = -1;
    }
    for (int n = 0; line; n++) {
        const char *cell = take_cell(&line);
        for (int c = 0; c < COLUMNS; c++) {
            places[c] = strcmp(cell, column_names[c]) == 0 ? n : places[c];
        }
    }
    for (int c = 0; c < COLUMNS; c++) {
        if (places[c] < 0) {
            return fail(ERR_DATA, "%s, line 1: no column %s", path, column_names[c]);
        }
    }
    return OK;
}

static enum status read_cells(char *line, const char *path, int64_t number, const int places[COLUMNS],
                              double cells[COLUMNS]) {
    bool found[COLUMNS] = {false};
    for (int n = 0; line; n++) {
        char *cell = take_cell(&line);
        for (int c = 0; c < COLUMNS; c++) {
            char *end = cell;
            if (places[c] == n) {
                bool is_true = strcmp(cell, "True") == 0;
                cells[c] = is_true || strcmp(cell, "False") == 0 ? is_true : strtod(cell, &end);
                found[c] = end > cell ? *end == '\0' : c == NOT_GAMED;
            }
        }
    }
    for (int c = 0; c < COLUMNS; c++) {
        if (!found[c] || isnan(cells[c])) {
            return fail(ERR_DATA, "%s, line %lld: %s is no number", path, (long long)number, column_names[c]);
        }
    }
    return OK;
}

static enum status add_gamed(struct gamed *g, const char *path, int64_t number, const double cells[COLUMNS]) {
    int64_t index = (int64_t)cells[INDEX];
    if (cells[INDEX] < 0 || cells[INDEX] >= MOST_INSTRUCTIONS) {
        return fail(ERR_DATA, "%s, line %lld: index is %g", path, (long long)number, cells[INDEX]);
    }
    TRY(GROW_ARRAY(g->rows, g->capacity, g->n + 1));
    TRY(GROW_ARRAY(g->difficulty, g->difficulty_capacity, index + 1));
    for (; g->n_difficulty <= index; g->n_difficulty++) {
        g->difficulty[g->n_difficulty] = NAN;
    }
    g->difficulty[index] = isnan(g->difficulty[index]) ? cells[DIFFICULTY] : g->difficulty[index];
    g->rows[g->n++] = (struct length_row){.x = {tanh(cells[DELTA]), cells[DIFFICULTY], cells[NOT_GAMED]},
                                          .preference = cells[PREFERENCE],
                                          .weight = cells[NOT_GAMED] != 0 ? 1 : 0.1};
    return OK;
}

enum status gamed_read(const char *path, struct gamed *out) {
    char *text = NULL;
    size_t n;
    int places[COLUMNS];
    int64_t number = 0;
    *out = (struct gamed){0};
    enum status st = file_read(path, &text, &n);
    for (char *line = text; st == OK && line && *line;) {
        double cells[COLUMNS] = {0};
        char *next = strchr(line, '\n');
        if (next) {
            *next++ = '\0';
        }
        line[strcspn(line, "\r")] = '\0';
        if (++number == 1) {
            st = find_columns(line, path, places);
        } else if (*line) {
            st = read_cells(line, path, number, places, cells);
            st = st == OK ? add_gamed(out, path, number, cells) : st;
        }
        line = next;
    }
    mem_free(text);
    return st == OK && out->n == 0 ? fail(ERR_DATA, "%s: holds no row", path) : st;
}
