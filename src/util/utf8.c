#include "util/utf8.h"

#include <stdint.h>
#include <string.h>

int utf8_put(unsigned point, char out[4]) {
    if (point < 0x80) {
        out[0] = (char)point;
        return 1;
    }
    if (point < 0x800) {
        out[0] = (char)(0xC0 | point >> 6);
        out[1] = (char)(0x80 | (point & 0x3F));
        return 2;
    }
    if (point < 0x10000) {
        out[0] = (char)(0xE0 | point >> 12);
        out[1] = (char)(0x80 | (point >> 6 & 0x3F));
        out[2] = (char)(0x80 | (point & 0x3F));
        return 3;
    }
    if (point < 0x110000) {
        out[0] = (char)(0xF0 | point >> 18);
        out[1] = (char)(0x80 | (point >> 12 & 0x3F));
        out[2] = (char)(0x80 | (point >> 6 & 0x3F));
        out[3] = (char)(0x80 | (point & 0x3F));
        return 4;
    }
    return 0;
}

int utf8_check(const char *s, size_t n) {
    unsigned char lead = (unsigned char)s[0];
    if (lead < 0x80) {
        return 1;
    }
    if (lead < 0xC2 || lead > 0xF4) {
        return -1;
    }
    int length = utf8_length(lead);
    /* The second byte's range keeps out overlong forms, surrogates and what is above U+10FFFF. */
    unsigned char low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
    unsigned char high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
    for (int i = 1; i < length; i++) {
        unsigned char c = (size_t)i < n ? (unsigned char)s[i] : 0;
        if (c < low || c > high) {
            return -i;
        }
        low = 0x80;
        high = 0xBF;
    }
    return length;
}

size_t utf8_ascii(const char *s, size_t n) {
    size_t at = 0;
    while (n - at >= 4 * sizeof(uint64_t)) {
        uint64_t words[4];
        memcpy(words, s + at, sizeof words);
        if ((words[0] | words[1] | words[2] | words[3]) & 0x8080808080808080u) {
            break;
        }
        at += sizeof words;
    }
    while (at < n && (unsigned char)s[at] < 0x80) {
        at++;
    }
    return at;
}

size_t utf8_valid(const char *s, size_t n) {
    size_t at = utf8_ascii(s, n);
    while (at < n) {
        int length = utf8_check(s + at, n - at);
        if (length < 0) {
            return at;
        }
        at += (size_t)length;
        if (length == 1) {
            at += utf8_ascii(s + at, n - at);
        }
    }
    return n;
}
