#include <math.h>

#include "model/pass_internal.h"
#include "util/mem.h"

static const double TWO_PI = 6.283185307179586476925;

/* Llama 3.1: long wavelengths are divided by factor, short ones kept, those between blended. */
static double scale_llama3(const struct rope_config *r, double frequency) {
    double wavelength = TWO_PI / frequency;
    double low = r->original_max_positions / r->low_freq_factor;
    double high = r->original_max_positions / r->high_freq_factor;
    if (wavelength > low) {
        return frequency / r->factor;
    }
    if (wavelength < high) {
        return frequency;
    }
    double smooth = (r->original_max_positions / wavelength - r->low_freq_factor) /
                    (r->high_freq_factor - r->low_freq_factor);
    return (1 - smooth) * frequency / r->factor + smooth * frequency;
}

/* YaRN (Peng et al. 2023): the pair that turns `rotations` times over the original context. */
static double yarn_dimension(const struct rope_config *r, double rotations) {
    return r->rotary_dim * log(r->original_max_positions / (rotations * TWO_PI)) / (2 * log(r->theta));
}

static double scale_yarn(const struct rope_config *r, int i, double frequency) {
    double low = yarn_dimension(r, r->beta_fast), high = yarn_dimension(r, r->beta_slow);
    if (r->truncate) {
        low = floor(low);
        high = ceil(high);
    }
    low = fmax(low, 0);
    high = fmin(high, r->rotary_dim - 1);
    if (low == high) {
        high += 0.001; /* as transformers avoids the division by zero */
    }
    double ramp = fmin(fmax((i - low) / (high - low), 0), 1);
    return frequency / r->factor * ramp + frequency * (1 - ramp);
}

/* Angle per position of pair i, as transformers' ROPE_INIT_FUNCTIONS. length: tokens of the sequence. */
static double frequency_of(const struct model_config *c, bool local, int i, int64_t length) {
    const struct rope_config *r = &c->rope;
    if (local) {
        return pow(c->local_theta, -2.0 * i / r->rotary_dim);
    }
    double theta = r->theta, most = (double)c->max_positions;
    if (r->scaling == ROPE_DYNAMIC && length > c->max_positions) {
        theta *= pow(r->factor * (double)length / most - (r->factor - 1),
                     (double)r->rotary_dim / (r->rotary_dim - 2));
    }
    double frequency = pow(theta, -2.0 * i / r->rotary_dim);
    switch (r->scaling) {
    case ROPE_LINEAR:
        return frequency / r->factor;
    case ROPE_LLAMA3:
        return scale_llama3(r, frequency);
    case ROPE_YARN:
        return scale_yarn(r, i, frequency);
    case ROPE_LONG:
        return frequency / (length > model_rope_break(c) ? r->long_factors : r->short_factors)[i];
    default:
        return frequency;
    }
}

static void fill_row(const struct model_config *c, bool local, int64_t position, int64_t length,
                     double *row) {
    int half = c->rope.rotary_dim / 2;
    double scale = c->rope.scaling >= ROPE_YARN && !local ? c->rope.attention_factor : 1;
    for (int i = 0; i < half; i++) {
        double angle = (double)position * frequency_of(c, local, i, length);
        row[i] = scale * cos(angle);
        row[half + i] = scale * sin(angle);
    }
}

static enum status extend(struct rope_cache *cache, const struct model_config *c, int64_t positions) {
    int64_t width = c->rope.rotary_dim, values;
    if (positions <= cache->positions) {
        return OK;
    }
    TRY(size_mul(positions, width, "rope table", &values));
    TRY(GROW_ARRAY(cache->rows, cache->capacity, values));
    int64_t old = cache->positions;
    positions = cache->capacity / width; /* the room there is */
#pragma omp parallel for schedule(static)
    for (int64_t i = old; i < positions; i++) {
        fill_row(c, cache->local, i, 0, cache->rows + i * width);
    }
    cache->positions = positions;
    return OK;
}

enum status rope_table(struct rope_cache *cache, const struct model_config *c, const int32_t *positions,
                       const int32_t *lengths, int32_t n, double *host) {
    int64_t width = c->rope.rotary_dim;
    int32_t most = -1;
    for (int32_t i = 0; i < n; i++) {
        most = positions[i] > most ? positions[i] : most;
    }
    TRY(extend(cache, c, (int64_t)most + 1));
    int64_t most_tokens = lengths && !cache->local ? model_rope_break(c) : INT64_MAX;
    for (int32_t i = 0; i < n; i++) {
        double *row = host + i * width;
        if (most_tokens < INT64_MAX && lengths[i] > most_tokens) {
            fill_row(c, false, positions[i], lengths[i], row);
            continue;
        }
        const double *known = cache->rows + positions[i] * width;
        for (int64_t j = 0; j < width; j++) {
            row[j] = known[j];
        }
    }
    return OK;
}

void rope_cache_free(struct rope_cache *cache) {
    mem_free(cache->rows);
    *cache = (struct rope_cache){0};
}
