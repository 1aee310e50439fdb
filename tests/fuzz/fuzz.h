/* What the fuzz targets share. A target is a file fuzz_*.c with one LLVMFuzzerTestOneInput: with clang and
 * COLLIMATE_FUZZ it is linked to libFuzzer, otherwise to driver.c, which runs the files that it is given.
 *
 * An input that stands for several files is a text of sections, "%%% NAME" lines each followed by a file's
 * bytes and a line end; an input that does not begin so is one file.
 */
#ifndef COLLIMATE_TESTS_FUZZ_H
#define COLLIMATE_TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>

#include "mpi/comm.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv); /* fuzz.c */

/* The one rank, started at the first call. */
struct comm *fuzz_comm(void);
/* A folder of this process, removed at its end; or the one that FUZZ_FOLDER names. */
const char *fuzz_folder(void);
/* Path of a file in it; the four last results stay valid. */
const char *fuzz_path(const char *name);
void fuzz_put(const char *name, const void *data, size_t size);
void fuzz_remove(const char *name);

/* One file of the input. */
struct fuzz_section {
    const char *name;
    const uint8_t *data; /* NULL: absent */
    size_t size;
};
/* Fills in the sections by their names; an input without them is sections[0]. Others are passed over. */
void fuzz_split(const uint8_t *data, size_t size, struct fuzz_section *sections, int n);
/* The same, and each section becomes a file in fuzz_folder(), or is removed from it. */
void fuzz_split_files(const uint8_t *data, size_t size, struct fuzz_section *sections, int n);

/* Ends the process where a statement about the program does not hold. */
#define FUZZ_CHECK(holds) fuzz_check((holds), #holds, __FILE__, __LINE__)
void fuzz_check(bool holds, const char *what, const char *file, int line);
/* Hostile input is fine or refused with `refusal`: never an error of ours or of the system. */
bool fuzz_fine(enum status st, enum status refusal);

#endif
