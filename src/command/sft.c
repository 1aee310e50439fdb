/* sft: supervised fine-tuning on the chosen responses (or on all, where the file has no pairs). */
#include "command/trainer.h"

enum status sft_recipe(const struct run *run, struct recipe *out) {
    *out = (struct recipe){.sequence_sum = run->settings->sft.loss == 1};
    return OK;
}

enum status command_sft(struct run *run) {
    struct recipe recipe;
    TRY(sft_recipe(run, &recipe));
    return trainer_run(run, &recipe, ROWS_CHOSEN);
}
