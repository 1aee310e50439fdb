/* The kernel of AMX: 32 x 32 sums in four tiles, two tiles of A (16 rows x 16 pairs of k each) and two of B
 * (16 pairs x 16 columns), so that four products come to four loads.
 *
 *                    tile 6   tile 7        B: 16 pairs of k, 128 bytes apart
 *          tile 4    tile 0   tile 1
 *          tile 5    tile 2   tile 3        C: sums, 16 x 16 each
 *
 * All tiles have the same shape, 16 rows of 64 bytes, always: odd edges are zeros in the panels. Tiles are a
 * thread's own and so is their configuration: begin() and end() by each. The tests compile this file a second
 * time, on intrinsics in plain C (DOT_INTRINSICS names their header).
 */
#include "backend/cpu/dot_kernel.h"

#if defined(DOT_INTRINSICS)
#define HAS_TILES
#include DOT_INTRINSICS
#elif defined(__AMX_BF16__) || defined(__AMXBF16__) /* of GCC, of older clangs */
#define HAS_TILES
#include <immintrin.h>
#endif

#ifdef HAS_TILES
enum { ROWS = 32, TILE = 16, TILES = 8, LINE_BYTES = 64, PANEL_LINE_BYTES = DOT_COLUMNS * 4 };

/* What LDTILECFG reads (Intel SDM, volume 1, 18.3). */
struct tile_configuration {
    uint8_t palette, start_row, reserved[14];
    uint16_t line_bytes[16];
    uint8_t rows[16];
};

static void begin(void) {
    struct tile_configuration c __attribute__((aligned(64))) = {.palette = 1};
    for (int i = 0; i < TILES; i++) {
        c.rows[i] = TILE;
        c.line_bytes[i] = LINE_BYTES;
    }
    _tile_loadconfig(&c);
}

static void end(void) {
    _tile_release();
}

/* Some compilers' tile intrinsics do not say that they read memory. */
static inline void memory_is_read(void) {
    __asm__ volatile("" ::: "memory");
}

/* All rows, or the upper 16 alone. */
static inline __attribute__((always_inline)) void
multiply_tiles(const bool is_all, int64_t steps, const uint16_t *a, const uint16_t *b, float *sums) {
    _tile_zero(0);
    _tile_zero(1);
    if (is_all) {
        _tile_zero(2);
        _tile_zero(3);
    }
    for (int64_t step = 0; step < steps; step++) {
        const uint16_t *x = a + step * ROWS * TILE * 2;
        const uint16_t *y = b + step * DOT_COLUMNS * TILE * 2;
        _tile_loadd(4, x, LINE_BYTES);
        _tile_loadd(6, y, PANEL_LINE_BYTES);
        _tile_loadd(7, y + 2 * TILE, PANEL_LINE_BYTES);
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        if (is_all) {
            _tile_loadd(5, x + TILE * TILE * 2, LINE_BYTES);
            _tile_dpbf16ps(2, 5, 6);
            _tile_dpbf16ps(3, 5, 7);
        }
    }
    _tile_stored(0, sums, PANEL_LINE_BYTES);
    _tile_stored(1, sums + TILE, PANEL_LINE_BYTES);
    if (is_all) {
        _tile_stored(2, sums + TILE * DOT_COLUMNS, PANEL_LINE_BYTES);
        _tile_stored(3, sums + TILE * DOT_COLUMNS + TILE, PANEL_LINE_BYTES);
    }
}

static void multiply(int64_t rows, int64_t pairs, const uint16_t *a, const uint16_t *b, float *sums) {
    memory_is_read();
    if (rows <= TILE) {
        multiply_tiles(false, pairs / TILE, a, b, sums);
    } else {
        multiply_tiles(true, pairs / TILE, a, b, sums);
    }
    memory_is_read();
}

const struct dot_kernel *dot_amx(void) {
    static const struct dot_kernel kernel = {.name = PRODUCTS_AMX,
                                             .words = "AMX",
                                             .rows = ROWS,
                                             .group = TILE,
                                             .depth = 1024, /* 64 KiB of A and of B */
                                             .begin = begin,
                                             .end = end,
                                             .multiply = multiply};
    return &kernel;
}
#else
const struct dot_kernel *dot_amx(void) {
    return NULL;
}
#endif
