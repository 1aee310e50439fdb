#include "command/settings.h"

#define AT(field) offsetof(struct settings, field)
#define TEXT(key_, field, fallback_, commands_, when_, ...)                                                  \
    {                                                                                                        \
        .key = key_, .type = OPTION_TEXT, .offset = AT(field), .fallback = fallback_, .commands = commands_, \
        .when = when_, .help = __VA_ARGS__                                                                   \
    }
#define CHOICE(key_, field, fallback_, choices_, commands_, when_, ...)                                      \
    {                                                                                                        \
        .key = key_, .type = OPTION_CHOICE, .offset = AT(field), .fallback = fallback_, .choices = choices_, \
        .commands = commands_, .when = when_, .help = __VA_ARGS__                                            \
    }
#define BOOL(key_, field, fallback_, commands_, when_, ...)                                                  \
    {                                                                                                        \
        .key = key_, .type = OPTION_BOOL, .offset = AT(field), .fallback = fallback_, .commands = commands_, \
        .when = when_, .help = __VA_ARGS__                                                                   \
    }
#define INT(key_, field, fallback_, low_, high_, unit_, commands_, when_, ...)                    \
    {                                                                                             \
        .key = key_, .type = OPTION_INT, .offset = AT(field), .fallback = fallback_, .low = low_, \
        .high = high_, .unit = unit_, .commands = commands_, .when = when_, .help = __VA_ARGS__   \
    }
#define NUMBER(key_, field, fallback_, low_, high_, unit_, commands_, when_, ...)                    \
    {                                                                                                \
        .key = key_, .type = OPTION_NUMBER, .offset = AT(field), .fallback = fallback_, .low = low_, \
        .high = high_, .unit = unit_, .commands = commands_, .when = when_, .help = __VA_ARGS__      \
    }

#define TRAINERS "sft dpo reward"
#define MODEL_USERS "sft dpo reward score evaluate generate embed merge"
#define WRITERS \
    "prepare init sft dpo reward merge score generate evaluate judge synth bench embed select few-shot"
#define ROW_READERS "sft dpo reward score evaluate generate merge"

/* How a run goes on with another value; where nothing is said: not at all. */
#define FREE .resume = RESUME_FREE
#define ROUNDS .resume = RESUME_ROUNDING
#define PLACE .resume = RESUME_ANY

#define MOST 9.0e15 /* integers above 2^53 do not survive a double */

