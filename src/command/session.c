#include "command/session.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "command/products.h"
#include "mpi/threads.h"
#include "mpi/watchdog.h"
#include "store/model_source.h"
#include "util/log.h"
#include "util/mem.h"

enum { EVALUATION_SLOTS = 16, EVALUATION_BATCH = 256 };

void session_open(struct run *run, struct session *out) {
    *out = (struct session){.run = run, .comm = run->comm, .settings = run->settings};
}

void session_close_data(struct session *s) {
    rows_close(&s->train);
    rows_close(&s->eval);
    if (s->tokenizer) {
        tokenizer_close(s->tokenizer);
        s->tokenizer = NULL;
    }
    text_free(&s->source);
}

void session_close(struct session *s) {
    session_close_data(s);
    workspace_close(&s->workspace);
    if (s->model) {
        model_close(s->model);
    }
    backend_close(s->backend);
    json_decref(s->adapter_config);
    lora_layout_free(&s->adapters);
    steering_close(&s->steering);
    names_free(&s->compared);
    *s = (struct session){0};
}

enum status session_need(const char *value, const char *key) {
    return *value ? OK : fail(ERR_USAGE, "%s is not set; give %s=PATH", key, key);
}

/* Rank 0 lists the devices that are not as its own. Collective. */
static enum status log_devices(const struct session *s) {
    enum { LINE = sizeof s->backend->caps.description };
    char(*all)[LINE];
    int64_t n;
    TRY(comm_gather_all(s->comm, s->backend->caps.description, 1, LINE, &all, &n));
    for (int64_t r = 1; r < n; r++) {
        if (strcmp(all[r], all[0]) != 0) {
            log_root(LOG_INFO, "rank %lld: %.159s", (long long)r, all[r]);
        }
    }
    mem_free(all);
    return OK;
}

/* Collective. The back end is open without a kind of products where none is named: opened again with the one
 * that is to be taken. */
static enum status settle_products(struct session *s, struct backend_request *request, char why[256]) {
    const char *named = settings_products(s->settings);
    const char *kind = NULL;
    const char *own = s->backend->caps.products;
    int64_t is_cpu = own != NULL; /* of every rank: device=auto may find others */
    TRY(comm_min_i64(s->comm, &is_cpu, 1));
    if (request->products) {
        return is_cpu
                   ? OK
                   : fail(ERR_USAGE,
                          "cpu.products: %s has no effect where auto took another device than the CPU; set "
                          "device=cpu",
                          named);
    }
    if (!own || !is_cpu || s->settings->compute != COMPUTE_BF16) {
        return OK;
    }
    if (!s->run->products) { /* measured once a process */
        TRY(products_choose(s->comm, request, s->settings->train.deterministic, &kind));
        s->run->products = kind;
    }
    kind = s->run->products;
    if (strcmp(kind, own) == 0) {
        return OK;
    }
    request->products = kind;
    backend_close(s->backend);
    s->backend = NULL;
    return comm_agree(s->comm, backend_open(request, &s->backend, why));
}

/* NULL: to be measured. */
static const char *products_wanted(const struct session *s) {
    const char *named = settings_products(s->settings);
    return strcmp(named, "auto") == 0 ? NULL : named;
}

enum status session_open_backend(struct session *s, const char *device, bool deterministic) {
    const struct settings *settings = s->settings;
    char why[256];
    struct backend_request request = {
        .device = device ? device : settings->device,
        .compute = device ? "fp32" : settings_compute(settings),
        .threads = threads_of_rank(s->comm, settings->threads),
        .device_index = s->comm->node_rank,
        .device_ranks = (int)settings->device_ranks,
        .deterministic = deterministic,
        .products = device ? NULL : products_wanted(s),
        .attention = settings_attention(settings),
    };
    TRY(comm_agree(s->comm, backend_open(&request, &s->backend, why)));
    TRY(device ? OK : settle_products(s, &request, why));
    log_root(LOG_INFO, "device %s: %s (%s)", s->backend->caps.name, s->backend->caps.description, why);
    return s->comm->size > 1 ? log_devices(s) : OK;
}

