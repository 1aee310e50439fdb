/* Selections for annotators: equal responses count as one, the prompts that tell most come first, round after
 * round without what was asked; and those for training, without pairs that have no label. */
#include "tests/selection_world.h"
#include "util/log.h"

/* Every prompt has two different responses, which come again and again: that is its pair, whatever is asked
 * for; the file may know it by other copies. */
static void test_copies(struct comm *c, const struct world *w) {
    static const char *const strategies[] = {"easy", "hard", "centroid", "random"};
    struct pair pairs[PAIRS];
    for (int k = 0; k < COUNT_OF(strategies); k++) {
        int n = run_selection(
            c, w, (struct selection_options){.strategy = strategies[k], .scope = SCOPE_PROMPTS}, pairs);
        int at = 0;
        for (int p = 0; p < PROMPTS; p++) {
            int chosen, rejected, first = w->first[p], count = count_of(w, p);
            bool known = file_pair(w, p, &chosen, &rejected) && (chosen - rejected) % 2 != 0;
            bool equal = w->score[first] == w->score[first + 1] && !known;
            if (count < 2 || equal) {
                continue;
            }
            CHECK(at < n && (pairs[at].chosen - pairs[at].rejected) % 2 != 0);
            CHECK(at < n && pairs[at].chosen >= first && pairs[at].chosen < first + count);
            CHECK(at < n && (!known || (pairs[at].chosen == chosen && pairs[at].rejected == rejected)));
            at++;
        }
        CHECK(at == n && n > PROMPTS / 3);
    }
}

static int prompt_of(const struct world *w, int64_t response) {
    int p = 0;
    while (w->first[p + 1] <= response) {
        p++;
    }
    return p;
}

/* Rounds of ten prompts, each without what was asked before: the least similar pairs of all first. */
static void test_count_and_exclude(struct comm *c, const struct world *w) {
    enum { ROUND = 10, ROUNDS = 3 };
    struct pair pairs[PAIRS];
    bool seen[PROMPTS] = {false};
    double last = -2;
    char views[ROUNDS * 100] = "", name[100];
    for (int round = 0; round < ROUNDS; round++) {
        double least = 2, most = -2;
        int n = run_selection(
            c, w, (struct selection_options){.strategy = "easy", .count = ROUND, .exclude = views}, pairs);
        CHECK(n == ROUND);
        for (int i = 0; i < n; i++) {
            int p = prompt_of(w, pairs[i].chosen), a = 0, b = 0;
            CHECK(!seen[p]);
            seen[p] = true;
            extreme(w, p, 1, &a, &b);
            double s = cosine(w, (int)pairs[i].chosen, (int)pairs[i].rejected);
            CHECK(fabs(s - cosine(w, a, b)) < 1e-12);
            least = fmin(least, s);
            most = fmax(most, s);
        }
        CHECK(least >= last);
        last = most;
        snprintf(name, sizeof name, "%.80s.%d.h5", w->view, round);
        CHECK(comm_barrier(c) == OK && (c->rank > 0 || rename(w->view, name) == 0));
        CHECK(comm_barrier(c) == OK);
        snprintf(views + strlen(views), sizeof views - strlen(views), "%s%s", round ? "," : "", name);
    }
    /* What is left holds other pairs of the same prompts as well, behind all other prompts. */
    int n = run_selection(c, w, (struct selection_options){.strategy = "easy", .exclude = views}, pairs);
    int again = 0;
    for (int i = 0; i < n; i++) {
        int p = prompt_of(w, pairs[i].chosen), a = 0, b = 0;
        extreme(w, p, 1, &a, &b);
        again += seen[p];
        CHECK(!seen[p] || (pairs[i].chosen != a && pairs[i].chosen != b) ||
              (pairs[i].rejected != a && pairs[i].rejected != b));
    }
    CHECK(again > 5);
    CHECK(run_selection(c, w,
                        (struct selection_options){.strategy = "easy", .count = PROMPTS, .exclude = views},
                        pairs) == -1);
    CHECK(c->rank > 0 || strstr(status_message()->text, "that are left"));
    /* A mix takes its shares, each part its own first. */
    n = run_selection(c, w, (struct selection_options){.strategy = "easy:0.5,hard:0.5", .count = ROUND},
                      pairs);
    CHECK(n == ROUND);
}

/* Where labels are needed, pairs without one are left out. */
static void test_needed_labels(struct comm *c, const struct world *w) {
    struct pair pairs[PAIRS];
    json_t *report;
    int all =
        run_selection(c, w, (struct selection_options){.strategy = "hard", .scope = SCOPE_PROMPTS}, pairs);
    int unlabeled = 0;
    for (int i = 0; i < all; i++) {
        unlabeled += pairs[i].label == 0;
    }
    int n = run_selection(
        c, w, (struct selection_options){.strategy = "hard", .scope = SCOPE_PROMPTS, .needs_labels = true},
        pairs);
    CHECK(unlabeled > 0 && n == all - unlabeled);
    for (int i = 0; i < n; i++) {
        CHECK(pairs[i].label == 1);
    }
    CHECK(json_load(w->report, &report) == OK);
    CHECK(number_in(json_object_get(report, "dropped"), "no label and no scores") == unlabeled);
    json_decref(report);
}

int main(int argc, char **argv) {
    struct comm *c;
    char folder[64];
    if (comm_start(&argc, &argv, &c) != OK) {
        return 1;
    }
    log_init(c->rank, c->size, LOG_ERROR);
    world_folder(c, folder);
    struct world *prompts = world_make(c, folder, false, 0);
    struct world *copies = world_make(c, folder, false, 2);
    test_copies(c, copies);
    test_count_and_exclude(c, prompts);
    test_needed_labels(c, prompts);
    mem_free(prompts);
    mem_free(copies);
    world_folder_remove(c, folder);
    int64_t all = failures;
    failures = comm_sum_i64(c, &all, 1) == OK ? (int)all : 1;
    comm_finish(c);
    return failures != 0;
}
