/* What the commands that run a model open: back end, model, tokenizer, data and its views, workspace,
 * reference scores.
 *
 * A session is zero-initialised, opened part by part as the command needs it, and closed once.
 */
#ifndef COLLIMATE_COMMAND_SESSION_H
#define COLLIMATE_COMMAND_SESSION_H

#include "command/command.h"
#include "data/batch.h"
#include "data/rows.h"
#include "model/lora.h"
#include "score/reference.h"
#include "steer/steering.h"
#include "store/model_folder.h"

struct session {
    struct run *run;
    struct comm *comm;
    const struct settings *settings;
    struct backend *backend;
    enum model_head head; /* a causal folder is opened with a new score head where that is asked for */
    bool value_head;      /* beside a language head, in what is trained */
    int64_t beside;       /* bytes that training takes beside the parameters, in one allocation with them */
    struct model *model;
    uint64_t model_hash;    /* of the weights as read, and of the configuration; with adapters of theirs */
    uint64_t base_hash;     /* the same without adapters */
    bool trains;            /* the model, or adapters beside a frozen base */
    bool merges;            /* adapters into the model, whose masters it therefore holds */
    json_t *adapter_config; /* of the adapters (session_plan_adapters()); NULL: none */
    struct lora_layout adapters; /* their modules */
    struct lora *lora;           /* on the model, where it is open */
    bool steers;                 /* the adapters have FiLM and an encoder: */
    struct steering steering;
    struct lora *reference_lora; /* of reference.adapter, on the same model */
    struct text source;          /* folder of the model's config.json and tokenizer */
    struct tokenizer *tokenizer; /* of that folder; NULL where it has none */
    struct names compared;       /* folders of other models whose tokenizers were compared with it */
    struct rows train, eval;     /* `data` and `eval_data` */
    struct workspace workspace;
};

void session_open(struct run *run, struct session *out);
void session_close(struct session *s);
/* Local. Rows and tokenizer only, to be opened anew. */
void session_close_data(struct session *s);

/* Fails: ERR_USAGE naming the key where the text is empty. Local. */
enum status session_need(const char *value, const char *key);

/* Collective. The back end that device, compute and threads ask for; where device is not NULL, that one in
 * fp32 (k-means). One log line says what was chosen and why. */
enum status session_open_backend(struct session *s, const char *device, bool deterministic);
/* Local. What side-cars name as the type that their numbers were computed in: `compute`, and the kind of
 * products where these round otherwise than it alone would. */
const char *session_numbers(const struct session *s);
/* Collective. The model of settings->model with its hash and its tokenizer. */
enum status session_open_model(struct session *s);
/* Local. What adapters a model of this configuration is to have: those of `adapter`, or new ones where
 * lora.rank asks for them; does nothing the second time. Fails: ERR_USAGE, ERR_INPUT, ERR_DATA naming what of
 * the adapter's file is not supported or does not fit. */
enum status session_plan_adapters(struct session *s, const struct model_config *config);
/* Local. The head that the model is to be opened with: where nothing is trained, that of `adapter`. */
enum status session_adapter_head(const struct session *s, enum model_head *out);
/* Collective. Opens them on the model, which passes go through them from now on: what `adapter` holds, or the
 * initial values of new ones. */
enum status session_open_adapters(struct session *s);
/* Users that a forest is counted for where steering is read. */
enum { STEERED_USERS = 64 };
/* Local. Of session_plan_adapters: the steering that steer.layers or the adapter's folder asks for, in the
 * adapters' layout; and of session_open_adapters: its values. */
enum status session_plan_steering(struct session *s, const struct model_config *config);
enum status session_open_steering(struct session *s);
struct steering_training session_steering_training(const struct session *s);
/* Whether the model is to have adapters, once they are planned. */
bool session_has_adapters(const struct session *s);

/* A model beside the session's own. */
struct other_model {
    const char *key, *folder; /* and the key that names it */
    enum model_head head;
    /* Which token ids it must know as the session's model does, beside having its tokenizer where both have
     * one: */
    enum other_ids {
        IDS_OF_ROWS, /* those of the session's rows, where these are open */
        IDS_DRAWN,   /* those, and all that may be drawn: the tokenizer's, of the model's vocabulary */
        IDS_ALL,     /* logits are compared id by id: one size of vocabulary */
    } ids;
    enum arena_kind kind;
    bool value_head; /* beside its language head */
};
/* Local. The language model of `reference` and a reward model of `reward_model`, standing still; folder is
 * the caller's. */
