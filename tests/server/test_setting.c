/* SPDX-License-Identifier: Apache-2.0 */
/* The table of settings and the three places values come from: every row takes its default and its
 * bounds and refuses what lies beyond; mistakes name key, place and expectation. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "fastpath/host/options.h"
#include "server/base/log.h"
#include "server/config/command_line.h"
#include "server/config/resolve.h"
#include "server/config/setting.h"
#include "server/config/settings_file.h"
#include "tests/support/scratch.h"

#define REFUSED KNIT_SETTING_E_REFUSED

static struct knit_settings settings;
static struct knit_sentence why;

static int setup(void **state)
{
    (void)state;
    why.text[0] = '\0';
    return knit_settings_init(&settings, &why);
}

static int teardown(void **state)
{
    (void)state;
    knit_settings_fini(&settings);
    return 0;
}

/* Defaults again, for tests that go through several cases. */
static void restart(void)
{
    knit_settings_fini(&settings);
    assert_int_equal(setup(NULL), 0);
}

static void expect_why(const char *part)
{
    if (strstr(why.text, part) == NULL)
        fail_msg("expected '%s' in '%s'", part, why.text);
}

static int set(const struct knit_setting *row, const char *text)
{
    const struct knit_setting_origin origin = {KNIT_SOURCE_COMMAND_LINE, NULL, 0};

    return knit_setting_set(&settings, row, &origin, text, &why);
}

static int read_text(const char *text, size_t len)
{
    char *dir = knit_scratch_new();
    char *path = knit_scratch_file(dir, "k.conf", text, len);
    int r = knit_settings_file_read(&settings, path, &why);

    free(path);
    knit_scratch_free(dir);
    return r;
}

static void defaults_are_what_the_table_says(void **state)
{
    (void)state;
    assert_int_equal(settings.listen.count, 1);
    assert_string_equal(settings.listen.items[0], "127.0.0.1:5648");
    assert_int_equal(settings.socket_mode, 0660);
    assert_null(settings.socket);
    assert_int_equal(settings.output_max_bytes, 4 << 20);
    assert_int_equal(settings.output_total_max_bytes, 256 << 20);
    assert_int_equal(knit_settings_resolve(&settings, &why), 0);
    assert_int_equal(settings.call_max_bytes, 8 << 20);
    assert_int_equal(settings.message_max_bytes, (8 << 20) + (64 << 10));
    assert_int_equal(settings.input_max_bytes, 256 << 20);
    assert_true(settings.workers >= 2);
    assert_int_equal(settings.steal, 1);
    /* Once more at the end of the test. */
    knit_settings_fini(&settings);
}

static void another_unit_is_answered_with_the_ones_there_are(void **state)
{
    static const char *const wrong[] = {"1G", "1GB", "64k", "1 GiB", "1gib", "2TiB"};

    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        assert_int_equal(
            set(knit_setting_by_key("pool", "arena_bytes"), wrong[i]), KNIT_SETTING_E_REFUSED);
        assert_non_null(strstr(why.text, "with KiB, MiB or GiB right behind it, as in 64MiB"));
        assert_non_null(strstr(why.text, wrong[i]));
    }
}

static void every_number_takes_its_bounds_and_nothing_beyond(void **state)
{
    static const char *const wrong[] = {"", " ", "-1", "+1", "1 ", "0x10", "1e3", "1.5", "ten",
        "1KB", "18446744073709551616", "99999999999GiB", "1MiBx"};

    (void)state;
    for (size_t i = 0; i < knit_setting_count; i++) {
        const struct knit_setting *row = &knit_setting_table[i];
        uint64_t ends[] = {row->min, row->max};

        if (row->kind != KNIT_SETTING_NUMBER && row->kind != KNIT_SETTING_AUTO_NUMBER)
            continue;
        for (int e = 0; e < 2; e++) {
            char text[32];

            restart();
            snprintf(text, sizeof(text), "%llu", (unsigned long long)ends[e]);
            assert_int_equal(set(row, text), 0);
            if (e == 0 && ends[e] == 0)
                continue;
            restart();
            snprintf(
                text, sizeof(text), "%llu", (unsigned long long)(e ? ends[e] + 1 : ends[e] - 1));
            assert_int_equal(set(row, text), REFUSED);
            expect_why(row->key);
            expect_why(text);
        }
        for (size_t w = 0; w < sizeof(wrong) / sizeof(wrong[0]); w++) {
            restart();
            assert_int_equal(set(row, wrong[w]), REFUSED);
        }
    }
}

