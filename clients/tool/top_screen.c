/* SPDX-License-Identifier: Apache-2.0 */
/* Escape sequences that every terminal of today knows, written by hand: what is drawn is lines of
 * text from the top down, for which a library of terminals would be another dependency. A frame is
 * made in memory and leaves in one write, so nothing flickers. Each line is cleared before its
 * text: behind one that is as wide as the terminal the cursor stands on its last character.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "clients/tool/top.h"

#define ENTER  "\033[?1049h\033[?25l"
#define LEAVE  "\033[?25h\033[?1049l"
#define HOME   "\033[H"
#define CLEAR  "\033[K"
#define REST   "\033[J"
#define BRIGHT "\033[1m"
#define TURNED "\033[7m"
#define PLAIN  "\033[m"

enum { LINES_ABOVE = 4, LINES_BELOW = 1, LINES_LEAST = 7, COLUMNS_LEAST = 20 };

static void write_all(const char *bytes, size_t len)
{
    while (len > 0) {
        ssize_t n = write(STDOUT_FILENO, bytes, len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return;
        bytes += n;
        len -= (size_t)n;
    }
}

void knit_top_measure(struct knit_top_screen *screen)
{
    struct winsize size = {0};

    screen->lines = 24;
    screen->columns = 80;
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row > 0 && size.ws_col > 0) {
        screen->lines = size.ws_row;
        screen->columns = size.ws_col;
    }
    if (screen->lines < LINES_LEAST)
        screen->lines = LINES_LEAST;
    if (screen->columns < COLUMNS_LEAST)
        screen->columns = COLUMNS_LEAST;
}

int knit_top_enter(struct knit_top_screen *screen)
{
    struct termios raw;

    if (tcgetattr(STDIN_FILENO, &screen->before) != 0)
        return -errno;
    raw = screen->before;
    raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
    raw.c_cc[VMIN] = 0;
    raw.c_cc[VTIME] = 0;
    if (tcsetattr(STDIN_FILENO, TCSANOW, &raw) != 0)
        return -errno;
    screen->is_entered = true;
    write_all(ENTER, strlen(ENTER));
    knit_top_measure(screen);
    return 0;
}

void knit_top_leave(struct knit_top_screen *screen)
{
    if (!screen->is_entered)
        return;
    screen->is_entered = false;
    write_all(LEAVE, strlen(LEAVE));
    (void)tcsetattr(STDIN_FILENO, TCSANOW, &screen->before);
}

size_t knit_top_page(const struct knit_top_screen *screen)
{
    return screen->lines - LINES_ABOVE - LINES_BELOW;
}

/* ---- lines ---------------------------------------------------------------------------------- */

/* How many places the text takes: one for each character. */
static size_t places(const char *text)
{
    size_t count = 0;

    for (; *text != '\0'; text++)
        count += ((unsigned char)*text & 0xc0) != 0x80;
    return count;
}

/* As much of it as fits into so many places; returns how many it took. */
static size_t put_cut(FILE *out, const char *text, size_t room)
{
    size_t taken = 0;

    for (; *text != '\0'; text++) {
        taken += ((unsigned char)*text & 0xc0) != 0x80;
        if (taken > room)
            return room;
        fputc(*text, out);
    }
    return taken;
}

static void put_line(
    FILE *out, const struct knit_top_screen *screen, const char *style, const char *text)
{
    fprintf(out, "%s" CLEAR, style);
    (void)put_cut(out, text, screen->columns);
    fputs(PLAIN "\n", out);
}

struct widths {
    size_t of[KNIT_TOP_COLUMNS_MAX];
};

static struct widths measure(const struct knit_top_table *table, size_t shown)
{
    struct widths widths;

    for (size_t i = 0; i < table->columns_count; i++) {
        widths.of[i] = strlen(table->columns[i].name) + 1;
        for (size_t k = 0; k < shown; k++) {
            const size_t width = places(table->rows[k].cells[i].text);

            if (width > widths.of[i])
                widths.of[i] = width;
        }
    }
    return widths;
}

