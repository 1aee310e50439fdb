#include <string.h>

#include "store/checkpoint_internal.h"
#include "util/json.h"
#include "util/log.h"
#include "util/mem.h"

enum status checkpoint_print_state(const struct checkpoint_options *o, const struct text *state,
                                   struct text *out) {
    TRY(text_printf(out, "{%s, \"facts\": {", state->data));
    for (int i = 0; i < o->n_facts; i++) {
        TRY(text_puts(out, i ? ", " : ""));
        TRY(text_json(out, o->facts[i].name, strlen(o->facts[i].name)));
        TRY(text_puts(out, ": "));
        TRY(text_json(out, o->facts[i].value, strlen(o->facts[i].value)));
    }
    return text_puts(out, "}}");
}

/* Appends the facts of a kind that are not what the checkpoint was made with. */
static enum status list_changed(const struct checkpoint_options *o, const json_t *stored, enum fact_kind kind,
                                struct text *changed) {
    for (int i = 0; i < o->n_facts; i++) {
        const struct fact *f = &o->facts[i];
        const char *was = json_string_value(json_object_get(stored, f->name));
        was = was ? was : f->fallback;
        if (f->kind == kind && (!was || strcmp(was, f->value) != 0)) {
            TRY(text_printf(changed, "%s%s (was %s, is %s)", changed->len ? ", " : "", f->name,
                            was ? was : "not set", f->value));
        }
    }
    return OK;
}

/* Names every fact that differs, and whether the run can go on all the same. */
static enum status compare_facts(const struct checkpoint_options *o, const json_t *stored, const char *path) {
    struct text fixed = {0}, rounding = {0}, harmless = {0};
    enum status st;
    TRY_TO(done, list_changed(o, stored, FACT_FIXED, &fixed));
    TRY_TO(done, list_changed(o, stored, FACT_ROUNDING, &rounding));
    TRY_TO(done, list_changed(o, stored, FACT_FREE, &harmless));
    if (fixed.len) {
        const char *also = rounding.len || harmless.len ? "; allowed beside them: " : "";
        const char *comma = rounding.len && harmless.len ? ", " : "";
        st = fail(ERR_USAGE,
                  "%s: this run would go on with other numbers: %s; set them back, choose another output, or "
                  "start anew with train.resume=never%s%s%s%s",
                  path, fixed.data, also, rounding.len ? rounding.data : "", comma,
                  harmless.len ? harmless.data : "");
        goto done;
    }
    if (rounding.len) {
        log_root(LOG_WARN, "%s: allowed, but from here on the numbers are the old run's to rounding only: %s",
                 path, rounding.data);
    }
    if (harmless.len) {
        log_root(LOG_INFO, "%s: allowed, the numbers do not depend on it: %s", path, harmless.data);
    }
done:
    text_free(&fixed);
    text_free(&rounding);
    text_free(&harmless);
    return st;
}

/* Local. */
static enum status take_facts(const struct checkpoint_options *o, const char *json,
                              struct checkpoint_found *f) {
    TRY(json_parse(json, strlen(json), f->path, &f->state));
    return compare_facts(o, json_object_get(f->state, "facts"), f->path);
}

/* Collective. */
static enum status find_newest(struct comm *c, const struct checkpoint_options *o,
                               struct checkpoint_found *out) {
    char *json = NULL;
    TRY(checkpoint_latest(c, o->run, &out->path, &out->step));
    if (!out->path) {
        return o->resume == RESUME_MUST
                   ? fail(ERR_INPUT, "train.resume=must: %s/checkpoints holds no checkpoint", o->run)
                   : OK;
    }
    TRY(checkpoint_file_read_state(c, out->path, &json));
    enum status st = comm_agree(c, take_facts(o, json, out));
    mem_free(json);
    return st;
}

enum status checkpoint_find(struct comm *c, const struct checkpoint_options *o,
                            struct checkpoint_found *out) {
    *out = (struct checkpoint_found){0};
    if (o->resume == RESUME_NEVER) {
        return checkpoint_prune(c, o->run, 0);
    }
    enum status st = find_newest(c, o, out);
    if (st != OK) {
        checkpoint_found_close(out);
    }
    return st;
}

void checkpoint_found_close(struct checkpoint_found *f) {
    mem_free(f->path);
    json_decref(f->state);
    *f = (struct checkpoint_found){0};
}