static void sizes_carry_units(void **state)
{
    (void)state;
    assert_int_equal(set(knit_setting_by_key("pool", "arena_bytes"), "128MiB"), 0);
    assert_int_equal(settings.arena_bytes, 128u << 20);
    assert_int_equal(knit_settings_resolve(&settings, &why), 0);
    assert_int_equal(settings.call_max_bytes, 16u << 20);
}

static void words_are_taken_from_their_set(void **state)
{
    static const struct {
        const char *section, *key, *text;
        int result;
    } cases[] = {
        {"pool", "balancer", "firstIdle", 0},
        {"pool", "balancer", "roundRobin", 0},
        {"pool", "balancer", "x", REFUSED},
        {"pool", "steal", "auto", 0},
        {"pool", "steal", "on", 0},
        {"pool", "steal", "yes", REFUSED},
        {"server", "allow_remote_without_authentication", "auto", REFUSED},
        {"server", "allow_remote_without_authentication", "on", 0},
        {"server", "socket_mode", "0777", 0},
        {"server", "socket_mode", "777", 0},
        {"server", "socket_mode", "0888", REFUSED},
        {"server", "socket_mode", "1000", REFUSED},
        {"log", "level", "debug", 0},
        {"log", "level", "loud", REFUSED},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        restart();
        assert_int_equal(set(knit_setting_by_key(cases[i].section, cases[i].key), cases[i].text),
            cases[i].result);
        if (cases[i].result == REFUSED)
            expect_why(cases[i].key);
    }
}

static const struct knit_setting *row_named(const char *key)
{
    for (size_t i = 0; i < knit_setting_count; i++) {
        if (strcmp(knit_setting_table[i].key, key) == 0)
            return &knit_setting_table[i];
    }
    return NULL;
}

/* Pools of programs have their options by those names. */
static void ranges_and_defaults_are_those_of_the_pool_s_host(void **state)
{
    (void)state;
    for (size_t i = 0; i < knit_host_number_count; i++) {
        const struct knit_host_number *number = &knit_host_numbers[i];
        const struct knit_setting *row = row_named(number->name);
        uint64_t value;

        /* The daemon has no such settings. */
        if (strcmp(number->name, "startup_ms") == 0 || strcmp(number->name, "stop_ms") == 0)
            continue;
        if (row == NULL)
            fail_msg("%s is no setting", number->name);
        value = *(const uint64_t *)(const void *)((const char *)&settings + row->offset);
        if (row->min != number->least || row->max != number->most ||
            (value != KNIT_AUTO && value != number->preset))
            fail_msg("%s.%s: the host has another range or default", row->section, row->key);
    }
}

static void the_alias_of_a_balancer_is_the_balancer(void **state)
{
    (void)state;
    assert_int_equal(set(knit_setting_by_key("pool", "balancer"), "roundRobin"), 0);
    assert_int_equal(knit_settings_resolve(&settings, &why), 0);
    assert_int_equal(settings.balancer, KNIT_BALANCER_CHOICE_ROUND_ROBIN);
    /* A balancer that was asked for is not undone by stealing. */
    assert_int_equal(settings.steal, 0);
}

