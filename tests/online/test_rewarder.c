/* Rewards by name: what each column is; programs that answer, die, hang, print rubbish, too little, too much;
 * what is left of them afterwards. */
#include "tests/unit.h"

#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "online/rewarder.h"
#include "util/text.h"

static const int32_t tokens[] = {5, 9, 2};

static struct rewarded response(int64_t row, int32_t sample, const char *text, const char *answer) {
    return (struct rewarded){.row = row,
                             .sample = sample,
                             .is_stopped = sample == 0,
                             .prompt = "What is \"6 x 7\"?\n",
                             .text = text,
                             .answer = answer,
                             .tokens = tokens,
                             .n_tokens = sample == 0 ? 3 : 0};
}

static struct rewarder *open_all(const struct rewarder_options *o) {
    struct rewarder *r = NULL;
    assert_int_equal(rewarder_open(o, &r), OK);
    return r;
}

static void test_columns(void **state) {
    (void)state;
    const struct rewarder_options o = {.length_weight = -.5,
                                       .stop_weight = 2,
                                       .pattern = "4[0-9]",
                                       .pattern_weight = 3,
                                       .command = "while read line; do echo 0.25; done",
                                       .command_weight = 4,
                                       .timeout_s = 20};
    struct rewarder *r = open_all(&o);
    static const char *const names[] = {"length", "stop", "pattern", "command"};
    const struct rewarded of[] = {response(7, 0, "It is 42.", NULL), response(7, 1, "", NULL)};
    double out[8], weights[4], sum;
    assert_int_equal(rewarder_columns(r), 4);
    for (int k = 0; k < 4; k++) {
        assert_string_equal(rewarder_name(r, k), names[k]);
        weights[k] = rewarder_weight(r, k);
    }
    for (int round = 0; round < 3; round++) { /* the program is one all the time */
        assert_int_equal(rewarder_run(r, of, 2, out), OK);
        assert_true(out[0] == 3 && out[1] == 1 && out[2] == 1 && out[3] == .25);
        assert_true(out[4] == 0 && out[5] == 0 && out[6] == 0 && out[7] == .25);
    }
    assert_int_equal(rewarder_run(r, of, 0, out), OK);
    assert_int_equal(reward_sum(&of[0], 4, names, weights, out, &sum), OK);
    assert_true(sum == -1.5 + 2 + 3 + 1);
    out[2] = NAN;
    assert_int_equal(reward_sum(&of[0], 4, names, weights, out, &sum), ERR_DATA);
    assert_non_null(strstr(status_message()->text, "row 7, sample 0: the reward \"pattern\" is nan"));
    rewarder_close(r);
    rewarder_close(NULL);
}

static double matched(const char *regex, enum reward_match match, const char *text, const char *answer) {
    const struct rewarder_options o = {.pattern = regex, .match = match, .pattern_weight = 1};
    struct rewarder *r = open_all(&o);
    const struct rewarded of = response(3, 1, text, answer);
    double out = NAN;
    out = rewarder_run(r, &of, 1, &out) == OK ? out : NAN;
    rewarder_close(r);
    return out;
}

