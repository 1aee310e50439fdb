#include "command/settings.h"

#include "backend/backend.h"

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

#define READING_TRAINERS "sft dpo reward"
#define TRAINERS READING_TRAINERS " online"
#define MODEL_USERS "sft dpo reward online score evaluate generate embed merge"
#define RUNNERS MODEL_USERS " judge"
#define WRITERS                                                                                        \
    "prepare init sft dpo reward online merge score generate evaluate judge synth bench embed select " \
    "few-shot"
#define ROW_READERS "sft dpo reward online score evaluate generate merge"

/* How a run goes on with another value; where nothing is said: not at all. */
#define FREE .resume = RESUME_FREE
#define ROUNDS .resume = RESUME_ROUNDING
#define PLACE .resume = RESUME_ANY

#define MOST 9.0e15 /* integers above 2^53 do not survive a double */

/* The rows of a group of keys are in keys/GROUP.inc, in the order in which --help shows them. */
static const struct option table[] = {
    TEXT("input", input, "", "prepare inspect", NULL, "file or files read, comma separated"),
    TEXT("output", output, "", WRITERS, NULL,
         "file or run folder written; score, evaluate, generate and judge write to standard output where it "
         "is not "
         "set, embed beside the data",
         PLACE),
    BOOL("overwrite", overwrite, "false", WRITERS " inspect", NULL,
         "output may replace what is no earlier result of the same command; never an input", PLACE),
    TEXT(
        "data", data, "", ROW_READERS " embed select few-shot judge", "judge:model",
        "preference file (from prepare) or a view of one; few-shot: several, one a user or objective; judge: "
        "what was answered, where the files of answers do not hold the prompts",
        PLACE),
    CHOICE("split", split, "all", "all|train|validation|test", ROW_READERS " embed select few-shot inspect",
           "few-shot:data&select:!select.answers&inspect:inspect.rows",
           "which of the splits of data's pairs is read (prepare.objectives deals them); few-shot trains on "
           "train and evaluates on this one, all: on test; inspect: of which rows are shown"),
    CHOICE("eval_split", eval_split, "all", "all|train|validation|test", READING_TRAINERS, "eval_data",
           "likewise, of eval_data", FREE),
    TEXT("eval_data", eval_data, "", READING_TRAINERS, NULL, "preference file evaluated during training",
         FREE),
    TEXT("model", model, "", RUNNERS " bench few-shot", "judge:judge.answers",
         "Hugging Face model folder, or a run's checkpoints/step-N.h5; bench: a folder or config.json; "
         "evaluate does without where it only compares labels with scores or truth; judge: the one that "
         "judges; "
         "few-shot: a finished "
         "run's "
         "folder, evaluated again without training",
         PLACE),
    TEXT("adapter", adapter, "", RUNNERS, "evaluate:model&judge:model",
         "folder of a PEFT adapter (LoRA) put on model; training goes on with it, beside a frozen base",
         PLACE),
    TEXT("reward_model", reward_model, "", "generate online", NULL,
         "folder of a reward model with the same tokenizer: each response gets its reward; online: or "
         "several, "
         "comma separated",
         PLACE),
    TEXT("reference", reference, "", "dpo online score evaluate",
         "evaluate:model&dpo:@" LEARNT_READS_REFERENCE
         "&!dpo.reference_free&online:@" LEARNT_ONLINE_REFERENCE,
         "reference model's folder; dpo, online: the model as it was at the start", PLACE),
    TEXT("reference.adapter", reference_adapter, "", "dpo online score evaluate",
         "evaluate:model&dpo:@" LEARNT_READS_REFERENCE
         "&!dpo.reference_free&score:reference&evaluate:reference&dpo:reference,lora.rank,adapter&online:"
         "@" LEARNT_ONLINE_REFERENCE "&online:reference,lora.rank,adapter",
         "PEFT adapter on the reference, or none; dpo with adapters and without `reference`: on the base, "
         "which is "
         "the reference alone where this is not set; an adapter that is trained further has to say",
         PLACE),
    TEXT("embeddings", embeddings, "", "select few-shot dpo evaluate",
         "few-shot:data&select:!select.answers&dpo:steer.layers&evaluate:@" LEARNT_USERS,
         "side-car from embed; random does without; dpo with steer.layers: of the responses that are users' "
         "choices, made by the same job where not set",
         PLACE),
    TEXT("tokenizer", tokenizer, "", "prepare init inspect select judge", "select:select.export&judge:data",
         "folder, tokenizer.json, or bytes; inspect, select, judge: where not set, what the data name"),
    BOOL("allow_other_tokenizer", allow_other_tokenizer, "false", MODEL_USERS, "evaluate:model",
         "take data that were tokenized with another tokenizer than the model's, and a reference or reward "
         "model that has another: ids mean other text to it",
         PLACE),
    BOOL("trust_data", trust_data, "false", ROW_READERS " embed select few-shot judge", "judge:data",
         "do not compare data with the hashes in their file, which reads all of it once", PLACE),
    TEXT("device", device, "auto", RUNNERS " bench", "evaluate:model&judge:model",
         "auto, cpu, cuda, check:cpu", PLACE),
    INT("device_ranks", device_ranks, "1", 1, 64, "ranks", RUNNERS " bench",
        "device=cuda&evaluate:model&judge:model",
        "ranks of a node that may share one CUDA device; a node's ranks are dealt over its devices"),
    INT("threads", threads, "0", 0, 4096, "threads", "*", NULL,
        "threads of a rank; 0: from the affinity mask", FREE),
    NUMBER("watchdog_s", watchdog_s, "60", 25, 1e6, "s", "*", NULL,
           "a rank without a sign of life, one that stands still, or ranks that all wait for each other, for "
           "so long, end all with code 75; training: also a step that takes longer (20 steps, where that is "
           "more)",
           FREE),
    INT("seed", seed, "0", 0, MOST, "", "*", NULL, "of all randomness"),
    CHOICE("compute", compute, "fp32", "fp32|bf16|tf32", RUNNERS " bench",
           "evaluate:model&judge:model&bench:bench.kind=step|ops|decode|attention",
           "type of activations and products (bf16 on the CPU: their type in memory; sums are fp32); tf32 "
           "(cuda): fp32 with products from 10-bit mantissas"),
    CHOICE("cpu.products", cpu.products, "auto", "auto|" PRODUCTS_FP32 "|" PRODUCTS_AVX512 "|" PRODUCTS_AMX,
           RUNNERS " bench",
           "device!=cuda&compute=bf16&evaluate:model&judge:model&"
           "bench:bench.kind=step|ops|decode|attention",
           "how the CPU multiplies bf16, in attention too: as fp32, by AVX512-BF16, or by AMX, in sums of "
           "fp32; auto: the first two as a measurement at the start finds one faster; with "
           "train.deterministic a processor that has several wants it by name",
           PLACE),
    CHOICE("cuda.attention", cuda.attention, "auto", "auto|own|cudnn", RUNNERS " bench",
           "device=cuda&evaluate:model&judge:model",
           "own kernels, or cuDNN's (compute=bf16; shapes that it does not have go to the own ones); auto: "
           "cuDNN where it is found"),

#include "command/keys/prepare.inc"
    TEXT("init.config", init.config, "", "init", NULL, "config.json, or a model folder that has one"),
    CHOICE("save.dtype", save.dtype, "auto", "auto|fp32|bf16|fp16", TRAINERS " init merge", NULL,
           "type of the weights that are written; auto: what most weights of the model that was read have "
           "(init: fp32); training itself is in fp32"),

#include "command/keys/train.inc"

#include "command/keys/dpo.inc"

#include "command/keys/online.inc"

#include "command/keys/steer.inc"

#include "command/keys/select.inc"

#include "command/keys/few_shot.inc"

#include "command/keys/evaluate.inc"

#include "command/keys/generate.inc"

#include "command/keys/synth.inc"
    INT("inspect.rows", inspect.rows, "0", 0, MOST, "rows", "inspect", NULL,
        "preference files: the first rows as text (with tokenizer=FOLDER where the one that the file names "
        "is "
        "not there)"),
    TEXT("inspect.against", inspect.against, "", "inspect", NULL,
         "another side-car of the same data: how far the embeddings in input have moved from it (L2 and "
         "cosine, mean and quantiles)"),
    TEXT("inspect.report", inspect.report, "", "inspect", "inspect.against",
         "JSON Lines file: the drift of each input as an object"),
    CHOICE("preflight.command", preflight.command, "auto", "auto|sft|dpo|reward|online", "preflight", NULL,
           "the command that is to be run with this configuration; auto: the one that alone takes a key that "
           "is set"),
    INT("preflight.sample", preflight.sample, "2000", 0, MOST, "rows", "preflight", NULL,
        "rows whose text is put together again and tokenized in one piece, at most"),

#include "command/keys/bench.inc"
};

const struct option *settings_table(int *count) {
    *count = COUNT_OF(table);
    return table;
}

const char *settings_compute(const struct settings *settings) {
    return settings->compute == COMPUTE_BF16 ? "bf16" : settings->compute == COMPUTE_TF32 ? "tf32" : "fp32";
}

const char *settings_products(const struct settings *settings) {
    static const char *const names[] = {"auto", PRODUCTS_FP32, PRODUCTS_AVX512, PRODUCTS_AMX};
    return names[settings->cpu.products];
}

const char *settings_attention(const struct settings *settings) {
    static const char *const names[] = {"auto", "own", "cudnn"};
    return names[settings->cuda.attention];
}
