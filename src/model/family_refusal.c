/* Models that are refused by name: what kind of model it is, so that nobody looks for a spelling mistake. */
#include <ctype.h>
#include <string.h>

#include "model/family.h"

#define EXPERTS "is a mixture of experts, which is not supported"
#define TWO_PARTS "has an encoder and a decoder; only decoders are supported"
#define SENSES "takes images or sound beside text, which is not supported"
#define RECURRENT "has recurrent or state-space layers, which are not supported"

/* model_type without its underlines; "=" before one: the whole name, else a part of it. The first that fits.
 */
static const struct {
    const char *name, *reason;
} refusals[] = {
    {"moe", EXPERTS},
    {"mixtral", EXPERTS},
    {"deepseek", EXPERTS},
    {"gptoss", EXPERTS},
    {"dbrx", EXPERTS},
    {"=arctic", EXPERTS},
    {"grok", EXPERTS},
    {"qwen3next", EXPERTS},
    {"minimax", EXPERTS},
    {"=dots1", EXPERTS},
    {"longcat", EXPERTS},
    {"kimik", EXPERTS},
    {"switchtransformers", EXPERTS},
    {"jamba", EXPERTS},
    {"llama4", EXPERTS},
    {"=t5", TWO_PARTS},
    {"=mt5", TWO_PARTS},
    {"=umt5", TWO_PARTS},
    {"=byt5", TWO_PARTS},
    {"longt5", TWO_PARTS},
    {"t5gemma", TWO_PARTS},
    {"bart", TWO_PARTS},
    {"pegasus", TWO_PARTS},
    {"marian", TWO_PARTS},
    {"m2m100", TWO_PARTS},
    {"encoderdecoder", TWO_PARTS},
    {"blenderbot", TWO_PARTS},
    {"prophetnet", TWO_PARTS},
    {"=led", TWO_PARTS},
    {"=gemma3", SENSES},
    {"gemma3n", SENSES},
    {"gemma4", SENSES},
    {"llava", SENSES},
    {"mllama", SENSES},
    {"paligemma", SENSES},
    {"idefics", SENSES},
    {"pixtral", SENSES},
    {"=mistral3", SENSES},
    {"internvl", SENSES},
    {"smolvlm", SENSES},
    {"multimodal", SENSES},
    {"vision", SENSES},
    {"audio", SENSES},
    {"omni", SENSES},
    {"whisper", SENSES},
    {"2vl", SENSES},
    {"25vl", SENSES},
    {"3vl", SENSES},
    {"mamba", RECURRENT},
    {"rwkv", RECURRENT},
    {"recurrentgemma", RECURRENT},
    {"zamba", RECURRENT},
    {"bamba", RECURRENT},
    {"falconh1", RECURRENT},
    {"nemotronh", RECURRENT},
    {"lfm2", RECURRENT},
    {"xlstm", RECURRENT},
    {"kimilinear", RECURRENT},
    {"qwen35", RECURRENT},
};

/* "Qwen2MoeForCausalLM" and "qwen2_moe" are both qwen2moe. */
static void plain_name(const char *name, char out[64]) {
    const char *end = strstr(name, "For");
    size_t n = 0;
    for (const char *c = name; *c && c != end && n < 63; c++) {
        if (isalnum((unsigned char)*c)) {
            out[n++] = (char)tolower((unsigned char)*c);
        }
    }
    out[n] = '\0';
}

const char *family_refusal(const char *name) {
    char plain[64];
    plain_name(name, plain);
    for (int i = 0; i < COUNT_OF(refusals); i++) {
        const char *part = refusals[i].name;
        bool fits = *part == '=' ? strcmp(plain, part + 1) == 0 : strstr(plain, part) != NULL;
        if (fits) {
            return refusals[i].reason;
        }
    }
    return NULL;
}
