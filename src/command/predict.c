/* --dry-run of sft, dpo and reward: what a run would read, hold and take, without doing it. */
#include <stdio.h>

#include "command/trainer.h"
#include "store/model_source.h"

static double mib(int64_t bytes) {
    return (double)bytes / (1 << 20);
}

static void print_memory(const struct estimate *e) {
    printf("memory per rank (MiB)\n");
    printf("  process      %10.1f\n", mib(e->baseline));
    printf("  parameters   %10.1f  %lld\n", mib(e->model), (long long)e->parameters);
    if (e->frozen > 0) {
        printf("  frozen base  %10.1f  %lld\n", mib(e->base), (long long)e->frozen);
    }
    if (e->others) {
        printf("  other models %10.1f  reference and rewards\n", mib(e->others));
    }
    if (e->drawing) {
        printf("  drawing      %10.1f  caches and other models' passes, in the pass's place\n",
               mib(e->drawing));
    }
    if (e->reference) {
        printf("  reference    %10.1f  beside the policy\n", mib(e->reference));
    }
    if (e->kept) {
        printf("  products     %10.1f  weights laid out for bf16 products, both ways\n", mib(e->kept));
    }
    printf("  gradients    %10.1f\n", mib(e->gradients));
    printf("  optimizer    %10.1f  %lld states\n", mib(e->optimizer), (long long)e->state_arenas);
    if (e->partial) {
        printf("  partial sums %10.1f  %lld arenas\n", mib(e->partial), (long long)e->partial_arenas);
    }
    printf("  pass         %10.1f  largest forest at most %lld tokens\n", mib(estimate_pass(e)),
           (long long)e->forest_tokens);
    printf("  operations   %10.1f\n", mib(e->inside));
    printf("  batches      %10.1f\n", mib(e->batches));
    printf("  total        %10.1f\n", mib(e->total));
    if (e->frozen > 0) {
        printf("  adapters save %9.1f  of parameters, gradients and optimizer of the whole model\n",
               mib(e->saved));
    }
}

static void print_rows(const char *name, const struct rows *r) {
    const struct cut_counts *c = &r->counts;
    printf("%s\n  file %s\n  rows %lld\n  tokens %lld (prompts once), scored %lld, longest row %lld\n"
           "  cut: prompts %lld, responses %lld; without an end token %lld; empty %lld\n",
           name, dataset_path(r->data), (long long)r->n, (long long)r->tokens, (long long)r->scored,
           (long long)r->longest, (long long)c->prompts_cut, (long long)c->responses_cut,
           (long long)c->without_end, (long long)c->empty_dropped);
}

static void print_time(const struct estimate *e, int64_t steps) {
    printf("step\n  %.4g GFLOP; products run at %.4g GFLOP/s over all ranks now; at %.0f %% of that %.3g s a "
           "step,\n  %.4g s for %lld steps\n",
           e->step_flops / 1e9, e->peak_flops / 1e9, 100 * ESTIMATE_EFFICIENCY, e->step_seconds,
           e->step_seconds * (double)steps, (long long)steps);
}

enum status trainer_config(struct trainer *t, struct model_config *out) {
    struct session *s = &t->session;
    s->trains = true;
    enum status st = model_source_find(s->settings->model, out);
    out->head = model_head_for(t->terms.reads & READS_VALUE);
    out->value_head = t->terms.reads & READS_TOKEN_VALUE;
    st = st == OK ? session_plan_adapters(s, out) : st;
    out->lora = session_has_adapters(s) ? &s->adapters : NULL;
    return st;
}

enum status trainer_estimate(struct trainer *t, struct estimate_options *out) {
    const struct session *s = &t->session;
    *out = (struct estimate_options){
        .comm = s->comm,
        .backend = s->backend,
        .optimizer = trainer_optimizer(s->settings),
        .is_sharded = s->settings->train.shard_optimizer,
        .keep = t->training.keep,
        .has_follower = s->settings->dpo.sync_reference || t->terms.reads & READS_DIVERGENCE,
        .follows = s->settings->dpo.sync_reference,
        .reference_keep = t->terms.reads & READS_DIVERGENCE ? KEEP_INPUTS : KEEP_NOTHING,
        .rows = &s->train,
        .eval_rows = &s->eval,
        .source = &t->data,
        .eval_source = s->eval.view ? &t->eval_data : NULL,
    };
    if (s->eval.view && trainer_steers(s->settings)) { /* targets by targets: conditional.h */
        out->eval_tokens =
            rows_forest_tokens(&s->eval, s->settings->steer.targets, s->settings->train.micro_tokens);
    }
    TRY(trainer_config(t, &out->config));
    return t->own && t->session.train.view ? t->own->memory(t, out) : OK;
}

enum status trainer_predict(struct trainer *t) {
    struct comm *c = t->session.comm;
    struct estimate_options options;
    struct estimate e;
    struct text resolved = {0};
    TRY(comm_agree(c, trainer_estimate(t, &options)));
    TRY(estimate_training(&options, &e));
    enum status st = comm_agree(c, options_print(t->session.run->options, false, &resolved));
    if (st == OK && c->rank == 0) {
        printf("%s", resolved.data);
        print_rows("data", &t->session.train);
        if (t->session.eval.view) {
            print_rows("eval_data", &t->session.eval);
        }
        print_memory(&e);
        print_time(&e, t->training.steps);
        if (t->own) {
            printf("  drawing and rewards come on top\n");
        }
    }
    text_free(&resolved);
    return st;
}
