/* A loop that is compiled for several instruction sets, the widest of which that this processor has is taken
 * when the program starts: before a function whose loops the compiler makes vectors of. What it calls is to
 * be inlined. */
#ifndef COLLIMATE_UTIL_LEVEL_H
#define COLLIMATE_UTIL_LEVEL_H

#if defined(__x86_64__) && defined(__gnu_linux__)
#define BEST_LEVEL __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define BEST_LEVEL
#endif

#endif