static const struct option table[] = {
    TEXT("input", input, "", "prepare inspect", NULL, "file or files read, comma separated"),
    TEXT("output", output, "", WRITERS, NULL,
         "file or run folder written; score, evaluate, generate and judge write to standard output where it "
         "is not "
         "set, embed beside the data",
         PLACE),
    BOOL("overwrite", overwrite, "false", WRITERS " inspect", NULL,
         "output may replace what is no earlier result of the same command; never an input", PLACE),
    TEXT("data", data, "", ROW_READERS " embed select few-shot", NULL,
         "preference file (from prepare) or a view of one; few-shot: several, one a user or objective",
         PLACE),
    TEXT("eval_data", eval_data, "", TRAINERS, NULL, "preference file evaluated during training", FREE),
    TEXT("model", model, "", MODEL_USERS " bench few-shot", NULL,
         "Hugging Face model folder, or a run's checkpoints/step-N.h5; bench: a folder or config.json; "
         "evaluate does without where it only compares labels with scores or truth; few-shot: a finished "
         "run's "
         "folder, evaluated again without training",
         PLACE),
    TEXT("adapter", adapter, "", MODEL_USERS, "evaluate:model",
         "folder of a PEFT adapter (LoRA) put on model; training goes on with it, beside a frozen base",
         PLACE),
    TEXT("reward_model", reward_model, "", "generate", NULL,
         "folder of a reward model with the same tokenizer: each response gets its reward"),
    TEXT("reference", reference, "", "dpo score evaluate",
         "evaluate:model&dpo:@" LEARNT_READS_REFERENCE "&!dpo.reference_free",
         "reference model's folder; dpo: the model as it was at the start", PLACE),
    TEXT("reference.adapter", reference_adapter, "", "dpo score evaluate",
         "evaluate:model&dpo:@" LEARNT_READS_REFERENCE
         "&!dpo.reference_free&score:reference&evaluate:reference&dpo:reference,lora.rank,adapter",
         "PEFT adapter on the reference, or none; dpo with adapters and without `reference`: on the base, "
         "which is "
         "the reference alone where this is not set; an adapter that is trained further has to say",
         PLACE),
    TEXT("embeddings", embeddings, "", "select few-shot", "few-shot:data&select:!select.answers",
         "side-car from embed; random does without", PLACE),
    TEXT("tokenizer", tokenizer, "", "prepare init inspect select", "select:select.export",
         "folder, tokenizer.json, or bytes; inspect, select: where not set, what the data name"),
    BOOL("allow_other_tokenizer", allow_other_tokenizer, "false", MODEL_USERS, "evaluate:model",
         "take data that were tokenized with another tokenizer than the model's: their ids mean other text "
         "to it",
         PLACE),
    BOOL("trust_data", trust_data, "false", ROW_READERS " embed select few-shot", NULL,
         "do not compare data with the hashes in their file, which reads all of it once", PLACE),
    TEXT("device", device, "auto", MODEL_USERS " bench", "evaluate:model", "auto, cpu, cuda, check:cpu",
         PLACE),
    INT("device_ranks", device_ranks, "1", 1, 64, "ranks", MODEL_USERS " bench", "device=cuda&evaluate:model",
        "ranks of a node that may share one CUDA device; a node's ranks are dealt over its devices"),
    INT("threads", threads, "0", 0, 4096, "threads", "*", NULL,
        "threads of a rank; 0: from the affinity mask", FREE),
    NUMBER("watchdog_s", watchdog_s, "60", 25, 1e6, "s", "*", NULL,
           "a rank without a sign of life, one that stands still, or ranks that all wait for each other, for "
           "so long, end all with code 75; training: also a step that takes longer (20 steps, where that is "
           "more)",
           FREE),
    INT("seed", seed, "0", 0, MOST, "", "*", NULL, "of all randomness"),
    CHOICE("compute", compute, "fp32", "fp32|bf16|tf32", MODEL_USERS " bench",
           "evaluate:model&bench:bench.kind=step|ops|kmeans",
           "type of activations and products; tf32 (cuda): fp32 with products from 10-bit mantissas"),
    CHOICE("cuda.attention", cuda.attention, "auto", "auto|own|cudnn", MODEL_USERS " bench",
           "device=cuda&evaluate:model",
           "own kernels, or cuDNN's (compute=bf16; shapes that it does not have go to the own ones); auto: "
           "cuDNN where it is found"),

    CHOICE("prepare.format", prepare.format, "auto",
           "auto|hh|preference|prompt_completion|prompt|responses|shp|ultrafeedback|alpaca|text|unpaired",
           "prepare", NULL, "record format; auto: by the keys of most records"),
    BOOL("prepare.strict", prepare.strict, "false", "prepare", NULL,
         "stop at the first bad record (no JSON, wrong types, missing or empty fields); else bad ones are "
         "dropped, and counted by reason with their first lines"),
    TEXT("prepare.chat_template", prepare.chat_template, "auto", "prepare", NULL,
         "how messages become text: auto (the chat template of the tokenizer's folder, else transcript), "
         "transcript (HH's \"\\n\\nHuman: … \\n\\nAssistant: …\"), or a template's file"),
    BOOL(
        "prepare.strings_as_chat", prepare.strings_as_chat, "false", "prepare",
        "prepare.chat_template!=transcript",
        "with a chat template: HH transcripts, prompts and responses that are strings, SHP and UltraFeedback "
        "go through it too, as turns of user and assistant"),
    TEXT("prepare.date", prepare.date, "", "prepare", NULL,
         "day that templates write which ask for one (2026-11-30); not set: today"),
    CHOICE("prepare.train_turns", prepare.train_turns, "all", "all|last", "prepare", "prepare.hindsight=none",
           "\"messages\": which turns of the assistant are trained"),
    CHOICE("prepare.hindsight", prepare.hindsight, "none", "none|chain|conditional", "prepare", NULL,
           "for sft, answers behind words that say how good they are: chain (Chain of Hindsight: of a pair "
           "one text with "
           "one or both answers), conditional (both answers, a text each)"),
    TEXT("prepare.good_marker", prepare.good_marker, " A good answer:", "prepare",
         "prepare.hindsight=chain|conditional", "words before a good answer; a prompt alone ends with them"),
    TEXT("prepare.bad_marker", prepare.bad_marker, " A bad answer:", "prepare",
         "prepare.hindsight=chain|conditional", "words before a bad one"),
    BOOL("prepare.token_chars", prepare.token_chars, "true", "prepare", NULL,
         "store characters per token, for truncate.unit chars"),
    INT("prepare.limit", prepare.limit, "0", 0, MOST, "records", "prepare", NULL, "read at most; 0: all"),
    NUMBER("prepare.min_score_ratio", prepare.min_score_ratio, "1.5", 1, 1e12, "", "prepare", "@" LEARNT_SHP,
           "SHP: records whose higher score is less than so many times the lower one are dropped"),
    INT("prepare.max_length", prepare.max_length, "0", 0, 1 << 30, "tokens", "prepare", "@" LEARNT_SHP,
        "SHP: pairs with a longer prompt + response are dropped; 0: none"),
    INT("prepare.max_pairs_per_post", prepare.max_pairs_per_post, "0", 0, 4096, "pairs", "prepare",
        "@" LEARNT_SHP, "SHP: the first pairs of a post that the filters leave; 0: all"),
    TEXT("tokenize.begin", tokenize.begin, "auto", "prepare", NULL,
         "beginning token before each prompt: true, false, auto (what the tokenizer's configuration says; "
         "the text alone where a chat template makes it)"),
    CHOICE("tokenize.end", tokenize.end, "auto", "auto|true|false", "prepare", NULL,
           "end token after each response; auto: yes, but the text alone where a chat template makes it"),
    CHOICE(
        "tokenize.special_in_content", tokenize.special_in_content, "keep", "keep|text", "prepare", NULL,
        "special tokens that users wrote in messages, where a chat template makes the text: kept as tokens "
        "(as transformers does), or taken as text"),

    TEXT("init.config", init.config, "", "init", NULL, "config.json, or a model folder that has one"),
    CHOICE("save.dtype", save.dtype, "auto", "auto|fp32|bf16|fp16", TRAINERS " init merge", NULL,
           "type of the weights that are written; auto: what most weights of the model that was read have "
           "(init: fp32); training itself is in fp32"),

    INT("truncate.max_length", truncate.max_length, "0", 0, 1 << 30, "tokens", ROW_READERS, "evaluate:model",
        "prompt + response at most; 0: no limit"),
    INT("truncate.max_prompt", truncate.max_prompt, "0", 0, 1 << 30, "tokens", ROW_READERS,
        "truncate.max_length&truncate.keep=end|start&evaluate:model",
        "what an over-long row's prompt is cut to; 0: half of max_length"),
    CHOICE("truncate.keep", truncate.keep, "end", "end|start|row_start|whole", ROW_READERS,
           "truncate.max_length&evaluate:model",
           "what stays of an over-long row: its prompt's end or start; row_start: prompt + response from the "
           "start, without an end token, and no row whose prompt fills max_length (TRL's "
           "truncation_mode=keep_start); whole: no over-long row at all (TRL's reward trainer)"),
    NUMBER("truncate.ratio", truncate.ratio, "1", 0, 1, "", "sft dpo reward score evaluate", "evaluate:model",
           "share of each response that stays, from its start"),
    CHOICE("truncate.unit", truncate.unit, "tokens", "tokens|chars", "sft dpo reward score evaluate",
           "truncate.ratio&evaluate:model", "what the ratio counts"),
    INT("truncate.max_response", truncate.max_response, "0", 0, 1 << 30, "tokens",
        "sft dpo reward score evaluate", "evaluate:model", "response tokens at most; 0: no limit"),
    BOOL("truncate.end_after_cut", truncate.end_after_cut, "true", "sft dpo reward score evaluate",
         "truncate.max_length,truncate.max_response,truncate.ratio&evaluate:model",
         "put the end token back after a cut"),

    INT("train.steps", train.steps, "0", 0, MOST, "updates", TRAINERS, NULL, "updates; 0: by epochs", FREE),
    INT("train.epochs", train.epochs, "1", 1, 1 << 20, "passes", TRAINERS, "!train.steps",
        "passes over the data, where train.steps is 0", FREE),
    INT("train.batch", train.batch, "64", 1, 1 << 24, "rows", TRAINERS " bench", "bench:bench.kind=step",
        "rows (pairs or sequences) in an update, over all ranks"),
    INT("train.slots", train.slots, "8", 1, 1 << 20, "slots", TRAINERS " bench", "bench:bench.kind=step",
        "slots that an update is cut into; at least the rank count"),
    INT("train.micro_tokens", train.micro_tokens, "4096", 1, 1 << 26, "tokens", MODEL_USERS " bench",
        "evaluate:model&bench:bench.kind=step", "tokens in a forest at most (one row may be longer)"),
    CHOICE("train.optimizer", train.optimizer, "adamw", "sgd|rmsprop|adam|adamw", TRAINERS " bench",
           "bench:bench.kind=step", "optimizer"),
    NUMBER("train.learning_rate", train.learning_rate, "1e-6", 0, 1e3, "", TRAINERS, NULL,
           "peak learning rate"),
    NUMBER("train.beta1", train.beta1, "0.9", 0, 0.999999999, "", TRAINERS, "train.optimizer=adam|adamw",
           "first moment"),
    NUMBER("train.beta2", train.beta2, "0.999", 0, 0.999999999, "", TRAINERS, "train.optimizer=adam|adamw",
           "second moment"),
    NUMBER("train.epsilon", train.epsilon, "1e-8", 0, 1, "", TRAINERS, "train.optimizer=rmsprop|adam|adamw",
           "added to the root"),
    NUMBER("train.weight_decay", train.weight_decay, "0", 0, 10, "", TRAINERS, NULL,
           "decoupled for adamw, L2 otherwise; on matrices only"),
    NUMBER("train.momentum", train.momentum, "0", 0, 0.999999999, "", TRAINERS, "train.optimizer=sgd|rmsprop",
           "momentum"),
    NUMBER("train.alpha", train.alpha, "0.99", 0, 0.999999999, "", TRAINERS, "train.optimizer=rmsprop",
           "smoothing"),
    NUMBER("train.clip", train.clip, "1", 0, 1e9, "", TRAINERS, NULL,
           "global gradient norm at most; 0: no clipping"),
    CHOICE("train.schedule", train.schedule, "constant", "constant|linear|cosine|constant_with_warmup",
           TRAINERS, NULL,
           "learning rate schedule; warm-up begins at 0 as in transformers, but constant's at 1 / "
           "(warmup_steps + 1)"),
    INT("train.warmup_steps", train.warmup_steps, "0", 0, MOST, "updates", TRAINERS, NULL, "of the schedule"),
    BOOL("train.shuffle", train.shuffle, "true", TRAINERS, NULL, "a new order of rows each epoch"),
    BOOL("train.deterministic", train.deterministic, "false", TRAINERS " bench", "bench:bench.kind=step|ops",
         "the same bits for any power-of-two rank count that divides train.slots"),
    BOOL("train.shard_optimizer", train.shard_optimizer, "false", TRAINERS " bench", "bench:bench.kind=step",
         "each rank holds the optimizer state of its shares of the parameters only (ZeRO stage 1)", ROUNDS),
    CHOICE("train.recompute", train.recompute, "none", "none|layers", TRAINERS " bench",
           "bench:bench.kind=step", "layers: keep layer inputs only and recompute activations in backward",
           ROUNDS),
    CHOICE("train.communication", train.communication, "auto", "auto|staged|mpi|nccl", TRAINERS " bench",
           "bench:bench.kind=step",
           "how ranks sum the gradients of a device: staged through host memory, mpi on device memory, nccl; "
           "auto: what a measurement at the start finds fastest",
           ROUNDS),
    INT("train.bucket_bytes", train.bucket_bytes, "4194304", 1024, 1 << 30, "bytes", TRAINERS " bench",
        "bench:bench.kind=step|comm", "gradients leave in buckets of about this size", ROUNDS),
    INT("train.checkpoint_every", train.checkpoint_every, "0", 0, MOST, "updates", TRAINERS, NULL,
        "0: only at the end", FREE),
    INT("train.checkpoint_keep", train.checkpoint_keep, "2", 1, 1000000, "files", TRAINERS " few-shot",
        "few-shot:!model&few-shot:few_shot.checkpoint_every!=0", "newest checkpoints kept", FREE),
    INT("train.evaluate_every", train.evaluate_every, "0", 0, MOST, "updates", TRAINERS, "eval_data",
        "0: before the first and after the last update", FREE),
    BOOL("train.profile", train.profile, "false", TRAINERS, NULL,
         "time by operation and by collective, at the end and in metrics.jsonl", FREE),
    BOOL("train.tensorboard", train.tensorboard, "false", TRAINERS " few-shot", "few-shot:!model",
         "the numbers of metrics.jsonl also as event files in the run folder's tensorboard/", FREE),
    TEXT(
        "train.stop_before", train.stop_before, "", TRAINERS, NULL,
        "checkpoint in time and end with code 85: a duration (9000, 2h30m) or a time (2026-11-21T08:00:00Z); "
        "SLURM_JOB_END_TIME counts too, the earlier of both",
        FREE),
    CHOICE("train.resume", train.resume, "auto", "auto|never|must", TRAINERS " few-shot", "few-shot:!model",
           "auto: go on if the run folder holds a checkpoint", PLACE),

    INT("lora.rank", lora.rank, "0", 0, 65536, "", TRAINERS, "!adapter",
        "of low-rank adapters, trained in the place of the model, which is frozen; 0: none"),
    NUMBER("lora.alpha", lora.alpha, "0", 0, 1e6, "", TRAINERS, "lora.rank",
           "adapters are scaled by alpha / rank; 0: by 1"),
    NUMBER("lora.dropout", lora.dropout, "0", 0, 0.99, "", TRAINERS, "lora.rank",
           "share of the adapters' inputs that is dropped in training"),
    TEXT("lora.targets", lora.targets, "auto", TRAINERS, "lora.rank",
         "modules that get adapters: names with commas between them, all-linear (all but the head), or auto: "
         "those that PEFT takes for the family"),
    BOOL("lora.rslora", lora.rslora, "false", TRAINERS, "lora.rank", "scaled by alpha / sqrt(rank) instead"),
    CHOICE("lora.init", lora.init, "uniform", "uniform|gaussian", TRAINERS, "lora.rank",
           "first values of A: uniform in +-1 / sqrt(inputs), or normal with deviation 1 / rank; B is 0"),

    CHOICE("sft.loss", sft.loss, "token_mean", "token_mean|sequence_sum", "sft", NULL,
           "mean over the batch's tokens, or sum per sequence and mean over sequences"),
    TEXT("dpo.loss", dpo.loss, "sigmoid", "dpo evaluate", "evaluate:model&evaluate:@" LEARNT_LANGUAGE_MODEL,
         "sigmoid, ipo, ipo_sum, hinge, robust, apo_zero, apo_down, sigmoid_norm, exo_pair, nca_pair, "
         "bco_pair, sppo_hard, discopop, bco, beta_dpo, aot, aot_unpaired, tdpo1, tdpo2; without a reference "
         "slic, cpo, "
         "simpo, orpo; on a "
         "prompt's scored responses bt_list, without a reference rrhf, pro; on labelled responses kto, "
         "apo_zero_unpaired; sums of them with weights; \"+ "
         "w*sft\" adds the chosen's token-mean loss, which may stand alone"),
    NUMBER("dpo.beta", dpo.beta, "0.1", 1e-12, 1e6, "", "dpo score evaluate",
           "evaluate:model&dpo:@" LEARNT_TAKES_BETA "&evaluate:reference,dpo.loss&score:reference",
           "strength of the reference; without one the factor of what a loss compares"),
    NUMBER("dpo.label_smoothing", dpo.label_smoothing, "0", 0, 0.5, "", "dpo evaluate",
           "evaluate:model&evaluate:reference,dpo.loss",
           "probability that a label is wrong; read by sigmoid, robust, exo_pair, cpo, simpo, aot, "
           "aot_unpaired"),
    BOOL("dpo.reference_free", dpo.reference_free, "false", "dpo", "@" LEARNT_READS_REFERENCE,
         "reference log-ratio replaced by 0 in the loss; rewards are shown against the model as it was at "
         "the start"),
    NUMBER("dpo.margin", dpo.margin, "1", 0, 1e6, "", "dpo evaluate",
           "evaluate:model&evaluate:@" LEARNT_LANGUAGE_MODEL,
           "by how much slic wants the chosen's log-probability above the rejected's"),
    NUMBER("dpo.gamma", dpo.gamma, "0.5", 0, 1e6, "", "dpo evaluate",
           "evaluate:model&evaluate:@" LEARNT_LANGUAGE_MODEL,
           "by how much simpo wants beta times the mean log-probabilities apart"),
    NUMBER("dpo.tau", dpo.tau, "0.05", 1e-6, 1, "", "dpo evaluate", "evaluate:model&evaluate:reference",
           "of discopop: the smaller, the sharper it turns from the logistic to the exponential loss"),
    NUMBER("dpo.beta_scale", dpo.beta_scale, "0.6", 0, 1e6, "", "dpo evaluate",
           "evaluate:model&evaluate:reference",
           "of beta_dpo: how far a pair's beta follows its log-ratio's distance from the batch's mean"),
    NUMBER("dpo.tdpo_alpha", dpo.tdpo_alpha, "0.5", 0, 1e6, "", "dpo", NULL,
           "of tdpo2: how much the difference of the responses' divergences counts"),
    NUMBER("dpo.desirable_weight", dpo.desirable_weight, "1", 0, 1e6, "", "dpo", NULL,
           "of desirable responses in kto and apo_zero_unpaired"),
    NUMBER("dpo.undesirable_weight", dpo.undesirable_weight, "1", 0, 1e6, "", "dpo", NULL, "of the others"),
    BOOL("dpo.weighting", dpo.weighting, "false", "dpo evaluate", "evaluate:model&evaluate:reference",
         "a pair counts by how likely the policy is to write both responses (WPO), in losses of a pair that "
         "read a "
         "reference"),
    TEXT("dpo.divergence", dpo.divergence, "reverse_kl", "dpo evaluate", "evaluate:model&evaluate:reference",
         "from the reference, in losses of the log-ratios' difference: reverse_kl, forward_kl, js, "
         "alpha:NUMBER"),
    NUMBER("dpo.ld_alpha", dpo.ld_alpha, "1", 0, 1, "", "dpo evaluate", "evaluate:model&evaluate:reference",
           "weight of the tokens past the length of the pair's shorter response (LD-DPO), in losses that "
           "read a reference"),
    BOOL("dpo.sync_reference", dpo.sync_reference, "false", "dpo",
         "@" LEARNT_READS_REFERENCE "&!dpo.reference_free",
         "the reference follows the policy (TR-DPO): a second model in memory, whose scores are computed for "
         "every "
         "batch; no side-car is read or written"),
    NUMBER("dpo.reference_mixup_alpha", dpo.reference_mixup_alpha, "0.6", 1e-12, 1, "", "dpo",
           "dpo.sync_reference", "share of the policy in an update of the reference; 1: a copy"),
    INT("dpo.reference_sync_steps", dpo.reference_sync_steps, "512", 1, MOST, "steps", "dpo",
        "dpo.sync_reference", "between updates of the reference"),
    TEXT("dpo.reference_file", dpo.reference_file, "", "dpo evaluate",
         "evaluate:model&dpo:@" LEARNT_READS_REFERENCE
         "&!dpo.reference_free&evaluate:reference&!dpo.sync_reference",
         "side-car of reference scores; where not set: beside the data", PLACE),

    BOOL("reward.margin", reward.margin, "true", "reward evaluate",
         "evaluate:model&evaluate:@" LEARNT_REWARD_MODEL,
         "the data's margin is subtracted from the difference of a pair's rewards, where it has one"),
    NUMBER("reward.centering", reward.centering, "0", 0, 1e6, "", "reward evaluate",
           "evaluate:model&evaluate:@" LEARNT_REWARD_MODEL,
           "weight of the mean squared sum of a pair's rewards, which keeps rewards near 0; 0.01 is usual"),

    BOOL("score.per_token", score.per_token, "false", "score", NULL, "adds token_logps"),

    CHOICE("embed.pooling", embed.pooling, "mean", "mean|last", "embed dpo", "dpo:@" LEARNT_LOOKS,
           "mean of the hidden rows over the text's tokens, or the last row"),
    CHOICE("embed.text", embed.text, "response", "response|full", "embed dpo", "dpo:@" LEARNT_LOOKS,
           "the response alone, or prompt + response (an over-long prompt loses its start)"),
    INT("embed.layer", embed.layer, "-1", -1, 1024, "", "embed dpo", "dpo:@" LEARNT_LOOKS,
        "-1: the final norm's output; l: the input of layer l"),
    INT("embed.max_length", embed.max_length, "512", 1, 1 << 30, "tokens", "embed dpo", "dpo:@" LEARNT_LOOKS,
        "of a text at most, from its start; where not set, no more than the model has positions"),
    BOOL("embed.end", embed.end, "false", "embed dpo", "dpo:@" LEARNT_LOOKS,
         "the end token is part of the text"),
    BOOL("embed.begin", embed.begin, "false", "embed dpo", "embed.text=response&dpo:@" LEARNT_LOOKS,
         "a beginning token in front of the response"),
    BOOL("embed.masked_end", embed.masked_end, "false", "embed dpo", "embed.pooling=last&dpo:@" LEARNT_LOOKS,
         "the row of an end token that does not see its own key"),

    TEXT("select.strategy", select.strategy, "", "select dpo", NULL,
         "random, easy, hard; over pairs also balanced; over prompts also centroid; or a mix: "
         "easy:0.5,random:0.5"),
    NUMBER("select.fraction", select.fraction, "0.5", 0, 1, "", "select dpo", "select.strategy&!select.count",
           "of the pairs that is selected; over prompts: of the prompts, as select.count takes them, all "
           "where not "
           "set"),
    INT("select.count", select.count, "0", 0, MOST, "pairs", "select dpo", "select.strategy",
        "pairs selected, instead of a fraction; 0: by the fraction. Over prompts those that tell most: easy, "
        "the "
        "least similar; hard, the most similar; centroid, clusters farthest apart; random, at random"),
    CHOICE(
        "select.scope", select.scope, "auto", "auto|pairs|prompts", "select dpo", "select.strategy",
        "among the file's pairs, or one new pair among each prompt's responses; auto: prompts where one has "
        "more than two responses"),
    TEXT("select.model", select.model, "", "dpo", "select.strategy",
         "folder of the model that embeds; where not set: model"),
    INT("select.clusters", select.clusters, "0", 0, 1 << 20, "clusters", "select dpo",
        "select.strategy=balanced", "0: the root of half the pairs"),
    CHOICE("select.seeding", select.seeding, "parallel", "parallel|plus_plus|random", "select dpo",
           "select.strategy=balanced", "first centers: k-means||, k-means++, or random rows"),
    TEXT("select.compare", select.compare, "", "select", "select.strategy",
         "other views of the same data, comma separated: how many pairs they share with this one"),
    TEXT("select.export", select.export, "", "select", "select.strategy",
         "JSON Lines for annotators: id, prompt, response_a, response_b (which is a is drawn), similarity, "
         "cluster",
         PLACE),
    TEXT("select.exclude", select.exclude, "", "select", "select.strategy",
         "pairs asked before are left out: exports, answers or views, comma separated"),
    TEXT("select.answers", select.answers, "", "select", "!select.strategy",
         "instead of a strategy: JSON Lines {\"id\", \"preference\": a|b|tie, \"annotator\"}, comma "
         "separated, "
         "that become a view of labeled pairs"),
    TEXT("select.report", select.report, "", "select", "select.strategy,select.answers",
         "JSON report; where not set: beside the output"),

    CHOICE("few_shot.model", few_shot.model, "np", "btl|dpl|np", "few-shot", NULL,
           "btl: Bradley-Terry; dpl: a normal distribution of rewards; np: Bradley-Terry given a context"),
    INT("few_shot.hidden", few_shot.hidden, "256", 1, 65536, "units", "few-shot", NULL, "of every layer"),
    INT("few_shot.heads", few_shot.heads, "8", 1, 65536, "heads", "few-shot",
        "few_shot.model=np&few_shot.aggregate=attention", "of the context's attention"),
    CHOICE("few_shot.aggregate", few_shot.aggregate, "attention", "attention|mean|sum", "few-shot",
           "few_shot.model=np", "how the context's pairs become one vector"),
    CHOICE("few_shot.inner", few_shot.inner, "auto", "auto|linear|mlp", "few-shot", "few_shot.model=np",
           "encoder of a context pair; auto: linear for embeddings, mlp for the world of two users"),
    BOOL("few_shot.latent", few_shot.latent, "false", "few-shot", "few_shot.model=np",
         "the context gives a distribution that z is drawn from"),
    INT("few_shot.samples", few_shot.samples, "1", 1, 1024, "draws", "few-shot", "few_shot.latent",
        "of z in training"),
    INT("few_shot.eval_samples", few_shot.eval_samples, "8", 1, 1024, "draws", "few-shot", "few_shot.latent",
        "of z in evaluation", FREE),
    NUMBER("few_shot.beta_kl", few_shot.beta_kl, "0.001", 0, 1e6, "", "few-shot", "!model&few_shot.latent",
           "weight of the divergence between z given the context and z given all targets; 0: left out"),
    CHOICE("few_shot.objective", few_shot.objective, "code", "code|elbo", "few-shot",
           "!model&few_shot.latent",
           "code: z given the context, KL(context || targets); elbo: z given the targets, KL(targets || "
           "context)"),
    NUMBER("few_shot.dropout", few_shot.dropout, "0.1", 0, 0.99, "", "few-shot",
           "!model&few_shot.model=np&few_shot.aggregate=attention", "of attention weights in training"),
    INT("few_shot.batch", few_shot.batch, "64", 1, 1 << 20, "users", "few-shot", NULL, "in an update"),
    INT("few_shot.targets", few_shot.targets, "20", 1, 65536, "pairs", "few-shot", NULL, "of a user"),
    INT("few_shot.context_min", few_shot.context_min, "0", 0, 65536, "pairs", "few-shot", "few_shot.model=np",
        "of a user's pairs that are context, at least"),
    INT("few_shot.context_max", few_shot.context_max, "10", 0, 65536, "pairs", "few-shot",
        "few_shot.model=np", "at most"),
    INT("few_shot.steps", few_shot.steps, "0", 0, MOST, "updates", "few-shot", "!model", "0: by passes",
        FREE),
    INT("few_shot.passes", few_shot.passes, "4", 1, 1 << 20, "passes", "few-shot", "!model&!few_shot.steps",
        "as many users as the training split has pairs, each", FREE),
    NUMBER("few_shot.learning_rate", few_shot.learning_rate, "1e-4", 0, 1e3, "", "few-shot", "!model",
           "of Adam, constant"),
    NUMBER("few_shot.epsilon", few_shot.epsilon, "3e-5", 0, 1, "", "few-shot", "!model", "added to the root"),
    NUMBER("few_shot.weight_decay", few_shot.weight_decay, "0", 0, 10, "", "few-shot", "!model", "decoupled"),
    INT("few_shot.task_seed", few_shot.task_seed, "42", 0, MOST, "", "few-shot", NULL,
        "of the sequence of users"),
    NUMBER("few_shot.holdout", few_shot.holdout, "0.1", 0, 1, "", "few-shot", "data",
           "share of the prompts that are the test split"),
    INT("few_shot.norm_batches", few_shot.norm_batches, "0", 0, 1e6, "batches", "few-shot", NULL,
        "that batch norm's statistics are averaged over after training, contexts of each size by turns: "
        "accuracies scatter less; 0: the moving averages of the last ten updates or so, as published",
        FREE),
    INT("few_shot.checkpoint_every", few_shot.checkpoint_every, "500", 0, MOST, "updates", "few-shot",
        "!model", "a killed run goes on from the last one; 0: none", FREE),
    INT("few_shot.world_rows", few_shot.world_rows, "20000", 1, 1 << 30, "pairs", "few-shot", "!data",
        "of the world of two users, where data is not set"),
    INT("few_shot.world_seed", few_shot.world_seed, "0", 0, 4294967295.0, "", "few-shot", "!data",
        "likewise"),

    INT("evaluate.rows", evaluate.rows, "0", 0, MOST, "rows", TRAINERS " evaluate merge", "eval_data",
        "first rows only; 0: all", FREE),
    INT("evaluate.bootstrap", evaluate.bootstrap, "1000", 0, 1000000, "samples", "evaluate judge", NULL,
        "resamples for confidence intervals"),
    NUMBER("evaluate.confidence", evaluate.confidence, "0.95", 0.5, 0.9999, "", "evaluate judge",
           "evaluate.bootstrap!=0", "of the intervals"),
    NUMBER("evaluate.label_margin", evaluate.label_margin, "0", 0, 1e12, "", "evaluate",
           "evaluate:model&evaluate:@" LEARNT_REWARD_MODEL,
           "labels that a reward model saves: the share of pairs whose rewards differ by less, for "
           "annotators, and how "
           "far it agrees with the labels of the others; 0: not said"),
    INT("evaluate.kl_positions", evaluate.kl_positions, "0", 0, 512, "tokens", "evaluate", "reference",
        "of a response, at each of which the mean KL(model || reference) is shown; 0: none"),
    INT("evaluate.kl_samples", evaluate.kl_samples, "0", 0, 4096, "responses", "evaluate",
        "evaluate.kl_positions",
        "drawn from the model for each prompt at temperature 1, for the same along what it says itself"),

    TEXT("judge.annotations", judge.annotations, "", "judge", NULL,
         "verdicts: AlpacaEval's annotations.json, or records {row, a, b, preference} with a, b names of "
         "systems and the preference a, b, tie or 0 to 1 for b",
         PLACE),
    TEXT("judge.answers", judge.answers, "", "judge", "!judge.annotations",
         "two or more files of answers with rewards (generate with reward_model), comma separated; the "
         "higher reward wins",
         PLACE),
    TEXT("judge.gamed", judge.gamed, "", "judge", "judge.annotations",
         "AlpacaEval's df_gamed.csv: difficulties of its instructions, and two baselines, for the "
         "length-controlled win rate",
         PLACE),
    NUMBER("judge.sensitivity", judge.sensitivity, "1", 0, 1, "", "judge", NULL,
           "how often the judge prefers b where b is better; with specificity: corrected_win_rate"),
    NUMBER("judge.specificity", judge.specificity, "1", 0, 1, "", "judge", NULL,
           "how often it prefers a where a is better"),

    INT("generate.max_new_tokens", generate.max_new_tokens, "128", 1, 1 << 24, "tokens", "generate", NULL,
        "at most"),
    NUMBER("generate.temperature", generate.temperature, "0", 0, 1000, "", "generate", NULL, "0: greedy"),
    INT("generate.top_k", generate.top_k, "0", 0, 1 << 30, "tokens", "generate", "generate.temperature",
        "sample among the k most likely; 0: all"),
    NUMBER("generate.top_p", generate.top_p, "1", 0, 1, "", "generate", "generate.temperature",
           "sample among the fewest that hold this share"),
    NUMBER("generate.min_p", generate.min_p, "0", 0, 1, "", "generate", "generate.temperature",
           "sample among those at least this share as likely as the likeliest; 0: all"),
    NUMBER("generate.repetition_penalty", generate.repetition_penalty, "1", 0.01, 100, "", "generate", NULL,
           "logits of tokens that prompt or response hold already are divided by it where positive, else "
           "multiplied; 1: none"),
    CHOICE(
        "generate.rule", generate.rule, "none", "none|mix|length_control|kl_threshold|proxy", "generate",
        NULL,
        "what is drawn from: the model; reference + mix * (model - reference); the model for the first "
        "generate.tokens tokens and then the reference; the model where KL(model, reference) is above "
        "generate.threshold, else mix * model + (1 - mix) * reference; model + mix * (expert - antiexpert)"),
    TEXT("generate.mix", generate.mix, "", "generate", "generate.rule=mix|kl_threshold|proxy",
         "the rule's weight on logits, or several, comma separated: all responses for each; where not set 1, "
         "and 0 with kl_threshold (there 0.5 is the published one)"),
    TEXT("generate.tokens", generate.tokens, "", "generate", "generate.rule=length_control",
         "of a response that the model says, or several numbers, comma separated"),
    TEXT("generate.threshold", generate.threshold, "", "generate", "generate.rule=kl_threshold",
         "nats, or several, comma separated"),
    TEXT("generate.reference", generate.reference, "", "generate", NULL,
         "model folder, or of adapters on model: the rules' second voice, and what every response's KL is "
         "against; model's own: the base without adapter"),
    TEXT("generate.expert", generate.expert, "", "generate", "generate.rule=proxy", "model folder"),
    TEXT("generate.antiexpert", generate.antiexpert, "", "generate", "generate.rule=proxy", "model folder"),
    INT("generate.samples", generate.samples, "1", 1, 65536, "responses", "generate", "generate.temperature",
        "drawn for each prompt, which is computed once"),
    INT("generate.best_of", generate.best_of, "0", 0, 65536, "responses", "generate",
        "generate.temperature&reward_model&!generate.samples",
        "drawn for each prompt, of which the one with the highest reward is written; 0: all are"),
    TEXT("generate.stop", generate.stop, "", "generate", NULL,
         "text that ends a response and is left out of its text, or a JSON list of such"),
    BOOL("generate.per_token", generate.per_token, "false", "generate", NULL,
         "lists token_logp, and with a reference token_reference_logp and token_kl, beside the sums"),
    TEXT("generate.save", generate.save, "", "generate", NULL,
         "preference file of what was drawn: ids as drawn, rewards as scores, and with these a pair for any "
         "two responses of a prompt whose rewards differ",
         PLACE),
    TEXT("generate.report", generate.report, "", "generate", NULL,
         "JSON Lines file: for each value of the rule's parameters the means of KL and reward", PLACE),
    INT("generate.batch", generate.batch, "16", 1, 65536, "responses", "generate", NULL,
        "decoded together on a rank"),
    INT("generate.limit", generate.limit, "0", 0, MOST, "prompts", "generate", NULL,
        "first prompts only; 0: all"),
    BOOL("generate.stop_at_end", generate.stop_at_end, "true", "generate", NULL,
         "stop at the end tokens of generation_config.json"),

    CHOICE("synth.kind", synth.kind, "text", "pairs|text", "synth", NULL,
           "pairs: two conflicting users on [0,1]; text: preferences by a hidden rule"),
    INT("synth.rows", synth.rows, "20000", 1, 1 << 30, "pairs", "synth", NULL, "records written"),
    INT("synth.responses", synth.responses, "2", 2, 64, "responses", "synth", "synth.kind=text",
        "per prompt; above 2: scored lists"),
    CHOICE("synth.rule", synth.rule, "early", "early|late|style", "synth", "synth.kind=text",
           "what decides: early tokens, late tokens, or style throughout"),
    NUMBER("synth.noise", synth.noise, "0", 0, 0.5, "", "synth", "synth.kind=text",
           "share of labels flipped"),
    NUMBER("synth.noise_similarity", synth.noise_similarity, "0", 0, 1, "", "synth", "synth.kind=text",
           "how much more the labels of similar responses flip"),
    NUMBER("synth.noise_full_at", synth.noise_full_at, "1", 0.01, 1, "", "synth",
           "synth.kind=text&synth.noise_similarity",
           "similarity from which on they flip as much as noise_similarity lets them"),
    INT("synth.length", synth.length, "12", 2, 4096, "words", "synth", "synth.kind=text",
        "of a response, about"),

    INT("inspect.rows", inspect.rows, "0", 0, MOST, "rows", "inspect", NULL,
        "preference files: the first rows as text (with tokenizer=FOLDER where the one that the file names "
        "is "
        "not there)"),
    TEXT("inspect.against", inspect.against, "", "inspect", NULL,
         "another side-car of the same data: how far the embeddings in input have moved from it (L2 and "
         "cosine, mean and quantiles)"),
    TEXT("inspect.report", inspect.report, "", "inspect", "inspect.against",
         "JSON Lines file: the drift of each input as an object"),
    CHOICE("preflight.command", preflight.command, "auto", "auto|sft|dpo|reward", "preflight", NULL,
           "the command that is to be run with this configuration; auto: the one that alone takes a key that "
           "is set"),
    INT("preflight.sample", preflight.sample, "2000", 0, MOST, "rows", "preflight", NULL,
        "rows whose text is put together again and tokenized in one piece, at most"),

    CHOICE("bench.kind", bench.kind, "step", "ops|comm|step|kmeans|decode", "bench", NULL,
           "kernels, collectives, training steps, a balanced selection of synthetic rows, or decoding"),
    INT("bench.repeats", bench.repeats, "20", 1, 1000000, "", "bench", "bench.kind=ops|comm|step|decode",
        "measured repetitions after warm-up"),
    INT("bench.tokens", bench.tokens, "512", 1, 1 << 24, "tokens", "bench", "bench.kind=step|ops|decode",
        "in a pair, or in a prompt"),
    CHOICE("bench.collective", bench.collective, "all",
           "all|allreduce|count|max|tree|buckets|broadcast|allgather|alltoall", "bench", "bench.kind=comm",
           "which of the collectives"),
    INT("bench.largest", bench.largest, "67108864", 1024, 1 << 30, "bytes", "bench", "bench.kind=comm",
        "largest message"),
    INT("bench.rows", bench.rows, "1000000", 1, 1 << 30, "rows", "bench", "bench.kind=kmeans", "clustered"),
    INT("bench.width", bench.width, "256", 1, 1 << 20, "", "bench", "bench.kind=kmeans", "of a row"),
    INT("bench.clusters", bench.clusters, "256", 1, 1 << 20, "clusters", "bench", "bench.kind=kmeans",
        "of k-means"),
    INT("bench.iterations", bench.iterations, "10", 1, 1 << 20, "iterations", "bench", "bench.kind=kmeans",
        "at most; fewer where no row moves any more"),
    INT("bench.memory_mib", bench.memory_mib, "2048", 1, 1 << 30, "MiB", "bench", "bench.kind=kmeans",
        "rows are kept in memory where a rank's fit in so much, read from a file in each iteration "
        "otherwise"),
};

const struct option *settings_table(int *count) {
    *count = COUNT_OF(table);
    return table;
}

const char *settings_compute(const struct settings *settings) {
    return settings->compute == COMPUTE_BF16 ? "bf16" : settings->compute == COMPUTE_TF32 ? "tf32" : "fp32";
}

const char *settings_attention(const struct settings *settings) {
    static const char *const names[] = {"auto", "own", "cudnn"};
    return names[settings->cuda.attention];
}