struct other_model session_reference_of(const char *folder, enum other_ids ids);
struct other_model session_judge_of(const char *folder);
/* Local. Whether it may be opened, for what takes long to come after: by its configuration, its tokenizer
 * and, but in a dry run, the headers of its weights. own: of the session's model, which need not be open.
 * Fails: ERR_USAGE naming the key where it has the other head, does not know the ids that are drawn or
 * compared, or has another tokenizer and allow_other_tokenizer is not set (else this is a warning, once for a
 * folder); ERR_DATA naming the file where rows have ids that it does not know; as model_folder_check. */
enum status session_look_other(struct session *s, const struct model_config *own,
                               const struct other_model *other);
/* Collective. Opens it; the caller closes it. hash, of its weights, may be NULL. Fails: as
 * session_look_other, but for what only model_folder_open finds. *out is NULL after a failure. */
enum status session_open_other(struct session *s, const struct other_model *other, struct model **out,
                               uint64_t *hash);
/* Local. A folder's adapters as another set on a model. The session's own model goes on with the session's
 * adapters; on another model the set is in use from now on. Fails: ERR_USAGE naming the key where they are a
 * reward model's. */
enum status session_put_adapter(const struct session *s, const char *key, const char *folder, struct model *m,
                                struct lora **out);
/* Whether reference.adapter names adapters, in the place of the base alone. */
bool session_adapts_reference(const struct settings *settings);
/* Local. session_look_other of `reference`, where that is another model. */
enum status session_look_reference(struct session *s, const struct model_config *own, enum other_ids ids);
/* Collective. The model that gives the reference: `reference` with reference.adapter on it. That may be the
 * session's own model, whose adapters are then off, or another one on, between session_turn() and its
 * opposite; another model is the caller's to close. *hash: of what it gives. */
enum status session_open_reference(struct session *s, enum other_ids ids, struct model **out, uint64_t *hash);
void session_turn(struct session *s, bool to_reference);
/* Whether the policy, as it begins, must agree with its reference. */
bool session_begins_at_reference(const struct session *s);
/* Local. The tokenizer of settings->model; NULL where it has none, which is fine for training on ids. */
enum status session_open_tokenizer(struct session *s);
/* Local. That of a folder of configuration and tokenizer. */
enum status session_tokenizer_of(const char *folder, struct tokenizer **out);
/* Local. Fails: ERR_USAGE where the model has the other head. */
enum status session_need_head(const struct model *m, const char *folder, enum model_head head);
enum status session_need_config_head(const struct model_config *config, const char *folder,
                                     enum model_head head);

/* Collective. rows_open with the settings' truncation, the model's vocabulary and the command's name, which
 * the request leaves out, and session_check_tokenizer. */
enum status session_open_rows(struct session *s, const struct rows_request *request, struct rows *out);
/* Collective. dataset_open, dataset_verify and session_check_tokenizer, for commands that need no rows; *out
 * is there after a failure of the latter two. */
enum status session_open_data(const struct session *s, const char *path, enum data_split split,
                              struct dataset **out);
/* Local, the same on every rank. Fails: ERR_DATA where the data were tokenized with another tokenizer than
 * the model's, if it has one, and allow_other_tokenizer is not set. */
enum status session_check_tokenizer(const struct session *s, const struct dataset *data);
/* Local. Rows that are not open have no length. Fails: ERR_DATA where one is longer than the model's
 * positions, naming file and row. */
enum status session_check_rows(const struct rows *r, const struct model_config *config);
/* Local. The truncation options. */
struct truncation session_truncation(const struct settings *settings);

/* Collective. A workspace for passes of a model over forests of at most so many tokens, all of them scored.
 */
enum status session_workspace(const struct session *s, struct model *model, enum pass_keep keep,
                              int64_t tokens, struct workspace *out);

/* Collective. Reference scores of rows: the side-car is opened (settings->dpo.reference_file where is_main,
 * else a file beside the data, or in `folder`, whose name holds the key), completed under the reference
 * model, and spot-checked. Sets rows->reference. */
struct reference_request {
    struct rows *rows;
    const struct batch_source *source; /* the batches whose forests are used */
    int64_t steps;                     /* updates that will read scores; an epoch's at most are computed */
    bool is_main;
    const char *folder; /* for a side-car that cannot lie beside the data; NULL: none */
    bool tokens;        /* token by token as well */
};
enum status session_reference(struct session *s, const struct reference_request *request);

/* Rows as batches for evaluation: file order, a fixed cut, so that the numbers do not depend on the rank
 * count. */
struct batch_source session_evaluation(const struct session *s, struct rows *rows);

#endif
