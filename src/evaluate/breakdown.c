#include "evaluate/breakdown.h"

#include <math.h>

#include "data/subsets.h"
#include "evaluate/metrics.h"
#include "evaluate/reward_bench.h"
#include "util/mem.h"

enum { LENGTHS = 12, DIFFERENCES = 3, GAPS = 8 };
/* Places of the groups among the ratios, from the first on. */
enum {
    BY_LENGTH,
    BY_DIFFERENCE = BY_LENGTH + LENGTHS,
    BY_GAP = BY_DIFFERENCE + DIFFERENCES,
    BY_SUBSET = BY_GAP + GAPS
};

/* Mean tokens of a pair's two responses: below 16, then doubling. */
static const char *const lengths[LENGTHS] = {
    "below 16",    "16 to 31",     "32 to 63",     "64 to 127",    "128 to 255",    "256 to 511",
    "512 to 1023", "1024 to 2047", "2048 to 4095", "4096 to 8191", "8192 to 16383", "16384 and more"};
static const char *const differences[DIFFERENCES] = {"chosen shorter", "within a tenth", "chosen longer"};
static const char *const gaps[GAPS] = {"up to 0.25", "0.25 to 0.5", "0.5 to 1", "1 to 2",
                                       "2 to 4",     "4 to 8",      "8 to 16",  "above 16"};

int breakdown_size(const struct dataset_facts *facts) {
    return BY_SUBSET + facts->n_subsets;
}

/* The bucket of x among n with doubling edges; an edge belongs to the bucket above it, or below. */
static int doubling(double x, double edge, int n, bool above) {
    int i = 0;
    while (i < n - 1 && (x > edge || (above && x == edge))) {
        edge *= 2;
        i++;
    }
    return i;
}

void breakdown_count(struct ratios *r, int first, const struct sample *s, const struct breakdown_pair *p) {
    double mean = ((double)p->chosen->count + p->rejected->count) / 2;
    double difference = (double)p->chosen->count - p->rejected->count;
    double gap = fabs((double)p->chosen->score - (double)p->rejected->score);
    int side = fabs(difference) <= 0.1 * mean ? 1 : difference < 0 ? 0 : 2;
    ratios_count(r, first + BY_LENGTH + doubling(mean, 16, LENGTHS, true), p->is_accurate, 1);
    ratios_count(r, first + BY_DIFFERENCE + side, p->is_accurate, 1);
    if (!isnan(gap)) {
        ratios_count(r, first + BY_GAP + doubling(gap, 0.25, GAPS, false), p->is_accurate, 1);
    }
    if (s->subset >= 0) {
        ratios_count(r, first + BY_SUBSET + s->subset, p->is_accurate, 1);
    }
}

static enum status put_sections(const struct ratios *r, int first, const struct dataset_facts *facts,
                                struct text *out) {
    double *accuracies;
    struct section_score sections[SECTION_COUNT];
    double sum = 0;
    int n = 0;
    TRY(NEW_ARRAY(accuracies, facts->n_subsets));
    for (int i = 0; i < facts->n_subsets; i++) {
        accuracies[i] = ratios_value(r, first + BY_SUBSET + i);
    }
    int used = subsets_sections(facts->n_subsets, facts->subsets, accuracies, sections);
    mem_free(accuracies);
    if (used == 0) {
        return OK; /* subsets of another benchmark */
    }
    TRY(text_puts(out, ", \"sections\": {"));
    for (int i = 0; i < SECTION_COUNT; i++) {
        if (sections[i].weight > 0) {
            TRY(text_printf(out, "%s\"%s\": ", n ? ", " : "", sections[i].name));
            TRY(text_json_number(out, sections[i].accuracy));
            sum += sections[i].accuracy;
            n++;
        }
    }
    TRY(text_puts(out, "}"));
    return metrics_put(out, "", "sections_mean", sum / n);
}

/* names (n_subsets): those of subsets but for RewardBench 2's Ties, which are prompts. */
static void name_subsets(const struct dataset_facts *facts, const char **names) {
    struct reward_bench_tie tie;
    for (int i = 0; i < facts->n_subsets; i++) {
        names[i] = reward_bench_is_tie(facts->subsets[i], &tie) ? NULL : facts->subsets[i];
    }
}

static enum status put_subsets(const struct ratios *r, int first, const struct dataset_facts *facts,
                               struct text *out) {
    static const char *const keys[2] = {"accuracy", "pairs"};
    const char **names;
    TRY(NEW_ARRAY(names, facts->n_subsets));
    name_subsets(facts, names);
    const struct ratios_group group = {"subsets", first + BY_SUBSET, facts->n_subsets, names, keys};
    enum status st = ratios_put_group(r, &group, out);
    mem_free(names);
    TRY(st);
    return put_sections(r, first, facts, out);
}

enum status breakdown_print(const struct ratios *r, int first, const struct dataset_facts *facts,
                            struct text *out) {
    static const char *const keys[2] = {"accuracy", "pairs"};
    const struct ratios_group groups[] = {
        {"by_length", first + BY_LENGTH, LENGTHS, lengths, keys},
        {"by_length_difference", first + BY_DIFFERENCE, DIFFERENCES, differences, keys},
        {"by_score_gap", first + BY_GAP, GAPS, gaps, keys},
    };
    for (int i = 0; i < COUNT_OF(groups); i++) {
        TRY(ratios_put_group(r, &groups[i], out));
    }
    return facts->n_subsets > 0 ? put_subsets(r, first, facts, out) : OK;
}
