/* The watchdog bites a process whose main line goes over its bound, with code 75 and one line, and leaves
 * alone one that stays below it, may take any time, or was stopped as a whole. */
#include "../unit.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "mpi/watchdog_internal.h"

static void pause_ms(int ms) {
    nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L}, NULL);
}

/* What the child's main line does under a bound of 0.3 s. */
static void overrun(struct watchdog *w) {
    watchdog_phase(w, "reading the model");
    watchdog_wait(w, "broadcast");
    watchdog_go(w);
    watchdog_allow(w, "running a forest in step 3", 0);
    watchdog_wait(w, "allreduce");
    pause_ms(3000);
}

static void beat(struct watchdog *w) {
    for (int t = 0; t < 700; t += 50) {
        watchdog_allow(w, "running a forest in step 3", 0);
        pause_ms(50);
    }
}

static void take_long(struct watchdog *w) {
    watchdog_allow(w, "writing a checkpoint", 5);
    pause_ms(700);
    watchdog_phase(w, "scoring");
    pause_ms(700);
}

/* Stopped by its parent for longer than the bound, just after it has begun; then done. */
static void be_stopped(struct watchdog *w) {
    watchdog_allow(w, "running a forest in step 4", 0);
    raise(SIGSTOP);
    pause_ms(100);
}

/* Runs it in a child; gives its exit code and what it said. */
static int run_child(void (*main_line)(struct watchdog *w), char *said, size_t size) {
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        dup2(ends[1], STDERR_FILENO);
        close(ends[0]);
        struct comm c = {.rank = 2, .size = 4, .host = "node07"};
        if (watchdog_start_any(&c, 0.3, &c.watchdog) != OK) {
            _exit(1);
        }
        main_line(c.watchdog);
        watchdog_stop(&c);
        _exit(0);
    }
    close(ends[1]);
    int state;
    if (main_line == be_stopped) {
        assert_int_equal(waitpid(child, &state, WUNTRACED), child);
        assert_true(WIFSTOPPED(state));
        pause_ms(2500);
        kill(child, SIGCONT);
    }
    size_t used = 0;
    ssize_t n;
    while (used + 1 < size && (n = read(ends[0], said + used, size - used - 1)) > 0) {
        used += (size_t)n;
    }
    said[used] = '\0';
    close(ends[0]);
    assert_int_equal(waitpid(child, &state, 0), child);
    assert_true(WIFEXITED(state));
    return WEXITSTATUS(state);
}

static void test_overrun(void **state) {
    (void)state;
    char said[2048];
    assert_int_equal(run_child(overrun, said, sizeof said), ERR_LOST);
    static const char *const parts[] = {
        "rank 2 of 4 on node07: nothing for 0 s (since 20",
        "while running a forest in step 3 (for ",
        "waiting for the others in allreduce since",
        "before that: starting",
        "reading the model",
        "broadcast",
    };
    for (int i = 0; i < COUNT_OF(parts); i++) {
        if (!strstr(said, parts[i])) {
            FAIL("no \"%s\" in: %s", parts[i], said);
        }
    }
    assert_ptr_equal(strchr(said, '\n'), said + strlen(said) - 1);
}

static void test_left_alone(void **state) {
    (void)state;
    static void (*const fine[])(struct watchdog *) = {beat, take_long, be_stopped};
    char said[2048];
    for (int i = 0; i < COUNT_OF(fine); i++) {
        int code = run_child(fine[i], said, sizeof said);
        if (code != 0) {
            FAIL("case %d ended with %d: %s", i, code, said);
        }
        assert_string_equal(said, "");
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_overrun),
        cmocka_unit_test(test_left_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
