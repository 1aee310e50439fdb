/* What the parts of `online` share. */
#ifndef COLLIMATE_COMMAND_ONLINE_H
#define COLLIMATE_COMMAND_ONLINE_H

#include "command/trainer.h"
#include "online/experience.h"

/* What a method is where settings are silent. */
struct online_way {
    int64_t samples, least; /* of a prompt; at least */
    double kl;
    bool kl_in_reward;
    bool by_group; /* its rows are groups, whose log-probabilities are those at the temperature */
};
const struct online_way *online_way_of(const struct settings *s);
/* Local. Responses that are drawn for a prompt. */
int64_t online_samples(const struct settings *s);
/* Local. Whether the last of them is drawn by another than the policy. */
bool online_has_other(const struct settings *s);
/* Local. online.kl, or what the method has where it is not set. */
double online_kl(const struct run *run);

#endif
