/* A matrix of n vectors of n lanes is transposed in registers by swapping blocks: 1 x 1, 2 x 2, …, n / 2. */
#ifndef COLLIMATE_CPU_TURN_H
#define COLLIMATE_CPU_TURN_H

/* Of a stage that swaps blocks of d x d: where lane l of a vector comes from, and of its partner; the lanes
 * of both are counted through. */
#define TURN_LOW(n, d, l) (((l) & (d)) ? (n) + (l) - (d) : (l))
#define TURN_HIGH(n, d, l) (((l) & (d)) ? (n) + (l) : (l) + (d))
#define TURN_FOUR(f, n, d, l) f(n, d, l), f(n, d, (l) + 1), f(n, d, (l) + 2), f(n, d, (l) + 3)
#define TURN_EACH_4(f, n, d) TURN_FOUR(f, n, d, 0)
#define TURN_EACH_8(f, n, d) TURN_EACH_4(f, n, d), TURN_FOUR(f, n, d, 4)
#define TURN_EACH_16(f, n, d) TURN_EACH_8(f, n, d), TURN_FOUR(f, n, d, 8), TURN_FOUR(f, n, d, 12)

/* GCC takes lanes of two vectors by a vector of places, clang by as many arguments. */
#if defined(__clang__)
#define TURN_PICK(x, y, places, ...) __builtin_shufflevector(x, y, __VA_ARGS__)
#else
#define TURN_PICK(x, y, places, ...) __builtin_shuffle(x, y, (places){__VA_ARGS__})
#endif

/* r: n vectors of a type; places: vectors of integers of that size. */
#define TURN_STAGE(n, d, r, type, places)                                              \
    _Pragma("GCC unroll 16") for (int i_ = 0; i_ < (n); i_++) {                        \
        if (!(i_ & (d))) {                                                             \
            type x_ = (r)[i_];                                                         \
            type y_ = (r)[i_ + (d)];                                                   \
            (r)[i_] = TURN_PICK(x_, y_, places, TURN_EACH_##n(TURN_LOW, n, d));        \
            (r)[i_ + (d)] = TURN_PICK(x_, y_, places, TURN_EACH_##n(TURN_HIGH, n, d)); \
        }                                                                              \
    }

#endif
