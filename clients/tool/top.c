/* SPDX-License-Identifier: Apache-2.0 */
/* knit top: looks once a second, and shows it until it is told to end.
 *
 * The row that is meant is remembered by what it says and not by its place, since rows move between
 * two looks; and what is ended is the call that was shown when the key was hit, by its address,
 * whatever stands there when the question is answered.
 *
 * Signals are blocked and read from a descriptor beside the keys. So each way out goes through one
 * place, which gives the terminal back as it was.
 */
#include "clients/tool/top.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

enum { LOOK_MS = 1000, ASK_MS = 5000, ESCAPE_MS = 50 };

enum key {
    KEY_UP = 256,
    KEY_DOWN,
    KEY_PAGE_UP,
    KEY_PAGE_DOWN,
    KEY_ESCAPE,
    KEY_END, /* of the terminal */
    KEY_NONE,
};

enum mode {
    MODE_TABLE,
    MODE_FILTER, /* keys are its text */
    MODE_ASKED,  /* y does what was asked about */
    MODE_HELP,
};

struct top {
    const struct knit_tool *tool;
    struct knit *k;
    struct knit_top_screen screen;
    struct knit_top_look look;
    bool has_before;
    enum knit_top_view view;
    struct knit_top_order orders[KNIT_TOP_VIEWS];
    char selected[KNIT_TOP_CELL_MAX]; /* the first cell of the row that is meant; "" = the first */
    size_t at, shown, first;
    enum mode mode;
    char message[256];
    struct knit_top_row asked_about; /* MODE_ASKED */
    bool kills;
    int signal_fd;
    sigset_t mask_before;
    int signal; /* by which it ends; 0 = by a key */
    bool is_over;
    int status;
};

