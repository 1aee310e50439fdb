/* Costs of rows, for tests. */
#ifndef COLLIMATE_TESTS_PLAN_COSTS_H
#define COLLIMATE_TESTS_PLAN_COSTS_H

#include "data/view.h"

static inline enum status view_costs(struct view *v, const int64_t *rows, int64_t n, int32_t *cost) {
    struct view_plan *plan;
    TRY(view_plan_open(v, rows, n, &plan));
    enum status st = OK;
    for (int64_t i = 0; i < n && st == OK; i++) {
        st = view_plan_cost(plan, i, &cost[i]);
    }
    view_plan_close(plan);
    return st;
}

#endif