static void test_patterns(void **state) {
    (void)state;
    static const struct {
        const char *regex;
        enum reward_match match;
        const char *text, *answer;
        double reward;
    } cases[] = {
        {"\\bno\\b", MATCH_FOUND, "oh no!", NULL, 1},
        {"^no$", MATCH_FOUND, "oh no!", NULL, 0},
        {"\\p{Lu}", MATCH_FOUND, "ärger Über", NULL, 1},
        {"", MATCH_EXACT, " 42\n", "42", 1},
        {"", MATCH_EXACT, "42.0", "42", 0},
        {"answer: (\\w+)", MATCH_EXACT, "answer: a ... answer: b", "b", 1},
        {"answer: (\\w+)", MATCH_EXACT, "answer: b ... answer: a", "b", 0},
        {"answer: (\\w+)", MATCH_EXACT, "b", "b", 0}, /* not as it was asked for */
        {"#### (.*)", MATCH_NUMBER, "so\n#### 1,000", "6 * 7 = 42\n#### 1000", 1},
        {"", MATCH_NUMBER, "between 3 and $4.50", "4.5", 1},
        {"", MATCH_NUMBER, "minus -3e2%", "-300", 1},
        {"", MATCH_NUMBER, "none at all", "4", 0},
        {"", MATCH_NUMBER, "41", "42", 0},
        {"x*", MATCH_FOUND, "", NULL, 1}, /* an empty match in an empty text */
        {"x*", MATCH_EXACT, "axxb", "", 1},
        {"(a)|b", MATCH_EXACT, "b", "b", 1}, /* a group that took no part */
    };
    for (int i = 0; i < COUNT_OF(cases); i++) {
        double reward = matched(cases[i].regex, cases[i].match, cases[i].text, cases[i].answer);
        if (!(reward == cases[i].reward)) {
            FAIL("case %d: %g", i, reward);
        }
    }
    assert_true(isnan(matched("", MATCH_NUMBER, "4", "four")));
    assert_non_null(strstr(status_message()->text, "row 3: the data's answer \"four\" is no number"));
    assert_true(isnan(matched("", MATCH_EXACT, "4", NULL)));
    assert_non_null(strstr(status_message()->text, "row 3 has no answer"));
    assert_true(isnan(
        matched("(a+)+$", MATCH_FOUND, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab", NULL)));
    assert_non_null(strstr(status_message()->text, "row 3, sample 1: "));
    assert_false(isnan(matched("b", MATCH_FOUND, "\xff\xfe b", NULL))); /* no UTF-8 */
}

static void test_options(void **state) {
    (void)state;
    struct rewarder *r;
    const struct rewarder_options bad = {.pattern = "a(b", .pattern_weight = 1},
                                  instant = {.command = "cat", .timeout_s = 0},
                                  heavy = {.length_weight = INFINITY}, none = {.timeout_s = 1};
    assert_int_equal(rewarder_open(&bad, &r), ERR_USAGE);
    assert_non_null(strstr(status_message()->text, "a(b"));
    assert_int_equal(rewarder_open(&instant, &r), ERR_USAGE);
    assert_int_equal(rewarder_open(&heavy, &r), ERR_USAGE);
    assert_int_equal(rewarder_open(&none, &r), OK);
    assert_int_equal(rewarder_columns(r), 0);
    rewarder_close(r);
}

/* What the program is given. */
static void test_request(void **state) {
    (void)state;
    char path[] = "/tmp/collimate_requests_XXXXXX", command[300], lines[1000] = "";
    int file = mkstemp(path);
    assert_true(file >= 0);
    close(file);
    snprintf(command, sizeof command,
             "while read -r line; do printf '%%s\\n' \"$line\" >> %s; echo '{\"reward\": -1e3}'; done", path);
    const struct rewarder_options o = {.command = command, .timeout_s = 20, .rank = 3};
    struct rewarder *r = open_all(&o);
    const struct rewarded of[] = {response(7, 0, "a\t\"b\"\n\xc3\xa9", "42"), response(8, 1, "", NULL)};
    double out[2];
    assert_int_equal(rewarder_run(r, of, 2, out), OK);
    assert_true(out[0] == -1000 && out[1] == -1000);
    rewarder_close(r);
    FILE *in = fopen(path, "r");
    assert_true(fread(lines, 1, sizeof lines - 1, in) > 0);
    fclose(in);
    unlink(path);
    assert_string_equal(
        lines, "{\"row\": 7, \"sample\": 0, \"prompt\": \"What is \\\"6 x 7\\\"?\\n\", \"text\": "
               "\"a\\t\\\"b\\\"\\n\xc3\xa9\", \"tokens\": [5, 9, 2], \"answer\": \"42\", \"left\": 1}\n"
               "{\"row\": 8, \"sample\": 1, \"prompt\": \"What is \\\"6 x 7\\\"?\\n\", \"text\": \"\", "
               "\"tokens\": [], \"answer\": null, \"left\": 0}\n");
}

/* Each fails at the second of three responses, unless it says otherwise. */
static void test_hostile(void **state) {
    (void)state;
    static const struct {
        const char *command, *says;
    } cases[] = {
        {"read a; echo 1; exit 3", "row 4, sample 1: the program ended (exit status 3) after 1 of 3"},
        {"read a; echo 1; kill -9 $$", "row 4, sample 1: the program ended (signal 9)"},
        {"no-such-program-here 2>/dev/null", "row 4, sample 0: the program ended (exit status 127: no such"},
        {"exit 0", "row 4, sample 0: the program ended (exit status 0)"},
        {"read a; echo 1; sleep 60", "row 4, sample 1: the program has said nothing for 3 s, after 1 of 3"},
        {"read a; echo 1; exec >&-; cat > /dev/null", "row 4, sample 1: the program closed its output"},
        {"read a; echo 1; echo hello; cat", "row 4, sample 1: not a line with a reward"},
        {"read a; echo 1; echo; cat", "row 4, sample 1: not a line with a reward"},
        {"read a; echo 1; echo '{\"score\": 1}'; cat", "row 4, sample 1: not a line with a reward"},
        {"read a; echo 1; echo '{\"reward\": \"1\"}'; cat", "row 4, sample 1: not a line with a reward"},
        {"read a; echo 1; echo '[1]'; cat", "row 4, sample 1: not a line with a reward"},
        {"read a; echo 1; printf '\\0\\377\\n'; cat", "row 4, sample 1: not a line with a reward"},
        {"read a; echo 1; echo nan; cat", "row 4, sample 1: the reward is not a finite number"},
        {"read a; echo 1; echo -inf; cat", "row 4, sample 1: the reward is not a finite number"},
        {"read a; echo 1; echo '{\"reward\": NaN}'; cat",
         "row 4, sample 1: the reward is not a finite number"},
        {"read a; echo 1; echo 1e999; cat", "row 4, sample 1: the reward is not a finite number"},
        {"read a; echo 1; echo '{\"reward\": null}'; cat", "row 4, sample 1: the reward is not a finite"},
        {"read a; echo 1; echo '{\"reward\": 1, \"row\": 5}'; cat", "row 4, sample 1: an answer to another"},
        {"read a; printf '1\\n1\\n1\\n1\\n'; cat", "after row 4, sample 2: more lines than it was asked"},
        {"read a; head -c 3000000 /dev/zero | tr '\\0' x; cat", "row 4, sample 0: a line without an end"},
    };
    for (int i = 0; i < COUNT_OF(cases); i++) {
        const struct rewarder_options o = {
            .command = cases[i].command, .timeout_s = strstr(cases[i].says, "for 3 s") ? 3 : 20, .rank = 5};
        struct rewarder *r = open_all(&o);
        struct rewarded of[3];
        double out[3];
        for (int k = 0; k < 3; k++) {
            of[k] = response(4, k, "text", NULL);
        }
        assert_int_equal(rewarder_run(r, of, 3, out), ERR_DATA);
        const char *text = status_message()->text;
        if (!strstr(text, cases[i].says) || !text_starts(text, "online.reward_command on rank 5: ")) {
            FAIL("%s: %s", cases[i].command, text);
        }
        assert_int_equal(rewarder_run(r, of, 3, out), ERR_DATA); /* and again, without harm */
        rewarder_close(r);
    }
}

/* Waits for the line of a program that says where it is. */
static pid_t read_pid(const char *path) {
    char text[32] = "";
    for (int i = 0; i < 500 && !strchr(text, '\n'); i++) {
        FILE *in = fopen(path, "r");
        if (in) {
            size_t n = fread(text, 1, sizeof text - 1, in);
            text[n] = '\0';
            fclose(in);
        }
        usleep(10000);
    }
    return (pid_t)atoi(text);
}

/* More than pipes hold, both ways, to a program that reads all before it answers; one that talks between two
 * runs. */
static void test_volume(void **state) {
    (void)state;
    enum { N = 300 };
    static char long_text[3001];
    static struct rewarded of[N];
    static double out[N];
    memset(long_text, 'x', sizeof long_text - 1);
    for (int i = 0; i < N; i++) {
        of[i] = response(i, 0, long_text, NULL);
    }
    const struct rewarder_options patient = {.command = "while :; do all=; while read -r line; do all=\"$all "
                                                        "1\"; case $line in *'\"left\": 0}') break;; esac; "
                                                        "done; [ -n \"$all\" ] || exit; for one in $all; do "
                                                        "printf '%1000s{\"reward\": 2.5}\\n'; done; done",
                                             .timeout_s = 60};
    struct rewarder *r = open_all(&patient);
    assert_int_equal(rewarder_run(r, of, N, out), OK);
    assert_true(out[0] == 2.5 && out[N - 1] == 2.5);
    assert_int_equal(rewarder_run(r, of, 2, out), OK);
    rewarder_close(r);
    char path[] = "/tmp/collimate_said_XXXXXX", command[200];
    int file = mkstemp(path);
    assert_true(file >= 0 && close(file) == 0);
    snprintf(command, sizeof command, "read a; echo 1; sleep 0.1; echo 2; echo $$ > %s; cat >/dev/null",
             path);
    const struct rewarder_options chatty = {.command = command, .timeout_s = 20};
    r = open_all(&chatty);
    struct rewarded *once = malloc(sizeof *once); /* nothing of a run is looked at after it */
    *once = of[0];
    assert_int_equal(rewarder_run(r, once, 1, out), OK);
    free(once);
    assert_true(read_pid(path) > 0); /* it has said more */
    unlink(path);
    assert_int_equal(rewarder_run(r, of, 1, out), ERR_DATA);
    assert_non_null(strstr(status_message()->text, "row 0, sample 0: more lines than it was asked"));
    rewarder_close(r);
}

/* Closed, the program ends: by itself, or though it will not; with what it started. It is no rank of the job.
 */
static void test_end(void **state) {
    (void)state;
    static const char *const ends[] = {"cat > /dev/null", "trap '' TERM; while :; do sleep 0.05; done"};
    assert_int_equal(setenv("OMPI_COMM_WORLD_RANK", "1", 1), 0);
    for (int i = 0; i < COUNT_OF(ends); i++) {
        char path[] = "/tmp/collimate_pid_XXXXXX", command[400];
        int file = mkstemp(path);
        assert_true(file >= 0);
        close(file);
        snprintf(
            command, sizeof command,
            "sleep 300 & echo $! > %s; read a; echo \"${OMPI_COMM_WORLD_RANK:-2}$COLLIMATE_REWARD_RANK\"; %s",
            path, ends[i]);
        const struct rewarder_options o = {.command = command, .timeout_s = 20, .rank = 5};
        struct rewarder *r = open_all(&o);
        const struct rewarded of = response(4, 0, "text", NULL);
        double out;
        assert_int_equal(rewarder_run(r, &of, 1, &out), OK);
        assert_true(out == 25);
        pid_t pid = read_pid(path);
        assert_true(pid > 1 && kill(pid, 0) == 0);
        rewarder_close(r);
        for (int k = 0; k < 500 && kill(pid, 0) == 0; k++) { /* init may take a while to bury it */
            usleep(10000);
        }
        char state_of[64];
        snprintf(state_of, sizeof state_of, "/proc/%d/stat", (int)pid);
        FILE *in = fopen(state_of, "r");
        char text[200] = "";
        assert_true(!in || (fgets(text, sizeof text, in) && strstr(text, ") Z ")));
        if (in) {
            fclose(in);
        }
        unlink(path);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_columns), cmocka_unit_test(test_patterns), cmocka_unit_test(test_options),
        cmocka_unit_test(test_request), cmocka_unit_test(test_hostile),  cmocka_unit_test(test_volume),
        cmocka_unit_test(test_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
