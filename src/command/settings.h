/* Every setting of every command; settings.c holds the table of keys. Names are the keys with dots made
 * nesting. */
#ifndef COLLIMATE_COMMAND_SETTINGS_H
#define COLLIMATE_COMMAND_SETTINGS_H

#include "util/options.h"

enum { COMPUTE_FP32, COMPUTE_BF16, COMPUTE_TF32 };
enum { RECOMPUTE_NONE, RECOMPUTE_LAYERS };

struct settings {
    bool allow_other_tokenizer, trust_data;
    char *input, *output, *data, *eval_data, *embeddings, *model, *reference, *reward_model, *tokenizer,
        *device;
    char *adapter, *reference_adapter; /* the latter: reference.adapter */
    int64_t threads, seed, device_ranks;
    bool overwrite;
    int split, eval_split; /* enum data_split */
    double watchdog_s;
    int compute;

    struct {
        int products; /* place in settings_products()'s list */
    } cpu;
    struct {
        int attention; /* place in settings_attention()'s list */
    } cuda;
    struct {
        int format; /* enum record_format */
        bool token_chars, strict, strings_as_chat, splits;
        int64_t limit, max_length, max_pairs_per_post;
        double min_score_ratio, conflicting;
        char *objectives;
        int merge_prompts; /* 0 auto, 1 true, 2 false */
        int64_t split_seed, split_after;
        char *chat_template; /* "auto", "transcript", or a file */
        char *date;          /* of templates that ask; "": today */
        int train_turns;     /* 0 all, 1 last */
        int hindsight;       /* enum hindsight_kind */
        char *good_marker, *bad_marker;
    } prepare;
    struct {
        char *begin;            /* "auto", "true", "false" */
        int end;                /* 0 auto, 1 true, 2 false */
        int special_in_content; /* 0 keep, 1 text */
    } tokenize;
    struct {
        int dtype; /* 0: as the model that was read; else 1 + enum stored_type */
    } save;
    struct {
        char *config; /* a config.json or a model folder */
    } init;
    struct {
        int64_t max_length, max_prompt, max_response;
        int keep; /* 0 end, 1 start, 2 row_start, 3 whole */
        double ratio;
        int unit; /* 0 tokens, 1 chars */
        bool end_after_cut;
    } truncate;
    struct {
        int64_t steps, epochs, batch, slots, micro_tokens;
        int optimizer;
        double learning_rate, beta1, beta2, epsilon, weight_decay, momentum, alpha, clip;
        int schedule;
        int64_t warmup_steps;
        bool shuffle, deterministic, shard_optimizer, profile, tensorboard;
        int communication; /* enum communication */
        int recompute;
        int64_t bucket_bytes, checkpoint_every, checkpoint_keep, evaluate_every;
        char *stop_before;
        int resume; /* 0 auto, 1 never, 2 must */
    } train;
    struct {
        int64_t rank; /* 0: no adapters */
        double alpha, dropout;
        char *targets, *layers;
        bool rslora;
        int init; /* 0 uniform, 1 gaussian */
    } lora;
    struct {
        int loss; /* 0 token_mean, 1 sequence_sum */
    } sft;
    struct {
        char *loss; /* a preference objective, or several with weights: "sigmoid", "sigmoid+0.1*sft" */
        double beta, label_smoothing, margin, gamma, tau, beta_scale, ld_alpha;
        double tdpo_alpha, desirable_weight, undesirable_weight;
        char *divergence;
        bool reference_free, sync_reference, weighting;
        double reference_mixup_alpha;
        int64_t reference_sync_steps;
        char *reference_file; /* side-car path; "": beside the data */
    } dpo;
    struct {
        bool margin;
        double centering;
    } reward;
    struct {
        bool per_token;
        int format; /* 0 jsonl, 1 hdf5 */
    } score;
    struct {
        char *annotations, *answers, *gamed, *template, *choices, *save;
        int verdict; /* 0 agree, 1 mean */
        double sensitivity, specificity;
    } judge;
    struct {
        int pooling; /* 0 mean, 1 last */
        int text;    /* 0 response, 1 full */
        int64_t layer, max_length;
        bool end, begin, masked_end;
    } embed;
    struct {
        char *strategy, *model, *report, *compare, *export, *exclude, *answers, *rewards, *samples;
        double fraction;
        int64_t count, clusters;
        int scope;   /* 0 auto, 1 pairs, 2 prompts */
        int seeding; /* enum kmeans_seeding */
    } select;
    struct {
        char *layers; /* "": no steering; "all", or how many */
        char *embedder, *counts, *context;
        int64_t choices, draws, targets, context_min, context_max, task_seed, hidden, heads;
        int aggregate; /* enum network_aggregate */
        int inner;     /* 0 linear, 1 mlp */
        int start;     /* enum steering_start */
        bool standardize, bounded;
        double deviation, rate, dropout;
    } steer;
    struct {
        int model;     /* enum network_kind */
        int aggregate; /* enum network_aggregate */
        int inner;     /* 0 auto, 1 linear, 2 mlp */
        int objective; /* enum few_shot_objective */
        bool latent;
        int64_t hidden, heads, batch, targets, context_min, context_max, samples, eval_samples;
        int64_t steps, passes, norm_batches, checkpoint_every, task_seed, world_rows, world_seed;
        bool norm_by_context;
        double learning_rate, epsilon, weight_decay, beta_kl, dropout, holdout, context_conflicting;
        char *context_data;
    } few_shot;
    struct {
        int64_t rows, bootstrap, kl_positions, kl_samples;
        double confidence, label_margin;
    } evaluate;
    struct {
        int64_t max_new_tokens, top_k, batch, limit, samples, best_of;
        double temperature, top_p, min_p, repetition_penalty;
        int rule; /* enum rule_kind */
        char *mix, *tokens, *threshold, *reference, *expert, *antiexpert, *stop, *save, *report, *generator,
            *instructions;
        int format; /* 0 jsonl, 1 alpaca_eval */
        bool stop_at_end, per_token;
    } generate;
    struct {
        int method; /* enum online_method */
        char *loss;
        int64_t prompts, samples, max_new_tokens, sequences, inner_epochs, top_k;
        double top_p, min_p;
        double temperature, kl, kl_target, kl_horizon, clip, clip_high, delta, importance_cap, top_share;
        double xpo_alpha, mixture;
        double gamma, lambda, value_weight, value_clip; /* ppo */
        bool whiten_rewards;
        bool stop_at_end, keep_rollouts, kl_correction, normalize_advantages, mask_truncated, sync_reference;
        int ratio;         /* 0 token, 1 sequence */
        int scale_rewards; /* enum advantage_scale */
        int keep;          /* 0 top, 1 best */
        double reference_mixup_alpha;
        int64_t reference_sync_steps;
        char *reward_weights, *reward_pattern, *reward_command, *missing_stop_score;
        int reward_match; /* enum reward_match */
        double reward_length, reward_stop, reward_pattern_weight, reward_command_weight, reward_timeout_s;
        double missing_stop_penalty;
    } online;
    struct {
        int kind; /* 0 pairs (numeric: two conflicting users), 1 text, 2 text for users */
        int64_t rows, responses;
        int rule; /* 0 early, 1 late, 2 style */
        double noise, noise_similarity, noise_full_at, conflicting;
        int64_t length, marked, users;
    } synth;
    struct {
        char *against, *report;
        int64_t rows;
    } inspect;
    struct {
        int command;    /* 0 auto, 1 sft, 2 dpo, 3 reward, 4 online */
        int64_t sample; /* rows whose boundaries are looked at */
    } preflight;
    struct {
        int kind; /* 0 ops, 1 comm, 2 step, 3 kmeans */
        int64_t repeats, tokens, sequences, largest, rows, width, clusters, iterations, memory_mib;
        int collective; /* 0 all, i: collective i - 1 */
        int pruning;    /* enum kmeans_pruning */
        double decay;
    } bench;
};

/* What a command learns only from its input: "@…" in a key's `when`, and for options_learn. */
#define LEARNT_READS_REFERENCE "a dpo.loss that reads a reference"
#define LEARNT_ONLINE_REFERENCE "a KL or a loss that reads a reference"
#define LEARNT_TAKES_BETA "a dpo.loss that takes beta"
#define LEARNT_USERS "several data files, one a user"
#define LEARNT_LOOKS "a select.strategy that looks at embeddings"
#define LEARNT_LANGUAGE_MODEL "a language model"
#define LEARNT_REWARD_MODEL "a reward model"
#define LEARNT_SHP "SHP records"
/* In the `when` of keys of losses of pairs, which online has with these methods alone. */
#define ONLINE_PAIRS "&online:online.method=online_dpo|xpo"

/* Local. `compute` as the back end wants it. */
const char *settings_compute(const struct settings *settings);
/* Local. `cpu.products` as the back end wants it, or "auto". */
const char *settings_products(const struct settings *settings);
/* Local. `cuda.attention` as the back end wants it. */
const char *settings_attention(const struct settings *settings);
/* The table. */
const struct option *settings_table(int *count);

#endif
