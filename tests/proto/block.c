/* SPDX-License-Identifier: Apache-2.0 */
/* Looks for the fence as text: PROTOCOL.md has one block of each name and no fence within one. */
#include "tests/proto/block.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/scratch.h"

char *knit_block_specification(int argc, char **argv)
{
    char *text = argc == 2 ? knit_scratch_read(argv[1], NULL) : NULL;

    if (text == NULL)
        fprintf(stderr, "usage: %s PROTOCOL.md\n", argv[0]);
    return text;
}

void knit_block_open(struct knit_block *block, const char *specification, const char *name)
{
    char fence[64];
    char *start, *end;

    snprintf(fence, sizeof(fence), "\n```%s\n", name);
    start = strstr(specification, fence);
    if (start == NULL)
        fail_msg("PROTOCOL.md has no block ```%s", name);
    start += strlen(fence);
    end = strstr(start, "\n```");
    assert_non_null(end);
    block->text = block->next = strndup(start, (size_t)(end - start));
    block->count = 0;
}

bool knit_block_next(struct knit_block *block)
{
    do {
        block->line = strsep(&block->next, "\n");
    } while (block->line != NULL && (block->line[0] == '#' || block->line[0] == 0));
    if (block->line != NULL)
        block->count++;
    return block->line != NULL;
}

void knit_block_close(struct knit_block *block)
{
    assert_true(block->count > 4);
    print_message("%u vectors\n", block->count);
    free(block->text);
}

char knit_block_split(char *line, const char *operators, char **ret_right)
{
    for (char *at = line; *at; at++) {
        if (at[0] == ' ' && at[1] && strchr(operators, at[1]) != NULL && at[2] == ' ') {
            char op = at[1];

            *ret_right = at + 3;
            while (at > line && at[-1] == ' ')
                at--;
            *at = 0;
            return op;
        }
    }
    fail_msg("no %s in '%s'", operators, line);
    return 0;
}

void knit_block_unescape(char *line)
{
    char *to = line;

    for (char *from = line; *from; from++, to++) {
        bool is_escape = from[0] == '\\' && from[1] == 'n';

        *to = is_escape ? '\n' : *from;
        from += is_escape;
    }
    *to = 0;
}
