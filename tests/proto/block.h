/* SPDX-License-Identifier: Apache-2.0 */
/* One fenced block of PROTOCOL.md, line by line: each of its lines is a vector; empty ones and
 * those that begin with # are skipped. A block that is missing or nearly empty ends the test,
 * so that vectors cannot be lost by editing.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct knit_block {
    char *text;
    char *next;
    char *line; /* without its newline; may be written to */
    unsigned count;
};

/* The text of the file that is a program's one argument, PROTOCOL.md; NULL: there is none, which
 * stderr says. To be freed with free(). */
char *knit_block_specification(int argc, char **argv);

/* specification: the text of PROTOCOL.md. name: what stands behind the fence. */
void knit_block_open(struct knit_block *block, const char *specification, const char *name);

/* false: there are no more lines. */
bool knit_block_next(struct knit_block *block);

void knit_block_close(struct knit_block *block);

/* Cuts the line at the first " OP " with one of these operators and returns OP; *ret_right = what
 * is behind it. Blanks before OP are cut off too. */
char knit_block_split(char *line, const char *operators, char **ret_right);

/* Makes a line feed of each \n in the line. */
void knit_block_unescape(char *line);