static uint64_t now_ms(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* In the line above the table. */
static void __attribute__((format(printf, 2, 3))) say(struct top *top, const char *format, ...)
{
    char text[1024];
    va_list args;

    va_start(args, format);
    (void)vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    knit_tool_escape(text, strlen(text), top->message, sizeof(top->message));
}

/* ---- what is shown -------------------------------------------------------------------------- */

static struct knit_top_table *table_of(struct top *top)
{
    return &top->look.tables[top->view];
}

static void arrange(struct top *top)
{
    struct knit_top_table *table = table_of(top);

    top->shown = knit_top_sort(table, &top->orders[top->view]);
    if (top->at >= top->shown)
        top->at = top->shown > 0 ? top->shown - 1 : 0;
    for (size_t i = 0; i < top->shown; i++)
        if (strcmp(table->rows[i].cells[0].text, top->selected) == 0)
            top->at = i;
}

/* The row at its place is meant from now on. */
static void select_at(struct top *top, size_t at)
{
    top->at = at < top->shown ? at : (top->shown > 0 ? top->shown - 1 : 0);
    (void)snprintf(top->selected, sizeof(top->selected), "%s",
        top->shown > 0 ? table_of(top)->rows[top->at].cells[0].text : "");
}

static void draw(struct top *top)
{
    const struct knit_top_frame frame = {.look = &top->look,
        .view = top->view,
        .order = &top->orders[top->view],
        .shown = top->shown,
        .selected = top->at,
        .first = &top->first,
        .message = top->message[0] != '\0' ? top->message : NULL,
        .is_help = top->mode == MODE_HELP};

    knit_top_draw(&top->screen, &frame);
}

static void fail(struct top *top, const struct knit_error *error)
{
    knit_top_leave(&top->screen);
    top->status = knit_tool_report(top->tool, error);
    top->is_over = true;
}

static void look(struct top *top)
{
    struct knit_error error;
    struct knit_top_look fresh;

    if (knit_top_ask(top->k, top->tool, top->has_before ? &top->look : NULL, &fresh, &error) !=
        KNIT_OK) {
        knit_top_free(&fresh);
        fail(top, &error);
        return;
    }
    knit_top_free(&top->look);
    top->look = fresh;
    top->has_before = true;
    arrange(top);
}

/* ---- what is done --------------------------------------------------------------------------- */

static void end_call(struct top *top)
{
    const struct knit_top_row *row = &top->asked_about;
    struct knit_error error;
    bool was_there;

    if (knit_tool_end_call(top->k, &error, top->tool, &row->call, top->kills, &was_there) !=
        KNIT_OK)
        say(top, "%s: %s", error.name, error.message);
    else
        say(top, "%s %s", row->cells[0].text, was_there ? "is asked to stop" : "has ended");
}

static void lift(struct top *top)
{
    const struct knit_top_row *row = &table_of(top)->rows[top->at];
    struct knit_error error;
    bool was_lifted;

    if (top->view != KNIT_TOP_TASKS || top->shown == 0)
        say(top, "l is for the view of tasks (v)");
    else if (knit_lift(top->k, &error, row->cells[0].text, &was_lifted) != KNIT_OK)
        say(top, "%s: %s", error.name, error.message);
    else
        say(top, "%s %s", row->cells[0].text,
            was_lifted ? "is served again" : "was not quarantined");
}

static void ask_about(struct top *top, bool kills)
{
    if (top->view != KNIT_TOP_CALLS || top->shown == 0) {
        say(top, "that is for the view of calls (v)");
        return;
    }
    top->asked_about = table_of(top)->rows[top->at];
    top->kills = kills;
    top->mode = MODE_ASKED;
    say(top, "%s %s, %.80s of %.80s? y: yes", kills ? "kill" : "stop",
        top->asked_about.cells[0].text, top->asked_about.cells[5].text,
        top->asked_about.cells[4].text);
}

/* ---- keys ----------------------------------------------------------------------------------- */

static bool is_readable(int timeout_ms)
{
    struct pollfd poll_fd = {STDIN_FILENO, POLLIN, 0};

    return poll(&poll_fd, 1, timeout_ms) > 0;
}

static int read_byte(void)
{
    unsigned char byte;
    ssize_t n = read(STDIN_FILENO, &byte, 1);

    if (n == 1)
        return byte;
    return n == 0 || errno == EINTR || errno == EAGAIN ? KEY_NONE : KEY_END;
}

/* Behind an escape. ret_next: a key of its own that came so soon; KEY_NONE = none did. */
static int read_sequence(int *ret_next)
{
    int byte, number = 0;

    if (!is_readable(ESCAPE_MS))
        return KEY_ESCAPE;
    byte = read_byte();
    if (byte != '[' && byte != 'O') {
        *ret_next = byte;
        return KEY_ESCAPE;
    }
    do {
        if (!is_readable(ESCAPE_MS))
            return KEY_NONE;
        byte = read_byte();
        if (byte >= '0' && byte <= '9')
            number = number < 1000 ? 10 * number + byte - '0' : number;
    } while ((byte >= '0' && byte <= '9') || byte == ';');
    if (byte == 'A')
        return KEY_UP;
    if (byte == 'B')
        return KEY_DOWN;
    if (byte == '~' && (number == 5 || number == 6))
        return number == 5 ? KEY_PAGE_UP : KEY_PAGE_DOWN;
    return KEY_NONE;
}

static void edit_filter(struct top *top, int key)
{
    char *filter = top->orders[top->view].filter;
    size_t len = strlen(filter);

    if (key == KEY_ESCAPE)
        filter[0] = '\0';
    else if ((key == 127 || key == 8) && len > 0)
        filter[len - 1] = '\0';
    else if (key >= 32 && key < 127 && len + 1 < sizeof(top->orders[0].filter)) {
        filter[len] = (char)key;
        filter[len + 1] = '\0';
    }
    if (key == KEY_ESCAPE || key == '\r' || key == '\n')
        top->mode = MODE_TABLE;
    if (top->mode == MODE_FILTER)
        say(top, "filter: %s_", filter);
    else
        say(top, "%s", "");
    arrange(top);
}

static void move_column(struct top *top, bool is_back)
{
    struct knit_top_order *order = &top->orders[top->view];
    const size_t count = table_of(top)->columns_count;

    order->column = (order->column + (is_back ? count - 1 : 1)) % count;
    arrange(top);
}

static void move(struct top *top, int key)
{
    const size_t page = knit_top_page(&top->screen);

    if (key == KEY_UP)
        select_at(top, top->at > 0 ? top->at - 1 : 0);
    else if (key == KEY_DOWN)
        select_at(top, top->at + 1);
    else if (key == KEY_PAGE_UP)
        select_at(top, top->at > page ? top->at - page : 0);
    else
        select_at(top, top->at + page);
}

static void next_view(struct top *top)
{
    top->view = top->view + 1 < KNIT_TOP_VIEWS ? top->view + 1 : 0;
    top->at = top->first = 0;
    top->selected[0] = '\0';
    arrange(top);
}

static void press_in_table(struct top *top, int key)
{
    switch (key) {
    case 'q':
        top->is_over = true;
        break;
    case 'v':
    case '\t':
        next_view(top);
        break;
    case '<':
    case '>':
        move_column(top, key == '<');
        break;
    case 'r':
        top->orders[top->view].is_reversed = !top->orders[top->view].is_reversed;
        arrange(top);
        break;
    case '/':
        top->mode = MODE_FILTER;
        edit_filter(top, KEY_NONE);
        break;
    case 'c':
    case 'k':
        ask_about(top, key == 'k');
        break;
    case 'l':
        lift(top);
        look(top);
        break;
    case ' ':
        look(top);
        break;
    case '?':
        top->mode = MODE_HELP;
        break;
    case KEY_UP:
    case KEY_DOWN:
    case KEY_PAGE_UP:
    case KEY_PAGE_DOWN:
        move(top, key);
        break;
    default:
        break;
    }
}

static void press(struct top *top, int key)
{
    enum mode mode = top->mode;

    if (key == KEY_NONE)
        return;
    if (key == KEY_END) {
        top->is_over = true;
        return;
    }
    if (mode == MODE_FILTER) {
        edit_filter(top, key);
        return;
    }
    top->message[0] = '\0';
    top->mode = MODE_TABLE;
    if (mode == MODE_TABLE) {
        press_in_table(top, key);
    } else if (mode == MODE_ASKED && key == 'y') {
        end_call(top);
        if (!top->is_over)
            look(top);
    }
}

/* ---- signals -------------------------------------------------------------------------------- */

static int block_signals(struct top *top)
{
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGWINCH, SIGTSTP, SIGCONT};
    sigset_t mask;

    sigemptyset(&mask);
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
        sigaddset(&mask, numbers[i]);
    if (sigprocmask(SIG_BLOCK, &mask, &top->mask_before) != 0)
        return -errno;
    top->signal_fd = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
    return top->signal_fd >= 0 ? 0 : -errno;
}