const char *session_numbers(const struct session *s) {
    const char *products = s->backend->caps.products;
    if (s->settings->compute == COMPUTE_BF16 && products && strcmp(products, PRODUCTS_FP32) != 0) {
        return strcmp(products, PRODUCTS_AMX) == 0 ? "bf16 " PRODUCTS_AMX : "bf16 " PRODUCTS_AVX512;
    }
    return settings_compute(s->settings);
}

enum status session_tokenizer_of(const char *folder, struct tokenizer **out) {
    static const char *const files[] = {"tokenizer.json", "tokenizer.model", "vocab.json",
                                        "tokenizer_config.json"};
    *out = NULL;
    for (int i = 0; i < COUNT_OF(files); i++) {
        char path[4096];
        snprintf(path, sizeof path, "%s/%s", folder, files[i]);
        if (access(path, F_OK) == 0) {
            return tokenizer_open(folder, out);
        }
    }
    return OK;
}

enum status session_open_tokenizer(struct session *s) {
    if (s->source.len == 0) {
        TRY(model_source_folder(s->settings->model, &s->source));
    }
    return session_tokenizer_of(s->source.data, &s->tokenizer);
}

enum status session_open_model(struct session *s) {
    bool is_adapted = s->settings->lora.rank > 0 || *s->settings->adapter || *s->settings->steer.layers;
    bool is_frozen = s->trains ? is_adapted : !s->merges;
    enum model_head head = s->head;
    TRY(session_need(s->settings->model, "model"));
    TRY(comm_agree(s->comm, session_adapter_head(s, &head)));
    const struct model_folder_options options = {.head = head,
                                                 .value_head = s->value_head,
                                                 .seed = (uint64_t)s->settings->seed,
                                                 .kind = is_frozen ? ARENA_FROZEN : ARENA_TRAINED,
                                                 .beside = is_frozen ? 0 : s->beside};
    watchdog_phase(s->comm->watchdog, "reading the model");
    TRY(comm_agree(s->comm, model_source_folder(s->settings->model, &s->source)));
    TRY(model_folder_open(s->comm, s->backend, s->settings->model, &options, &s->model));
    enum status st = model_folder_hash(s->model, &s->model_hash);
    s->base_hash = s->model_hash;
    if (st == OK) {
        st = session_open_tokenizer(s);
    }
    st = st == OK ? session_plan_adapters(s, &s->model->config) : st;
    TRY(comm_agree(s->comm, st));
    return session_has_adapters(s) ? session_open_adapters(s) : OK;
}

enum status session_need_head(const struct model *m, const char *folder, enum model_head head) {
    return session_need_config_head(&m->config, folder, head);
}

enum status session_need_config_head(const struct model_config *config, const char *folder,
                                     enum model_head head) {
    if (config->head == head) {
        return OK;
    }
    return head != HEAD_LANGUAGE
               ? fail(ERR_USAGE, "%s is a language model; a reward model is needed here", folder)
               : fail(ERR_USAGE, "%s is a reward model; a language model is needed here", folder);
}

struct truncation session_truncation(const struct settings *settings) {
    return (struct truncation){
        .how = (enum cut_length[]){LENGTH_CUTS_PROMPT, LENGTH_CUTS_PROMPT, LENGTH_CUTS_ROW,
                                   LENGTH_DROPS_ROW}[settings->truncate.keep],
        .max_length = (int32_t)settings->truncate.max_length,
        .max_prompt = (int32_t)settings->truncate.max_prompt,
        .keep_start = settings->truncate.keep == 1,
        .response_ratio = settings->truncate.ratio,
        .unit = settings->truncate.unit == 1 ? CUT_CHARS : CUT_TOKENS,
        .max_response = (int32_t)settings->truncate.max_response,
        .end_after_cut = settings->truncate.end_after_cut,
    };
}

enum status session_check_rows(const struct rows *r, const struct model_config *config) {
    int64_t most = model_positions(config);
    if (!r->view || most == 0 || r->longest_path <= most) {
        return OK;
    }
    return fail(
        ERR_DATA,
        "%s: prompt and response have up to %lld tokens (row %lld), the model has %lld positions; set "
        "truncate.max_length=%lld or less",
        dataset_path(r->data), (long long)r->longest_path, (long long)r->longest_at, (long long)most,
        (long long)most);
}

