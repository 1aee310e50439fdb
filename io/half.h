/* 16-bit floating point and back, exact one way, round to nearest even the other (IEEE 754 binary16, and
 * bfloat16 = the upper half of binary32). NaN stays NaN, overflow becomes infinity, subnormals are kept. */
#ifndef COLLIMATE_IO_HALF_H
#define COLLIMATE_IO_HALF_H

#include <stdint.h>
#include <string.h>

static inline uint32_t half_bits(float v) {
    uint32_t bits;
    memcpy(&bits, &v, sizeof bits);
    return bits;
}

static inline float half_float(uint32_t bits) {
    float v;
    memcpy(&v, &bits, sizeof v);
    return v;
}

static inline float half_from_bf16(uint16_t h) {
    return half_float((uint32_t)h << 16);
}

static inline uint16_t half_to_bf16(float v) {
    uint32_t bits = half_bits(v);
    if ((bits & 0x7fffffffu) > 0x7f800000u) {
        return (uint16_t)((bits >> 16) | 0x40u); /* quiet, so that no payload rounds to infinity */
    }
    return (uint16_t)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

static inline float half_from_fp16(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16;
    uint32_t exponent = (h >> 10) & 0x1fu;
    uint32_t fraction = h & 0x3ffu;
    if (exponent == 0) { /* zero or subnormal: fraction x 2^-24, exact in binary32 */
        float magnitude = (float)fraction * 0x1p-24f;
        return half_float(half_bits(magnitude) | sign);
    }
    if (exponent == 31) {
        return half_float(sign | 0x7f800000u | fraction << 13);
    }
    return half_float(sign | (exponent + 112) << 23 | fraction << 13); /* 112 = 127 - 15 */
}

static inline uint16_t half_to_fp16(float v) {
    uint32_t bits = half_bits(v);
    uint16_t sign = (uint16_t)((bits >> 16) & 0x8000u);
    bits &= 0x7fffffffu;
    if (bits > 0x7f800000u) {
        return (uint16_t)(sign | 0x7e00u | ((bits >> 13) & 0x3ffu));
    }
    if (bits >= 0x477ff000u) { /* 65520 and up round past the largest, 65504 */
        return (uint16_t)(sign | 0x7c00u);
    }
    if (bits <
        0x38800000u) { /* below 2^-14: units of 2^-24; adding 0.5 puts that unit at binary32's last bit */
        uint32_t shifted = half_bits(half_float(bits) + 0.5f);
        return (uint16_t)(sign | (shifted - 0x3f000000u));
    }
    uint32_t rounded = bits - 0x38000000u + 0xfffu + ((bits >> 13) & 1u);
    return (uint16_t)(sign | rounded >> 13);
}

#endif
