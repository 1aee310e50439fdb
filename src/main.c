/* Starts MPI, reads the line, finds the command, runs it, agrees on how it went, says so once, ends. */
#include <omp.h>

#include "command/deliver.h"
#include "command/line.h"
#include "command/outputs.h"
#include "mpi/comm.h"
#include "mpi/launch.h"
#include "mpi/watchdog.h"
#include "util/fault.h"
#include "util/log.h"
#include "util/machine.h"

static enum status configure(const struct line *line, struct run *run) {
    int count;
    const struct option *table = settings_table(&count);
    TRY(options_open(run->options, table, count, run->settings, line->command->name));
    run->options->also = line->command->also;
    TRY(line_configure(run->argc, run->argv, run->options));
    int64_t threads = run->settings->threads;
    return threads <= machine_most_threads()
               ? OK
               : fail(ERR_USAGE, "threads is %lld; a rank on this machine may have %d at most",
                      (long long)threads, machine_most_threads());
}

static enum status start(const struct line *line, struct run *run) {
    TRY(outputs_check(run, line->command->name));
    return line->command->run(run);
}

static enum status work(struct comm *comm, const struct line *line, int argc, char **argv) {
    struct settings settings = {0};
    struct options options = {0};
    struct run run = {.comm = comm,
                      .settings = &settings,
                      .options = &options,
                      .dry_run = line->dry_run,
                      .argc = argc,
                      .argv = argv};
    TRY(watchdog_start(comm));
    enum status st = comm_agree(comm, configure(line, &run));
    st = st == OK ? watchdog_set(comm, settings.watchdog_s) : st;
    watchdog_phase(comm->watchdog, "starting %s", line->command->name);
    if (st == OK) {
        st = line->print_config ? line_print_config(&run) : start(line, &run);
    }
    options_close(&options);
    st = comm_agree(comm, st);
    watchdog_stop(comm);
    return st;
}

static int report(enum status st) {
    if (st != OK && st != REQUEUE && log_rank() == 0) {
        const struct message *message = status_message();
        if (st == ERR_INTERNAL && message->file) {
            log_root(LOG_ERROR, "%s [%s:%d]", message->text, message->file, message->line);
        } else {
            log_root(LOG_ERROR, "%s", message->text);
        }
    }
    return st;
}

/* What needs no ranks: --version, --help, and --print-config without a command. */
static bool is_local(const struct line *line) {
    return line->want_version || line->want_help || !line->command;
}

static enum status print_local(const struct line *line) {
    const struct text nothing = {0};
    TRY(line->want_version ? line_print_version()
        : line->want_help  ? line_print_help(line)
                           : line_print_reference());
    return deliver_text("", &nothing); /* and what was printed before */
}

/* OMP_NUM_THREADS may ask for anything, and loops that no key bounds take it as it is. */
static void bound_threads(void) {
    if (omp_get_max_threads() > machine_most_threads()) {
        omp_set_num_threads(machine_most_threads());
    }
}

int main(int argc, char **argv) {
    comm_watch_usr1(); /* a batch system may send it to any command, at any time */
    comm_ignore_write_signals();
    bound_threads();
    fault_init(launch_rank());
    struct line line;
    enum status st = line_parse(argc, argv, &line);
    log_init(launch_rank(), 1, LOG_INFO);
    if (st == OK && is_local(&line)) {
        return launch_rank() == 0 ? report(print_local(&line)) : OK;
    }
    struct comm *comm;
    struct launch launch;
    launch_look(&launch);
    enum status started = comm_start(&argc, &argv, &comm);
    if (started != OK) { /* perhaps on this rank alone, and there is nobody yet to agree with */
        log_any(LOG_ERROR, "%s", status_message()->text);
        return started;
    }
    st = st == OK ? launch_check(&launch, comm->size) : st;
    bool is_world = launch.tasks <= comm->size; /* else one of all these ranks 0 speaks */
    log_init(is_world ? comm->rank : launch.rank, comm->size, line.quiet ? LOG_ERROR : LOG_INFO);
    st = st == OK ? work(comm, &line, argc, argv) : comm_agree(comm, st);
    int code = report(st);
    comm_finish(comm);
    return code;
}
