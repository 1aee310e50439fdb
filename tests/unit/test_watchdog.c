/* The watchdog bites a silent process with code 75 and one line, and leaves a beating one alone. */
#include "../unit.h"

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

/* In a child: beats for beating_ms, then is silent for a second. Gives its exit code and what it said. */
static int run_child(int beating_ms, char *said, size_t size) {
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        dup2(ends[1], STDERR_FILENO);
        close(ends[0]);
        struct comm c = {.rank = 2, .size = 4, .host = "node07"};
        struct watchdog *w;
        if (watchdog_start_any(&c, 0.3, &w) != OK) {
            _exit(1);
        }
        for (int t = 0; t < beating_ms; t += 50) {
            watchdog_beat(w, "step 3: summing gradients");
            pause_ms(50);
        }
        if (beating_ms == 0) {
            pause_ms(2000);
        }
        watchdog_stop(w);
        _exit(0);
    }
    close(ends[1]);
    size_t used = 0;
    ssize_t n;
    while (used + 1 < size && (n = read(ends[0], said + used, size - used - 1)) > 0) {
        used += (size_t)n;
    }
    said[used] = '\0';
    close(ends[0]);
    int state;
    assert_int_equal(waitpid(child, &state, 0), child);
    assert_true(WIFEXITED(state));
    return WEXITSTATUS(state);
}

static void test_silence(void **state) {
    (void)state;
    char said[1024];
    assert_int_equal(run_child(0, said, sizeof said), ERR_LOST);
    assert_non_null(strstr(said, "rank 2 of 4 on node07"));
    assert_non_null(strstr(said, "while starting"));
    assert_ptr_equal(strchr(said, '\n'), said + strlen(said) - 1);
}

static void test_beating(void **state) {
    (void)state;
    char said[1024];
    assert_int_equal(run_child(700, said, sizeof said), 0);
    assert_string_equal(said, "");
}

static void test_off(void **state) {
    (void)state;
    struct comm c = {.rank = 0, .size = 1, .host = "here"};
    struct watchdog *w;
    setenv("COLLIMATE_WATCHDOG", "off", 1);
    assert_int_equal(watchdog_start(&c, 0, &w), OK);
    assert_null(w);
    watchdog_beat(w, "nothing");
    watchdog_stop(w);
    setenv("COLLIMATE_WATCHDOG", "soon", 1);
    assert_int_equal(watchdog_start(&c, 0, &w), ERR_USAGE);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_silence),
        cmocka_unit_test(test_beating),
        cmocka_unit_test(test_off),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
