#include "command/command.h"

static const struct command table[] = {
    {"prepare", "JSON Lines (plain, gzip or an array) to a tokenized preference file", command_prepare, NULL},
    {"init", "a randomly initialized model folder from a config.json", command_init, NULL},
    {"sft", "fine-tune on the chosen responses", command_sft, NULL},
    {"dpo", "train on preference pairs against a reference", command_dpo, NULL},
    {"reward", "train a reward model on compared responses", command_reward, NULL},
    {"online", "train on the policy's own samples by their rewards: grpo, rloo, raft, online DPO",
     command_online, NULL},
    {"preflight",
     "before sft, dpo, reward or online: whether the run will work on this allocation, check by check",
     command_preflight, "sft dpo reward online"},
    {"merge", "a model with an adapter's products in its weights, and the proof that it says the same",
     command_merge, NULL},
    {"evaluate", "loss, margins and accuracies with confidence intervals", command_evaluate, NULL},
    {"score", "log-probabilities and rewards of every response, JSON Lines", command_score, NULL},
    {"embed", "a vector for each response, from the hidden rows of a model", command_embed, NULL},
    {"select", "a view with some of the pairs: random, easy, hard, centroid, balanced or a mix",
     command_select, NULL},
    {"few-shot", "reward models on embeddings that learn a user's wishes from a few choices",
     command_few_shot, NULL},
    {"generate", "responses to prompts, JSON Lines", command_generate, NULL},
    {"judge", "win rates and ratings of systems that answered the same prompts", command_judge, NULL},
    {"inspect", "any file or folder of ours: what is in it, lengths, what made it", command_inspect, NULL},
    {"synth", "worlds whose preferences are known: text (JSON Lines) or two conflicting users (CSV)",
     command_synth, NULL},
    {"bench", "kernels, collectives or training steps of this machine, beside its peak", command_bench, NULL},
};

const struct command *command_table(int *count) {
    *count = COUNT_OF(table);
    return table;
}
