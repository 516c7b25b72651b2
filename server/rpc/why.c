/* SPDX-License-Identifier: Apache-2.0 */
/* The answer is made from the text of the file, and not from what was compiled of it: it names a
 * line, and it is the answer of somebody who is not connected. */
#include "server/rpc/why.h"

#include <stdlib.h>
#include <string.h>

#include "proto/walk.h"
#include "proto/writer.h"
#include "server/policy/policy.h"
#include "server/rpc/router.h"

enum { NAMES_MAX = 64 };

struct question {
    char text[NAMES_MAX][KNIT_POLICY_NAME_MAX + 1];
    const char *items[NAMES_MAX];
    struct knit_policy_names names;
    struct knit_span of; /* task or method */
};

static bool add_name(struct question *question, const struct knit_item *item)
{
    struct knit_span name;
    char *place;

    if (question->names.count == NAMES_MAX || !knit_item_utf8(item, &name) || name.len == 0 ||
        name.len > KNIT_POLICY_NAME_MAX || memchr(name.bytes, '\0', name.len) != NULL)
        return false;
    place = question->text[question->names.count];
    memcpy(place, name.bytes, name.len);
    place[name.len] = '\0';
    question->items[question->names.count++] = place;
    return true;
}

/* [name or [name, ...], task]; those of a user are its own and its groups'. */
static bool read_question(struct knit_span params, struct question *question)
{
    struct knit_walk walk, names;
    struct knit_item who, item;

    question->names = (struct knit_policy_names){.items = question->items};
    if (knit_walk_array(&walk, params) != 0 || walk.left != 2 || knit_walk_next(&walk, &who) != 0 ||
        knit_walk_next(&walk, &item) != 0 || !knit_item_utf8(&item, &question->of) ||
        question->of.len == 0)
        return false;
    if (knit_walk_array(&names, who.raw) != 0)
        return add_name(question, &who);
    while (knit_walk_next(&names, &item) == 0)
        if (!add_name(question, &item))
            return false;
    return question->names.count > 0;
}

static void answer(struct knit_caller *caller, uint32_t msgid, bool is_allowed, const char *because)
{
    struct knit_buffer *scratch = &caller->turn->scratch;
    struct knit_writer writer;

    knit_buffer_reset(scratch);
    knit_writer_init(&writer, scratch);
    knit_writer_map(&writer, 2);
    knit_writer_text(&writer, "allowed");
    knit_writer_bool(&writer, is_allowed);
    knit_writer_text(&writer, "because");
    knit_writer_text(&writer, because);
    if (knit_writer_end(&writer) != 0)
        caller->ops->close_without_memory(caller);
    else
        caller->ops->reply(caller, msgid, knit_buffer_span(scratch));
}

void knit_why_handle(struct knit_caller *caller, const struct knit_message *message)
{
    struct knit_policy *policy = caller->router->backend->policy;
    struct question *question = malloc(sizeof(*question));
    struct knit_sentence because = {""};
    bool is_allowed;

    if (question == NULL) {
        caller->ops->close_without_memory(caller);
        return;
    }
    if (!read_question(message->params, question)) {
        knit_caller_refuse(caller, message->msgid, KNIT_BAD_ARGUMENT,
            "$/why: expected [name of a principal, or the array of its names, name of a task]");
    } else if (policy == NULL) {
        answer(caller, message->msgid, true,
            "there is no policy: whoever can reach the daemon may run every task");
    } else {
        is_allowed = knit_policy_explain(policy, &question->names, question->of, &because);
        answer(caller, message->msgid, is_allowed, because.text);
    }
    free(question);
}
