/* The watchdog bites a process whose main line goes over its bound or does nothing at all, with code 75 and
 * one line, also where it is the only rank, and leaves alone one that stays below it, works for any time,
 * stands before a pipe with nobody to wait for it, or was stopped as a whole. */
#include "tests/unit.h"

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

/* What a child's main line does under a bound of 1 s, which for rank 0 ends half a second later. */
static void overrun(struct watchdog *w) {
    watchdog_phase(w, "reading the model");
    watchdog_wait(w, "broadcast");
    watchdog_go(w);
    watchdog_allow(w, "running a forest in step 3", 0);
    watchdog_wait(w, "allreduce");
    pause_ms(60000);
}

static void beat(struct watchdog *w) {
    for (int t = 0; t < 2000; t += 50) {
        watchdog_allow(w, "running a forest in step 3", 0);
        pause_ms(50);
    }
}

/* Little work is work. */
static void work_ms(int ms) {
    for (int t = 0; t < ms; t += 50) {
        pause_ms(50);
    }
}

static void take_long(struct watchdog *w) {
    watchdog_allow(w, "writing a checkpoint", 30);
    work_ms(2000);
}

static void work_long(struct watchdog *w) {
    watchdog_phase(w, "scoring");
    work_ms(2000);
}

static void wait_long(struct watchdog *w) {
    watchdog_wait(w, "barrier");
    pause_ms(2000);
    watchdog_go(w);
}

/* A call that does not come back, in a phase that may be long and in one without a bound. */
static void hang(struct watchdog *w) {
    watchdog_allow(w, "writing a checkpoint", 30);
    pause_ms(60000);
}

static void hang_anywhere(struct watchdog *w) {
    watchdog_phase(w, "reading the model");
    pause_ms(60000);
}

/* The same within what would be a wait for others, were there any. */
static void hang_in_wait(struct watchdog *w) {
    watchdog_phase(w, "writing all.h5");
    watchdog_wait(w, "opening a file");
    pause_ms(60000);
}

/* A wait that looks around from time to time. */
static void look_long(struct watchdog *w) {
    watchdog_wait(w, "a pulse of whoever holds the folder");
    work_ms(2000);
    watchdog_go(w);
}

/* Whoever reads has something else to do for a while. */
static void write_to_slow_reader(struct watchdog *w) {
    static char block[1 << 20];
    int ends[2];
    watchdog_phase(w, "generating");
    assert_int_equal(pipe(ends), 0);
    pid_t reader = fork();
    if (reader == 0) {
        close(ends[1]);
        pause_ms(3000);
        while (read(ends[0], block, sizeof block) > 0) {
        }
        _exit(0);
    }
    close(ends[0]);
    if (write(ends[1], block, sizeof block) != sizeof block) {
        _exit(1);
    }
    close(ends[1]);
    waitpid(reader, NULL, 0);
}

/* Stopped by its parent for longer than the bound, just after it has begun; then done. */
static void be_stopped(struct watchdog *w) {
    watchdog_allow(w, "running a forest in step 4", 0);
    raise(SIGSTOP);
    pause_ms(100);
}

struct child {
    pid_t id;
    int said; /* its standard error */
};

static struct child begin(int size, void (*main_line)(struct watchdog *w)) {
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    pid_t id = fork();
    assert_true(id >= 0);
    if (id == 0) {
        dup2(ends[1], STDERR_FILENO);
        close(ends[0]);
        struct comm c = {.rank = 0, .size = size, .host = "node07"};
        if (watchdog_start_any(&c, 1, &c.watchdog) != OK) {
            _exit(1);
        }
        main_line(c.watchdog);
        watchdog_stop(&c);
        _exit(0);
    }
    close(ends[1]);
    return (struct child){id, ends[0]};
}

/* Waits for it; gives its exit code and what it said. */
static int end(struct child child, char *said, size_t size) {
    size_t used = 0;
    ssize_t n;
    while (used + 1 < size && (n = read(child.said, said + used, size - used - 1)) > 0) {
        used += (size_t)n;
    }
    said[used] = '\0';
    close(child.said);
    int state;
    assert_int_equal(waitpid(child.id, &state, 0), child.id);
    assert_true(WIFEXITED(state));
    return WEXITSTATUS(state);
}

static void test_bites(void **state) {
    (void)state;
    static void (*const bad[])(struct watchdog *) = {overrun, hang, hang_anywhere, hang_anywhere,
                                                     hang_in_wait};
    static const int sizes[] = {4, 4, 4, 1, 1};
    static const char *const parts[][7] = {{"while running a forest in step 3 (for ",
                                            "waiting for the others in allreduce since",
                                            "before that: starting", "reading the model", "broadcast"},
                                           {"while writing a checkpoint (for "},
                                           {"while reading the model (for "},
                                           {"while reading the model (for "},
                                           {"while writing all.h5 (for ", "in opening a file since"}};
    struct child children[COUNT_OF(bad)];
    char said[2048];
    for (int i = 0; i < COUNT_OF(bad); i++) { /* all at the same time */
        children[i] = begin(sizes[i], bad[i]);
    }
    for (int i = 0; i < COUNT_OF(bad); i++) {
        assert_int_equal(end(children[i], said, sizeof said), ERR_LOST);
        char who[64];
        snprintf(who, sizeof who, "rank 0 of %d on node07: nothing for ", sizes[i]);
        bool is_whole = strstr(said, who) && strstr(said, " s (since 20");
        for (int k = 0; k < COUNT_OF(parts[i]) && parts[i][k]; k++) {
            is_whole = is_whole && strstr(said, parts[i][k]);
        }
        if (!is_whole || strchr(said, '\n') != said + strlen(said) - 1) {
            FAIL("case %d: %s", i, said);
        }
    }
}

static void test_left_alone(void **state) {
    (void)state;
    static void (*const fine[])(struct watchdog *) = {
        beat, take_long, work_long, wait_long, work_long, look_long, write_to_slow_reader, be_stopped};
    static const int sizes[] = {4, 4, 4, 4, 1, 1, 1, 1};
    struct child children[COUNT_OF(fine)];
    char said[2048];
    for (int i = 0; i < COUNT_OF(fine); i++) { /* all at the same time */
        children[i] = begin(sizes[i], fine[i]);
    }
    int stopped;
    assert_int_equal(waitpid(children[COUNT_OF(fine) - 1].id, &stopped, WUNTRACED),
                     children[COUNT_OF(fine) - 1].id);
    assert_true(WIFSTOPPED(stopped));
    pause_ms(3000);
    kill(children[COUNT_OF(fine) - 1].id, SIGCONT);
    for (int i = 0; i < COUNT_OF(fine); i++) {
        int code = end(children[i], said, sizeof said);
        if (code != 0) {
            FAIL("case %d ended with %d: %s", i, code, said);
        }
        assert_string_equal(said, "");
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bites),
        cmocka_unit_test(test_left_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
