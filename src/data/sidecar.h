/* Side-cars: values per response computed by a model, in a file beside the data.
 *
 * `*.reference.h5`: /sum float64, /count int32, /token_hash uint64 per response of the data file; a row with
 * count -1 is not computed yet; where objectives read tokens also /token_logp float64, as many as the data
 * file has response tokens (a response's `count` scored ones from its place there on), and /token_check
 * uint64 per response, with "token logp" for a recipe. `*.embeddings.h5`: /values float32 (responses, d),
 * /done uint8. Both: /check uint64, a hash of the row, and the attributes model, data, view, compute, recipe.
 * These are the key, so that a stale file is refused with what differs; beta, loss, learning rate and rank
 * count are not in the key.
 *
 * Rows are filled in any order, by any rank, over several runs: arrays are contiguous and unfiltered, so that
 * a run that dies between two rows leaves a valid file, and damage is found by /check.
 */
#ifndef COLLIMATE_DATA_SIDECAR_H
#define COLLIMATE_DATA_SIDECAR_H

#include "data/dataset.h"

struct sidecar_key {
    uint64_t model, data, view;
    char compute[24]; /* "fp32", "bf16", "bf16 amx" */
    char recipe[64];  /* "logp", "token logp", or "mean response last" for embeddings */
};

/* Local. A name beside the data with the key in it, so that other models and other cuts have files of their
 * own: beside the view for reference scores (width 0), beside the file that holds the tokens for embeddings.
 */
enum status sidecar_path(const struct dataset *d, const struct sidecar_key *key, int64_t width,
                         struct text *out);

struct sidecar;
/* Collective. Opens path if it exists and its key is equal, creates it otherwise (width 0: reference sums; >
 * 0: embeddings). A file with another key: ERR_DATA naming what differs, or replaced where `replace`. */
enum status sidecar_open(struct comm *c, const char *path, const struct sidecar_key *key, int64_t rows,
                         int64_t width, bool replace, struct sidecar **out);
/* Collective. The same for reference scores with each token's: tokens of the data file's responses. A file of
 * this kind also serves sidecar_open with the recipe "logp". */
enum status sidecar_open_tokens(struct comm *c, const char *path, const struct sidecar_key *key, int64_t rows,
                                int64_t tokens, bool replace, struct sidecar **out);
/* Collective. The same file for reading alone, so that its folder and the file itself may be read-only.
 * Fails: ERR_INPUT where it does not exist. */
enum status sidecar_open_read(struct comm *c, const char *path, const struct sidecar_key *key, int64_t rows,
                              int64_t width, int64_t tokens, struct sidecar **out);
/* Local. Opens embeddings for reading, whatever model made them; key (may be NULL) says which. Fails:
 * ERR_INPUT; ERR_DATA for another file's rows (data: dataset_hash; rows -1: any data's). */
enum status sidecar_open_values(const char *path, uint64_t data, int64_t rows, struct sidecar **out,
                                struct sidecar_key *key);
/* Collective: flushes; Local after sidecar_open_read and sidecar_open_values. */
enum status sidecar_close(struct sidecar *s);
/* Local. Rows not computed yet have count -1. Fails: ERR_DATA for damage. */
enum status sidecar_read_reference(struct sidecar *s, const int64_t *ids, int64_t n, double *sum,
                                   int32_t *count, uint64_t *token_hash);
/* Local. The token log-probabilities of a row that is there: count of them, from place first on. Fails:
 * ERR_DATA for damage. */
enum status sidecar_read_tokens(struct sidecar *s, int64_t id, int64_t first, int32_t count, double *out);
/* Local. Rows [first, first + n). Fails: ERR_DATA for damage and for a row that is not computed yet. */
enum status sidecar_read_values(struct sidecar *s, int64_t first, int64_t n, float *out);
/* Local. done[i]: row ids[i] is there. */
enum status sidecar_done(struct sidecar *s, const int64_t *ids, int64_t n, bool *done);
/* Collective: each rank its own rows (n may be 0), no row on two ranks. Fails: ERR_WRITE, also when a row
 * reads back differently. */
enum status sidecar_write_reference(struct sidecar *s, const int64_t *ids, int64_t n, const double *sum,
                                    const int32_t *count, const uint64_t *token_hash);
/* Collective. The tokens of rows, one row's after the other's, before sidecar_write_reference says that the
 * rows are there. */
enum status sidecar_write_tokens(struct sidecar *s, const int64_t *ids, int64_t n, const int64_t *first,
                                 const int32_t *count, const double *logp);
enum status sidecar_write_values(struct sidecar *s, const int64_t *ids, int64_t n, const float *values);
int64_t sidecar_width(const struct sidecar *s);
bool sidecar_has_tokens(const struct sidecar *s);
/* Opened for reading alone. */
bool sidecar_is_final(const struct sidecar *s);
int64_t sidecar_rows(const struct sidecar *s);

#endif
