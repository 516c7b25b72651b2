/* SPDX-License-Identifier: Apache-2.0 */
/* A file that workers are made of, as it was when their pool was opened: its bytes in sealed
 * memory.
 *
 * The program and the modules are copied once, and every worker runs and loads the copies. So a
 * worker that is started later is the same as the first one, whatever has become of the files: they
 * may be replaced, written over or removed. A descriptor of the file itself would not do; writing
 * over a file changes what has been opened and mapped.
 *
 * Some files cannot be used from memory: a script, a module that finds libraries by its own folder
 * ($ORIGIN), and all of them in builds with sanitizers, which read symbols by path; the program
 * where the system forbids to run memory (vm.memfd_noexec is 2). These are not frozen: they are
 * used by their paths, as long as the file there has the copy's bytes.
 *
 * Threads: one opens and closes an image; the descriptor may be read by all.
 */
#pragma once

#include <stdbool.h>

#include <knitting/code.h>

#include "fastpath/control/control.h"
#include "proto/sentence.h"

/* In a worker: the first module's copy has this number, the others follow. */
#define KNIT_IMAGE_FD_FIRST KNIT_CONTROL_GIVEN_FD

#define KNIT_IMAGE_NAME_SIZE 32
#define KNIT_IMAGE_ID_BYTES  32 /* as many of a build id are told; linkers make 16 or 20 */

enum {
    KNIT_IMAGE_E_REFUSED = 1, /* the sentence names file and reason */
    KNIT_IMAGE_E_CHANGED = 2, /* the file has other bytes than the copy */
};

enum knit_image_kind { KNIT_IMAGE_PROGRAM, KNIT_IMAGE_MODULE };

struct knit_image {
    const char *path; /* borrowed */
    int fd;           /* read-only for all, close-on-exec; -1 = none */
    bool is_frozen;
    char build_id[2 * KNIT_IMAGE_ID_BYTES + 1]; /* in hexadecimal; "" = the file has none */
};

/* Copies the file; the path is borrowed. Returns 0, KNIT_IMAGE_E_REFUSED, or -errno with a sentence
 * as well. */
KNIT_MUST_CHECK int knit_image_open(const char *path, enum knit_image_kind kind,
    struct knit_image *ret_image, struct knit_sentence *ret_why);
void knit_image_close(struct knit_image *image);

/* The file's name alone, which callers may see: where an operator keeps files is not theirs to
 * know. "?" where it is no UTF-8. */
const char *knit_image_file(const struct knit_image *image);

/* Whether the file at `path` has the bytes of the copy. Returns 0, KNIT_IMAGE_E_CHANGED, -errno. */
KNIT_MUST_CHECK int knit_image_compare(const char *path, int fd);

/* By which this process runs or loads the copy. The loader takes two files of one name for the same
 * file, so the name is one that a module would not give to memory of its own. */
void knit_image_name(int fd, char ret_name[KNIT_IMAGE_NAME_SIZE]);
