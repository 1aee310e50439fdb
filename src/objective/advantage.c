#include "objective/advantage.h"

#include <math.h>
#include <string.h>

#define EPSILON 1e-4

static double mean_of(const double *values, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        sum += values[i];
    }
    return n > 0 ? sum / (double)n : 0;
}

double advantage_deviation(const double *values, int64_t n) {
    double mean = mean_of(values, n), squares = 0;
    for (int64_t i = 0; i < n; i++) {
        squares += (values[i] - mean) * (values[i] - mean);
    }
    return n > 1 ? sqrt(squares / (double)(n - 1)) : 0;
}

void advantage_group(const double *rewards, int64_t groups, int64_t samples, enum advantage_scale scale,
                     double *out) {
    double of_all = advantage_deviation(rewards, groups * samples);
    for (int64_t g = 0; g < groups; g++) {
        const double *own = rewards + g * samples;
        double mean = mean_of(own, samples);
        double deviation = scale == SCALE_GROUP ? advantage_deviation(own, samples) : of_all;
        for (int64_t i = 0; i < samples; i++) {
            out[g * samples + i] = (own[i] - mean) / (scale == SCALE_NONE ? 1 : deviation + EPSILON);
        }
    }
}

static void normalize_all(double *values, int64_t n) {
    double mean = mean_of(values, n), deviation = advantage_deviation(values, n);
    for (int64_t i = 0; i < n; i++) {
        values[i] = (values[i] - mean) / (deviation + EPSILON);
    }
}

void advantage_leave_one_out(const double *rewards, int64_t groups, int64_t samples, bool normalize,
                             double *out) {
    for (int64_t g = 0; g < groups; g++) {
        const double *own = rewards + g * samples;
        for (int64_t i = 0; i < samples; i++) {
            double others = 0;
            for (int64_t k = 0; k < samples; k++) {
                others += k == i ? 0 : own[k];
            }
            out[g * samples + i] = own[i] - (samples > 1 ? others / (double)(samples - 1) : 0);
        }
    }
    if (normalize) {
        normalize_all(out, groups * samples);
    }
}

double advantage_flat_groups(const double *rewards, int64_t groups, int64_t samples) {
    int64_t flat = 0;
    for (int64_t g = 0; g < groups; g++) {
        bool is_flat = true;
        for (int64_t i = 1; i < samples; i++) {
            is_flat = is_flat && rewards[g * samples + i] == rewards[g * samples];
        }
        flat += is_flat;
    }
    return groups > 0 ? (double)flat / (double)groups : 0;
}

void advantage_shape(const double *logp, const double *reference, int64_t n, double coefficient, double score,
                     double *rewards) {
    for (int64_t i = 0; i < n; i++) {
        rewards[i] = -coefficient * (logp[i] - reference[i]) + (i == n - 1 ? score : 0);
    }
}

void advantage_gae(const double *rewards, const double *values, int64_t n, double gamma, double lambda,
                   double *advantages, double *returns) {
    double later = 0;
    for (int64_t i = n - 1; i >= 0; i--) {
        double next = i == n - 1 ? 0 : values[i + 1];
        later = rewards[i] + gamma * next - values[i] + gamma * lambda * later;
        advantages[i] = later;
        returns[i] = later + values[i];
    }
}

void moments_add(struct moments *m, const double *values, int64_t n) {
    struct moments own = {.n = (double)n, .mean = mean_of(values, n)};
    for (int64_t i = 0; i < n; i++) {
        own.squares += (values[i] - own.mean) * (values[i] - own.mean);
    }
    moments_merge(m, &own);
}

void moments_merge(struct moments *of, const struct moments *other) {
    double n = of->n + other->n, apart = other->mean - of->mean;
    if (other->n > 0) {
        of->squares += other->squares + apart * apart * of->n * other->n / n;
        of->mean += apart * other->n / n;
        of->n = n;
    }
}

void advantage_whiten(const struct moments *m, bool keep_mean, double *values, int64_t n) {
    double scale = 1 / sqrt(m->squares / (m->n > 0 ? m->n : 1) + 1e-8);
    for (int64_t i = 0; i < n; i++) {
        values[i] = (values[i] - m->mean) * scale + (keep_mean ? m->mean : 0);
    }
}

double advantage_stopped(const struct missing_stop *m, double score, bool is_stopped) {
    return is_stopped ? score : (isnan(m->score) ? score : m->score) - m->penalty;
}

void kl_control(struct kl_controller *c, double kl, double episodes) {
    if (c->target > 0) {
        c->coefficient *= 1 + fmin(fmax(kl / c->target - 1, -.2), .2) * episodes / c->horizon;
    }
}
