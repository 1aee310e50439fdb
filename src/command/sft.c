/* sft: supervised fine-tuning on the chosen responses (or on all, where the file has no pairs). */
#include "command/trainer.h"

enum status sft_terms(const struct run *run, struct terms *out) {
    *out = (struct terms){.sequence_sum = run->settings->sft.loss == 1};
    terms_one("sft", out);
    return OK;
}

enum status command_sft(struct run *run) {
    struct terms terms;
    TRY(sft_terms(run, &terms));
    return trainer_run(run, &terms, NULL);
}