enum status session_open_rows(struct session *s, const struct rows_request *request, struct rows *out) {
    struct rows_request full = *request;
    TRY(session_need(request->path, request->key));
    full.truncation = session_truncation(s->settings);
    if (request->drawn > 0) {
        full.truncation.max_response = request->truncation.max_response;
    }
    full.vocabulary = s->model ? s->model->config.vocabulary : 0;
    full.user = s->run->options->command;
    full.trust = s->settings->trust_data;
    full.seen = &s->run->seen;
    TRY(rows_open(s->comm, &full, out));
    TRY(s->model ? session_check_rows(out, &s->model->config) : OK);
    return session_check_tokenizer(s, out->data);
}

enum status session_check_tokenizer(const struct session *s, const struct dataset *data) {
    return s->tokenizer ? dataset_compare_tokenizer(data, s->tokenizer, s->settings->model,
                                                    s->settings->allow_other_tokenizer)
                        : OK;
}

enum status session_open_data(const struct session *s, const char *path, enum data_split split,
                              struct dataset **out) {
    TRY(dataset_open_split(s->comm, path, split, out));
    TRY(dataset_verify_once(s->comm, *out, s->settings->trust_data, &s->run->seen));
    return session_check_tokenizer(s, *out);
}

static enum status local_workspace(struct model *model, enum pass_keep keep, int64_t tokens,
                                   struct workspace *out) {
    int64_t bytes = 0;
    int n = 0;
    TRY(to_int(tokens, "tokens of the largest forest", &n));
    TRY(pass_bytes(&model->config, &model->backend->caps, keep, n, n, &bytes));
    return workspace_open(model->backend, bytes, out);
}

enum status session_workspace(const struct session *s, struct model *model, enum pass_keep keep,
                              int64_t tokens, struct workspace *out) {
    return comm_agree(s->comm, local_workspace(model, keep, tokens, out));
}

struct batch_source session_evaluation(const struct session *s, struct rows *rows) {
    int ranks = s->comm->size;
    bool fixed = (ranks & (ranks - 1)) == 0 && ranks <= EVALUATION_SLOTS;
    return (struct batch_source){
        .view = rows->view,
        .reference = rows->reference,
        .reads_tokens = rows->reads_tokens,
        .plan = {.rows = rows->n,
                 .batch = EVALUATION_BATCH,
                 .slots = fixed || ranks < EVALUATION_SLOTS ? EVALUATION_SLOTS : ranks,
                 .micro_tokens = s->settings->train.micro_tokens,
                 .seed = (uint64_t)s->settings->seed,
                 .deterministic = fixed},
        .rank = s->comm->rank,
        .size = s->comm->size,
    };
}

static enum status fill_reference(const struct session *s, struct model *model, uint64_t model_hash,
                                  const struct reference_request *request) {
    struct workspace workspace = {0};
    const struct reference_options options = {
        .comm = s->comm,
        .model = model,
        .model_hash = model_hash,
        .compute = session_numbers(s),
        .workspace = &workspace,
        .source = request->source,
        .steps = request->steps,
        .tokens = request->tokens,
        .path = request->is_main ? s->settings->dpo.reference_file : "",
        .folder = request->folder ? request->folder : "",
    };
    int64_t tokens = batch_forest_tokens(&request->source->plan, s->comm->size, &request->rows->lengths);
    TRY(session_workspace(s, model, KEEP_NOTHING, tokens, &workspace));
    enum status st = reference_fill(&options, request->rows);
    workspace_close(&workspace);
    mem_trim();
    return st;
}

enum status session_reference(struct session *s, const struct reference_request *request) {
    struct model *reference = NULL;
    uint64_t hash;
    TRY(session_open_reference(s, IDS_OF_ROWS, &reference, &hash));
    session_turn(s, true);
    enum status st = fill_reference(s, reference, hash, request);
    session_turn(s, false);
    if (reference != s->model) {
        model_close(reference);
    }
    return st;
}