static void what_does_not_go_together_is_refused(void **state)
{
    (void)state;
    assert_int_equal(set(knit_setting_by_key("pool", "call_max_bytes"), "9MiB"), 0);
    assert_int_equal(knit_settings_resolve(&settings, &why), REFUSED);
    expect_why("eighth");

    restart();
    assert_int_equal(set(knit_setting_by_key("pool", "arena_initial_bytes"), "65MiB"), 0);
    assert_int_equal(knit_settings_resolve(&settings, &why), REFUSED);
    expect_why("arena_initial_bytes");

    restart();
    assert_int_equal(set(knit_setting_by_key("server", "input_max_bytes"), "32MiB"), 0);
    assert_int_equal(knit_settings_resolve(&settings, &why), REFUSED);
    expect_why("input_max_bytes");

    restart();
    assert_int_equal(set(knit_setting_by_key("server", "listen"), "127.0.0.1:7 none"), 0);
    assert_int_equal(knit_settings_resolve(&settings, &why), REFUSED);
    expect_why("server.listen: the word none stands alone, not beside 127.0.0.1:7");

    restart();
    assert_int_equal(set(knit_setting_by_key("server", "message_max_bytes"), "512MiB"), 0);
    assert_int_equal(knit_settings_resolve(&settings, &why), 0);
    assert_int_equal(settings.input_max_bytes, UINT64_C(2) << 30);
}

static void a_file_is_read(void **state)
{
    static const char text[] = "# a comment\n\n[server]\nlisten = 127.0.0.1:0 [::1]:0 ; why\r\n"
                               "listen = 127.0.0.2:9\n   \n"
                               "socket = run/x.sock\n[pool]\nmodules = /a.so b.so\nworkers=3";
    char *dir = knit_scratch_new();
    char *path = knit_scratch_file(dir, "k.conf", text, sizeof(text) - 1);
    char *expected = knit_scratch_path(dir, "run/x.sock");
    char *module = knit_scratch_path(dir, "b.so");

    (void)state;
    if (knit_settings_file_read(&settings, path, &why) != 0)
        fail_msg("%s", why.text);
    assert_int_equal(settings.listen.count, 3);
    assert_string_equal(settings.listen.items[1], "[::1]:0");
    assert_string_equal(settings.listen.items[2], "127.0.0.2:9");
    assert_string_equal(settings.socket, expected);
    assert_int_equal(settings.modules.count, 2);
    assert_string_equal(settings.modules.items[0], "/a.so");
    assert_string_equal(settings.modules.items[1], module);
    assert_int_equal(settings.workers, 3);
    free(module);
    free(expected);
    free(path);
    knit_scratch_free(dir);
}

