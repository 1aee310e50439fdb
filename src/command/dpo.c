/* dpo: preference losses on pairs, against reference scores that are computed once. */
#include "command/trainer.h"

enum status command_dpo(struct run *run) {
    const struct settings *s = run->settings;
    struct recipe recipe = {
        .pairs = true,
        .has_reference = true,
        .reference_free = s->dpo.reference_free,
        .options = {.beta = s->dpo.beta, .label_smoothing = s->dpo.label_smoothing},
    };
    TRY(recipe_parse(s->dpo.loss, &recipe));
    TRY(recipe_check(&recipe, options_is_set(run->options, "dpo.label_smoothing")));
    return trainer_run(run, &recipe, ROWS_PAIRS);
}
