/* reward: a decoder with a score head, trained on the labeled pairs of each prompt's responses. */
#include "command/trainer.h"

enum status command_reward(struct run *run) {
    const struct settings *s = run->settings;
    const struct recipe recipe = {
        .kind = RECIPE_REWARD,
        .reward = {.use_margin = s->reward.margin, .centering = s->reward.centering},
    };
    TRY(reward_check(&recipe.reward));
    return trainer_run(run, &recipe, ROWS_COMPARED);
}