static void mistakes_in_a_file_name_line_key_and_expectation(void **state)
{
    static const struct {
        const char *text, *where, *what;
    } cases[] = {
        {"[pool]\nworkers = 0\n", ":2:", "pool.workers: expected a number from 1 to 256 or auto"},
        {"[pool]\n\nworker = 1\n", ":3:", "the nearest is workers in [pool]"},
        {"[server]\nworkers = 1\n", ":2:", "the nearest is workers in [pool]"},
        {"[pool]\npayload_max_bytes = 1\n",
            ":2:", "the key 'payload_max_bytes' is called arena_bytes now"},
        {"[pool]\npayload_mode = fixed\n", ":2:", "is called arena_mode now"},
        {"[pool]\nmax_payload_bytes = 1\n", ":2:", "is called call_max_bytes now"},
        {"[pool]\npayload_initial_bytes = 1\n", ":2:", "is called arena_initial_bytes now"},
        {"[server]\nstall_free_loops = 1\n", ":2:", "is called busy_poll_turns now"},
        {"[server]\nmax_payload_bytes = 1\n", ":2:", "unknown key 'max_payload_bytes'"},
        {"[pool]\nxyzzyxyzzy = 1\n", ":2:", "unknown key 'xyzzyxyzzy' in section [pool]"},
        {"[pool]\nworkers = 1\nworkers = 2\n", ":3:", "set already on line 2"},
        {"[pool]\nmodules = a\n  b\n", ":3:", "indented"},
        {"[pool]\nnonsense\n", ":2:", "expected [section], key = value or a comment"},
        {"[pol]\n[pool]\nworkers = 1\n", ":1:", "unknown section [pol]; the nearest is [pool]"},
        {"\n[]\n", ":2:", "unknown section []"},
        {"[pool]\n[ pool ]\n", ":2:", "unknown section [ pool ]"},
        {"[xyzzyxyzzy]\nworkers = 1\n",
            ":1:", "unknown section [xyzzyxyzzy]; there are [server] [pool] [worker] [log]"},
        {"[server]\ntls_cert = a\n", ":2:", "the nearest is tls_certificate in [server]"},
        {"[pool\nworkers = 1\n", ":1:", "expected [section]"},
        {"[pool]\nnonsense ; = 1\n", ":2:", "expected [section], key = value or a comment"},
        {"[pool ;]\n", ":1:", "expected [section]"},
        {"[pool]\n ; indented\n", ":2:", "indented"},
        {"[pool]\n\tworkers = 1\n", ":2:", "indented"},
        {"[pool]\n= 1\n", ":2:", "unknown key ''"},
        {"workers = 1\n",
            ":1:", "expected a line with its section above the key 'workers', such as [pool]"},
        {"[server]\nlisten =\n", ":2:", "at least one word"},
        {"[server]\nsocket =\n", ":2:", "some text"},
        {"[pool]\nmodules = a.so https://host/b.so\n", ":2:", "not the address"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        restart();
        assert_int_equal(read_text(cases[i].text, strlen(cases[i].text)), REFUSED);
        expect_why(cases[i].where);
        expect_why(cases[i].what);
    }
}

static void long_lines_are_refused_and_the_longest_is_whole(void **state)
{
    char text[512] = "[pool]\nbootstrap = ";
    size_t head = strlen(text), line_head = head - strlen("[pool]\n");
    size_t fill = KNIT_SETTINGS_LINE_MAX - line_head;

    (void)state;
    memset(text + head, 'x', fill + 1);
    assert_int_equal(read_text(text, head + fill), 0);
    assert_int_equal(strlen(settings.bootstrap), fill);

    restart();
    assert_int_equal(read_text(text, head + fill + 1), REFUSED);
    expect_why(":2:");
    expect_why("longer than");

    restart();
    assert_int_equal(read_text("[pool]\nwork\0ers = 1\n", 20), REFUSED);
    expect_why("NUL");
}

static void spaces_comments_and_marks_end_where_they_should(void **state)
{
    static const char text[] = "\xef\xbb\xbf[pool] what follows is not read\r\n"
                               " \t\r\n"
                               "workers\t:  7\r\n"
                               "bootstrap = a;b = c ; and a comment ; with another\n"
                               ";workers = 8\n#workers = 9\n";

    (void)state;
    if (read_text(text, sizeof(text) - 1) != 0)
        fail_msg("%s", why.text);
    assert_int_equal(settings.workers, 7);
    assert_string_equal(settings.bootstrap, "a;b = c");
}

static void a_file_that_is_not_there_is_named(void **state)
{
    (void)state;
    assert_int_equal(knit_settings_file_read(&settings, "/nonexistent/k.conf", &why), REFUSED);
    expect_why("/nonexistent/k.conf");
}

/* Root may enter every folder, so a loop of links stands for one that may not be entered. */
static void only_a_file_that_is_surely_not_there_is_done_without(void **state)
{
    char *dir = knit_scratch_new(), *file = knit_scratch_file(dir, "file", "", 0);
    char *dangling = knit_scratch_path(dir, "dangling"), *loop = knit_scratch_path(dir, "loop");
    char *absent = knit_scratch_path(dir, "absent"), *in_loop = knit_scratch_path(dir, "loop/k");
    char *in_file = knit_scratch_path(dir, "file/k");

    (void)state;
    assert_int_equal(symlink("/nonexistent/k.conf", dangling), 0);
    assert_int_equal(symlink("loop", loop), 0);
    assert_true(knit_settings_file_is_there(file));
    assert_true(knit_settings_file_is_there(dangling));
    assert_true(knit_settings_file_is_there(in_loop));
    assert_false(knit_settings_file_is_there(absent));
    assert_false(knit_settings_file_is_there(in_file));
    free(file);
    free(dangling);
    free(loop);
    free(absent);
    free(in_loop);
    free(in_file);
    knit_scratch_free(dir);
}

static int parse(int argc, const char **argv, struct knit_command_line *line)
{
    int r = knit_command_line_parse(argc, (char **)(uintptr_t)argv, line, &why);

    return r ? r : knit_command_line_apply(argc, (char **)(uintptr_t)argv, &settings, &why);
}

static void the_command_line_sets_what_the_file_did_not(void **state)
{
    const char *argv[] = {"knittingd", "--config", "x.conf", "--listen=127.0.0.1:1", "--listen",
        "none", "--module", "a.so", "--threads-io=2", "--ready-file=r",
        "--allow-remote-without-authentication", "--check-config"};
    struct knit_command_line line;

    (void)state;
    assert_int_equal(read_text("[server]\nlisten = 127.0.0.1:7\n", 30), 0);
    assert_int_equal(parse(sizeof(argv) / sizeof(argv[0]), argv, &line), 0);
    assert_string_equal(line.config, "x.conf");
    assert_string_equal(line.ready_file, "r");
    assert_int_equal(line.command, KNIT_COMMAND_CHECK_CONFIG);
    assert_int_equal(settings.listen.count, 2);
    assert_string_equal(settings.listen.items[0], "127.0.0.1:1");
    assert_int_equal(settings.threads_io, 2);
    assert_string_equal(settings.modules.items[0], "a.so");
    assert_int_equal(settings.allow_remote_without_authentication, 1);
}

static void a_switch_takes_its_value_from_the_next_word_or_means_on(void **state)
{
    const char *argv[] = {"knittingd", "--udp-sockets", "off", "--unix-sockets", "on",
        "--exec-programs", "--workers", "3", "--allow-remote-without-authentication"};
    struct knit_command_line line;

    (void)state;
    assert_int_equal(parse(sizeof(argv) / sizeof(argv[0]), argv, &line), 0);
    assert_int_equal(settings.udp_sockets, 0);
    assert_int_equal(settings.unix_sockets, 1);
    assert_int_equal(settings.exec_programs, 1);
    assert_int_equal(settings.workers, 3);
    assert_int_equal(settings.allow_remote_without_authentication, 1);
}

static void mistakes_on_the_command_line_are_named(void **state)
{
    static const struct {
        const char *word, *next, *what;
    } cases[] = {
        {"--workrs=1", NULL, "unknown option --workrs; the nearest is --workers"},
        {"--payload-max-bytes=1", NULL,
            "the option --payload-max-bytes is called --arena-bytes now"},
        {"--stall-free-loops=1", NULL, "is called --busy-poll-turns now"},
        {"--zzzzzzzzzzzz", NULL, "--help lists"},
        {"--workers", NULL, "--workers needs a value"},
        {"--ready-file", "--check-config", "--ready-file needs a value"},
        {"--bootstrap", "--log-level", "--bootstrap needs a value"},
        {"--tls-cert=a", NULL, "unknown option --tls-cert; the nearest is --tls-certificate"},
        {"--workers", "0", "command line: pool.workers: expected a number"},
        {"--workers=1", "--workers=2", "given twice"},
        {"--check-config=1", NULL, "--check-config takes no value"},
        {"--udp-sockets", "yes", "worker.udp_sockets: expected on or off, not 'yes'"},
        {"operand", NULL, "'operand'"},
        {"--", NULL, "'--'"},
        {"-x", NULL, "'-x'"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const char *argv[] = {"knittingd", cases[i].word, cases[i].next};
        struct knit_command_line line;

        restart();
        assert_int_equal(parse(cases[i].next != NULL ? 3 : 2, argv, &line), REFUSED);
        expect_why(cases[i].what);
    }
}

static void names_are_unique_and_lead_back_to_their_row(void **state)
{
    (void)state;
    for (size_t i = 0; i < knit_setting_count; i++) {
        const struct knit_setting *row = &knit_setting_table[i];
        char name[64];

        knit_setting_name(row, name, sizeof(name));
        assert_ptr_equal(knit_setting_by_name(name, strlen(name)), row);
        assert_ptr_equal(knit_setting_by_key(row->section, row->key), row);
        assert_non_null(row->help);
        assert_non_null(row->argument);
    }
}

static void a_sentence_that_does_not_fit_is_cut(void **state)
{
    struct knit_sentence sentence;
    char text[KNIT_SENTENCE_MAX + 10];

    (void)state;
    memset(text, 'x', sizeof(text));
    text[sizeof(text) - 1] = '\0';
    assert_int_equal(knit_sentence_set(&sentence, 7, "%s", text), 7);
    assert_int_equal(strlen(sentence.text), KNIT_SENTENCE_MAX - 1);
    knit_sentence_prefix(&sentence, "here");
    assert_int_equal(strlen(sentence.text), KNIT_SENTENCE_MAX - 1);
    assert_memory_equal(sentence.text, "here: xx", 8);
    /* Nothing can be put before it that leaves no room. */
    knit_sentence_prefix(&sentence, text);
    assert_memory_equal(sentence.text, "here: xx", 8);
}

static void debug_names_come_from_both_places(void **state)
{
    const struct knit_setting *debug = knit_setting_by_key("log", "debug");

    (void)state;
    setenv("KNITTING_DEBUG", " signals,imports", 1);
    assert_int_equal(set(debug, "host, lane"), 0);
    assert_int_equal(knit_settings_resolve(&settings, &why), 0);
    assert_int_equal(settings.debug_bits,
        KNIT_DEBUG_HOST | KNIT_DEBUG_LANE | KNIT_DEBUG_SIGNALS | KNIT_DEBUG_IMPORTS);
    settings.level = KNIT_LOG_DEBUG;
    assert_int_equal(knit_settings_resolve(&settings, &why), 0);
    assert_int_equal(settings.debug_bits, KNIT_DEBUG_ALL);
    setenv("KNITTING_DEBUG", "host,hots", 1);
    assert_int_equal(knit_settings_resolve(&settings, &why), REFUSED);
    expect_why("$KNITTING_DEBUG: expected host, lane, signals, imports or lifecycle, not 'hots'");
    unsetenv("KNITTING_DEBUG");

    restart();
    assert_int_equal(set(debug, "lifecycles"), 0);
    assert_int_equal(knit_settings_resolve(&settings, &why), REFUSED);
    expect_why("log.debug: expected host");
}

static void a_folder_is_no_file(void **state)
{
    char *dir = knit_scratch_new();

    (void)state;
    assert_int_equal(knit_settings_file_read(&settings, dir, &why), REFUSED);
    expect_why(dir);
    expect_why("cannot read further");
    knit_scratch_free(dir);
}

static void a_mode_has_no_unit(void **state)
{
    (void)state;
    assert_int_equal(set(knit_setting_by_key("server", "socket_mode"), "1KiB"), REFUSED);
    expect_why("octal");
}

/* What `print` writes to stdout, for free(). */
static char *printed(int (*print)(void))
{
    char *dir = knit_scratch_new(), *path = knit_scratch_file(dir, "printed", "", 0), *text;
    size_t len;
    int kept, fd = open(path, O_WRONLY | O_CLOEXEC);

    (void)fflush(stdout);
    kept = dup(STDOUT_FILENO);
    assert_true(fd >= 0 && kept >= 0 && dup2(fd, STDOUT_FILENO) >= 0);
    assert_int_equal(print(), 0);
    assert_true(dup2(kept, STDOUT_FILENO) >= 0);
    close(kept);
    close(fd);
    text = knit_scratch_read(path, &len);
    free(path);
    knit_scratch_free(dir);
    return text;
}

/* Comments begin with a blank, settings do not. */
static void take_settings_out_of_comments(char *text)
{
    size_t to = 0;

    for (size_t from = 0; text[from] != '\0'; from++) {
        if (from == 0 || text[from - 1] != '\n' || text[from] != '#' || text[from + 1] == ' ')
            text[to++] = text[from];
    }
    text[to] = '\0';
}

static void the_sample_sets_everything_when_it_is_no_comment(void **state)
{
    char *sample = printed(knit_command_line_print_sample);

    (void)state;
    assert_int_equal(read_text(sample, strlen(sample)), 0);
    for (size_t i = 0; i < knit_setting_count; i++)
        assert_int_equal(settings.source[i], KNIT_SOURCE_DEFAULT);

    take_settings_out_of_comments(sample);
    restart();
    if (read_text(sample, strlen(sample)) != 0)
        fail_msg("%s", why.text);
    for (size_t i = 0; i < knit_setting_count; i++)
        assert_int_equal(settings.source[i], KNIT_SOURCE_FILE);
    assert_int_equal(settings.socket_mode, 0660);
    free(sample);
}

static void help_names_every_setting(void **state)
{
    char *help = printed(knit_command_line_print_help);

    (void)state;
    for (size_t i = 0; i < knit_setting_count; i++) {
        char name[64], option[80];

        knit_setting_name(&knit_setting_table[i], name, sizeof(name));
        (void)snprintf(option, sizeof(option), "\n  --%s %s", name, knit_setting_table[i].argument);
        if (strstr(help, option) == NULL)
            fail_msg("--help is silent about --%s", name);
    }
    free(help);
}

#define WITH_DEFAULTS(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_DEFAULTS(defaults_are_what_the_table_says),
        WITH_DEFAULTS(another_unit_is_answered_with_the_ones_there_are),
        WITH_DEFAULTS(every_number_takes_its_bounds_and_nothing_beyond),
        WITH_DEFAULTS(sizes_carry_units),
        WITH_DEFAULTS(words_are_taken_from_their_set),
        WITH_DEFAULTS(ranges_and_defaults_are_those_of_the_pool_s_host),
        WITH_DEFAULTS(the_alias_of_a_balancer_is_the_balancer),
        WITH_DEFAULTS(what_does_not_go_together_is_refused),
        WITH_DEFAULTS(a_file_is_read),
        WITH_DEFAULTS(mistakes_in_a_file_name_line_key_and_expectation),
        WITH_DEFAULTS(long_lines_are_refused_and_the_longest_is_whole),
        WITH_DEFAULTS(spaces_comments_and_marks_end_where_they_should),
        WITH_DEFAULTS(a_file_that_is_not_there_is_named),
        WITH_DEFAULTS(only_a_file_that_is_surely_not_there_is_done_without),
        WITH_DEFAULTS(the_command_line_sets_what_the_file_did_not),
        WITH_DEFAULTS(a_switch_takes_its_value_from_the_next_word_or_means_on),
        WITH_DEFAULTS(mistakes_on_the_command_line_are_named),
        cmocka_unit_test(names_are_unique_and_lead_back_to_their_row),
        cmocka_unit_test(a_sentence_that_does_not_fit_is_cut),
        WITH_DEFAULTS(debug_names_come_from_both_places),
        WITH_DEFAULTS(a_folder_is_no_file),
        WITH_DEFAULTS(a_mode_has_no_unit),
        WITH_DEFAULTS(the_sample_sets_everything_when_it_is_no_comment),
        cmocka_unit_test(help_names_every_setting),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