/* Stands still, with the terminal as its shell left it. */
static void pause_here(struct top *top)
{
    knit_top_leave(&top->screen);
    (void)raise(SIGSTOP);
    if (knit_top_enter(&top->screen) != 0)
        top->is_over = true;
}

static void read_signals(struct top *top)
{
    struct signalfd_siginfo info;

    while (!top->is_over && read(top->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
        if (info.ssi_signo == SIGTSTP) {
            pause_here(top);
        } else if (info.ssi_signo == SIGWINCH || info.ssi_signo == SIGCONT) {
            knit_top_measure(&top->screen);
        } else {
            top->signal = (int)info.ssi_signo;
            top->is_over = true;
        }
    }
}

/* ---- the command ---------------------------------------------------------------------------- */

static void wait_for_something(struct top *top, uint64_t until_ms)
{
    struct pollfd poll_fds[2] = {{STDIN_FILENO, POLLIN, 0}, {top->signal_fd, POLLIN, 0}};
    uint64_t now = now_ms();

    if (poll(poll_fds, 2, until_ms > now ? (int)(until_ms - now) : 0) <= 0)
        return;
    if (poll_fds[1].revents != 0)
        read_signals(top);
    if (poll_fds[0].revents == 0 || top->is_over)
        return;
    if ((poll_fds[0].revents & (POLLHUP | POLLERR | POLLNVAL)) != 0) {
        top->is_over = true; /* the terminal has gone, of which no signal may have told */
    } else {
        int key = read_byte(), next = KEY_NONE;

        press(top, key == '\033' ? read_sequence(&next) : key);
        if (!top->is_over)
            press(top, next);
    }
}

static void show(struct top *top)
{
    uint64_t next_ms = now_ms() + LOOK_MS;

    look(top);
    while (!top->is_over) {
        draw(top);
        wait_for_something(top, next_ms);
        if (top->is_over || now_ms() < next_ms)
            continue;
        next_ms = now_ms() + LOOK_MS;
        look(top);
    }
}

/* As the signal would have ended it; SIGINT as the other commands. */
static int end_by_signal(const struct top *top)
{
    if (top->signal == SIGINT)
        return KNIT_TOOL_CANCELLED;
    (void)signal(top->signal, SIG_DFL);
    (void)sigprocmask(SIG_SETMASK, &top->mask_before, NULL);
    (void)raise(top->signal);
    return KNIT_TOOL_CANCELLED;
}

static int run_live(const struct knit_tool *tool, struct knit *k)
{
    struct top *top = calloc(1, sizeof(*top));
    int status;

    if (top == NULL)
        return knit_tool_no_memory(tool);
    top->tool = tool;
    top->k = k;
    top->orders[KNIT_TOP_CALLS].column = 2;
    if (block_signals(top) != 0 || knit_top_enter(&top->screen) != 0) {
        status =
            knit_tool_fail(tool, KNIT_TOOL_OUTPUT, "standard input is no terminal: use --once");
    } else {
        show(top);
        knit_top_leave(&top->screen);
        status = top->signal != 0 ? end_by_signal(top) : top->status;
    }
    if (top->signal_fd > 0)
        (void)close(top->signal_fd);
    knit_top_free(&top->look);
    free(top);
    return status;
}

static int run_once(const struct knit_tool *tool, struct knit *k)
{
    struct knit_top_look seen;
    struct knit_error error;
    int status = knit_top_ask(k, tool, NULL, &seen, &error) == KNIT_OK
                     ? knit_top_print(tool, &seen)
                     : knit_tool_report(tool, &error);

    knit_top_free(&seen);
    return status;
}

/* Whether the output is a terminal that does what escape sequences say. */
static bool obeys_escapes(void)
{
    const char *kind = getenv("TERM");

    return isatty(STDOUT_FILENO) != 0 && kind != NULL && kind[0] != '\0' &&
           strcmp(kind, "dumb") != 0;
}

int knit_tool_top(const struct knit_tool *tool, int argc, char **argv)
{
    struct knit_tool patient = *tool;
    struct knit *k;
    int status = argc == 0 ? KNIT_TOOL_OK : knit_tool_usage(tool, "top takes no arguments");

    (void)argv;
    if (status == KNIT_TOOL_OK)
        status = knit_tool_open(tool, NULL, &k);
    if (status != KNIT_TOOL_OK)
        return status;
    if (!patient.has_timeout) {
        patient.has_timeout = true;
        patient.timeout_ms = ASK_MS;
    }
    if (tool->is_once || tool->is_json || !obeys_escapes())
        status = run_once(&patient, k);
    else
        status = run_live(&patient, k);
    knit_close(k);
    return status;
}