/* One row, or without one the names of the columns, of which one is marked. */
static void put_row(FILE *out, const struct knit_top_screen *screen,
    const struct knit_top_table *table, const struct widths *widths, const struct knit_top_row *row,
    const struct knit_top_order *order)
{
    size_t left = screen->columns;

    fputs(CLEAR, out);
    for (size_t i = 0; i < table->columns_count && left > 0; i++) {
        const bool is_number = table->columns[i].is_number;
        char name[32];
        const char *text = row != NULL ? row->cells[i].text : name;
        size_t width, pad;

        (void)snprintf(name, sizeof(name), "%s%s", table->columns[i].name,
            i == order->column ? (order->is_reversed ? "^" : "v") : "");
        width = places(text);
        pad = widths->of[i] > width ? widths->of[i] - width : 0;
        if (pad > left)
            pad = left;
        if (is_number)
            left -= (size_t)fprintf(out, "%*s", (int)pad, "");
        left -= put_cut(out, text, left);
        if (!is_number && pad <= left && i + 1 < table->columns_count)
            left -= (size_t)fprintf(out, "%*s", (int)pad, "");
        for (int k = 0; k < 2 && left > 0 && i + 1 < table->columns_count; k++, left--)
            fputc(' ', out);
    }
    fputs(PLAIN "\n", out);
}

static void put_help(FILE *out, const struct knit_top_screen *screen)
{
    static const char *const lines[] = {
        "v, Tab      the next view: calls, workers, sessions, tasks",
        "Up, Down    the row that is meant; PgUp, PgDn by pages",
        "<, >        sort by the column before, or the next one", "r           the other way round",
        "/           show rows with a text alone; Enter ends it, Esc shows all",
        "c           ask the call to stop",
        "k           the same, and kill its worker if it goes on",
        "l           serve a quarantined task again", "Space       look now",
        "?           this page", "q           the end"};

    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]) && i <= knit_top_page(screen); i++)
        put_line(out, screen, "", lines[i]);
}

static void put_table(
    FILE *out, const struct knit_top_screen *screen, const struct knit_top_frame *frame)
{
    const struct knit_top_table *table = &frame->look->tables[frame->view];
    const struct widths widths = measure(table, frame->shown);
    const size_t page = knit_top_page(screen);

    if (frame->selected < *frame->first)
        *frame->first = frame->selected;
    if (frame->selected >= *frame->first + page)
        *frame->first = frame->selected - page + 1;
    if (*frame->first + page > frame->shown)
        *frame->first = frame->shown > page ? frame->shown - page : 0;
    fputs(BRIGHT, out);
    put_row(out, screen, table, &widths, NULL, frame->order);
    for (size_t i = *frame->first; i < frame->shown && i < *frame->first + page; i++) {
        if (i == frame->selected)
            fputs(TURNED, out);
        put_row(out, screen, table, &widths, &table->rows[i], frame->order);
    }
}

void knit_top_draw(const struct knit_top_screen *screen, const struct knit_top_frame *frame)
{
    const struct knit_top_table *table = &frame->look->tables[frame->view];
    char *bytes = NULL, title[256];
    size_t len = 0;
    FILE *out = open_memstream(&bytes, &len);

    if (out == NULL)
        return;
    fputs(HOME, out);
    put_line(out, screen, BRIGHT, frame->look->head[0]);
    put_line(out, screen, "", frame->look->head[1]);
    (void)snprintf(title, sizeof(title), "%s: %zu of %zu%s%s", table->name, frame->shown,
        table->count, frame->order->filter[0] != '\0' ? " with " : "", frame->order->filter);
    put_line(out, screen, "", frame->message != NULL ? frame->message : title);
    if (frame->is_help)
        put_help(out, screen);
    else
        put_table(out, screen, frame);
    fputs(REST, out);
    fprintf(out, "\033[%u;1H" TURNED CLEAR, screen->lines);
    (void)put_cut(out, "q end  v view  <> sort  r turn  / filter  c stop  k kill  l lift  ? help",
        screen->columns);
    fputs(PLAIN, out);
    if (fclose(out) == 0)
        write_all(bytes, len);
    free(bytes);
}
