/* SPDX-License-Identifier: Apache-2.0 */
/* One daemon a socket: stale files are replaced, live ones and other things refused, nothing is
 * left behind. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "server/net/socket_file.h"
#include "tests/support/scratch.h"

#define REFUSED KNIT_SOCKET_FILE_E_REFUSED

struct place {
    char *dir;
    char *path;
};

static int set_up(void **state)
{
    struct place *place = calloc(1, sizeof(*place));

    place->dir = knit_scratch_new();
    place->path = knit_scratch_path(place->dir, "k.sock");
    *state = place;
    return 0;
}

static int tear_down(void **state)
{
    struct place *place = *state;

    free(place->path);
    knit_scratch_free(place->dir);
    free(place);
    return 0;
}

static int connect_to(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(strlen(path) < sizeof(address.sun_path));
    memcpy(address.sun_path, path, strlen(path));
    if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
        close(fd);
        return -1;
    }
    return fd;
}

static void it_listens_with_its_mode_and_leaves_nothing(void **state)
{
    struct place *place = *state;
    struct knit_socket_file file;
    struct knit_sentence why;
    struct stat status;
    int fd;

    assert_int_equal(knit_socket_file_open(&file, place->path, 0640, NULL, &why), 0);
    assert_int_equal(stat(place->path, &status), 0);
    assert_int_equal(status.st_mode & 0777, 0640);
    fd = connect_to(place->path);
    assert_true(fd >= 0);
    close(fd);
    knit_socket_file_close(&file);
    knit_socket_file_close(&file);
    assert_int_equal(rmdir(place->dir), 0);
    assert_int_equal(mkdir(place->dir, 0700), 0);
}

static void the_second_is_refused_and_harms_nothing(void **state)
{
    struct place *place = *state;
    struct knit_socket_file first, second;
    struct knit_sentence why;
    int fd;

    assert_int_equal(knit_socket_file_open(&first, place->path, 0600, NULL, &why), 0);
    assert_int_equal(knit_socket_file_open(&second, place->path, 0600, NULL, &why), REFUSED);
    assert_non_null(strstr(why.text, "another knittingd"));
    knit_socket_file_close(&second);
    fd = connect_to(place->path);
    assert_true(fd >= 0);
    close(fd);
    knit_socket_file_close(&first);
    assert_int_equal(knit_socket_file_open(&second, place->path, 0600, NULL, &why), 0);
    knit_socket_file_close(&second);
}

static void what_a_dead_daemon_left_is_replaced(void **state)
{
    struct place *place = *state;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct knit_socket_file file;
    struct knit_sentence why;
    char *lock = knit_scratch_path(place->dir, "k.sock.lock");
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(strlen(place->path) < sizeof(address.sun_path));
    memcpy(address.sun_path, place->path, strlen(place->path));
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(fd, 1), 0);
    assert_int_equal(knit_socket_file_open(&file, place->path, 0600, NULL, &why), REFUSED);
    assert_non_null(strstr(why.text, "another program"));
    close(fd);
    close(open(lock, O_CREAT | O_WRONLY, 0600));
    assert_int_equal(knit_socket_file_open(&file, place->path, 0600, NULL, &why), 0);
    fd = connect_to(place->path);
    assert_true(fd >= 0);
    close(fd);
    knit_socket_file_close(&file);
    free(lock);
}

/* Somebody has removed the files of a daemon that serves, and another one has made its own. */
static void a_successors_files_stay(void **state)
{
    struct place *place = *state;
    struct knit_socket_file first, second;
    struct knit_sentence why;
    char *lock = knit_scratch_path(place->dir, "k.sock.lock");
    int fd;

    assert_int_equal(knit_socket_file_open(&first, place->path, 0600, NULL, &why), 0);
    assert_int_equal(unlink(place->path), 0);
    assert_int_equal(unlink(lock), 0);
    assert_int_equal(knit_socket_file_open(&second, place->path, 0600, NULL, &why), 0);
    knit_socket_file_close(&first);
    fd = connect_to(place->path);
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(knit_socket_file_open(&first, place->path, 0600, NULL, &why), REFUSED);
    assert_non_null(strstr(why.text, "another knittingd"));
    knit_socket_file_close(&second);
    assert_int_equal(access(place->path, F_OK), -1);
    assert_int_equal(access(lock, F_OK), -1);
    free(lock);
}

static void what_is_not_a_socket_stays(void **state)
{
    struct place *place = *state;
    struct knit_socket_file file;
    struct knit_sentence why;

    free(knit_scratch_file(place->dir, "k.sock", "text", 4));
    assert_int_equal(knit_socket_file_open(&file, place->path, 0600, NULL, &why), REFUSED);
    assert_non_null(strstr(why.text, "not a socket"));
    assert_int_equal(access(place->path, F_OK), 0);
}

static void a_relative_path_is_told_in_full(void **state)
{
    struct place *place = *state;
    struct knit_socket_file file;
    struct knit_sentence why;
    int before = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);

    assert_int_equal(chdir(place->dir), 0);
    assert_int_equal(knit_socket_file_open(&file, "k.sock", 0600, NULL, &why), 0);
    assert_string_equal(file.path, place->path);
    knit_socket_file_close(&file);
    assert_int_equal(fchdir(before), 0);
    close(before);
}

static void the_usual_folder_is_made_and_no_other(void **state)
{
    struct place *place = *state;
    struct knit_sentence why;
    char *path, *missing;

    if (geteuid() == 0)
        skip(); /* root's usual place is the system's own */
    setenv("XDG_RUNTIME_DIR", place->dir, 1);
    assert_int_equal(knit_socket_file_usual_path(true, &path, &why), 0);
    assert_non_null(strstr(path, "/knitting/knitting.sock"));
    free(path);
    missing = knit_scratch_path(place->dir, "not/there");
    setenv("XDG_RUNTIME_DIR", missing, 1);
    assert_int_equal(knit_socket_file_usual_path(true, &path, &why), REFUSED);
    assert_non_null(strstr(why.text, "--socket"));
    free(missing);
    unsetenv("XDG_RUNTIME_DIR");
    assert_int_equal(knit_socket_file_usual_path(true, &path, &why), REFUSED);
    assert_non_null(strstr(why.text, "--socket"));
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(it_listens_with_its_mode_and_leaves_nothing),
        TEST(the_second_is_refused_and_harms_nothing),
        TEST(what_a_dead_daemon_left_is_replaced),
        TEST(a_successors_files_stay),
        TEST(what_is_not_a_socket_stays),
        TEST(a_relative_path_is_told_in_full),
        TEST(the_usual_folder_is_made_and_no_other),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
