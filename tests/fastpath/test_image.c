/* SPDX-License-Identifier: Apache-2.0 */
/* Copies of files: nobody can change one, what is read of it stays inside it, and what cannot be
 * used from memory is found. Method: files made here, whole and damaged at each byte of their
 * heads. */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "fastpath/control/image.h"
#include "tests/support/scratch.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define FREEZES false
#else
#define FREEZES true
#endif

/* The head of a program with one segment of notes: another note, then the build id. */
struct file {
    Elf64_Ehdr head;
    Elf64_Phdr segment;
    Elf64_Nhdr other;
    char other_name[8], other_text[4];
    Elf64_Nhdr note;
    char name[4];
    uint8_t id[20];
    char rest[64];
};

static void make(struct file *file)
{
    *file = (struct file){.head = {.e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64},
                              .e_phoff = offsetof(struct file, segment),
                              .e_phentsize = sizeof(Elf64_Phdr),
                              .e_phnum = 1},
        .segment = {.p_type = PT_NOTE,
            .p_offset = offsetof(struct file, other),
            .p_filesz = offsetof(struct file, rest) - offsetof(struct file, other),
            .p_align = 4},
        .other = {.n_namesz = 5, .n_descsz = 1, .n_type = 1},
        .other_name = "None",
        .note = {.n_namesz = 4, .n_descsz = 20, .n_type = NT_GNU_BUILD_ID},
        .name = "GNU"};
    for (uint8_t i = 0; i < sizeof(file->id); i++)
        file->id[i] = i;
}

static void put(const char *path, const void *bytes, size_t len)
{
    FILE *file = fopen(path, "we");

    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, len, file), len);
    assert_int_equal(fclose(file), 0);
}

static void copy(const char *path, const void *bytes, size_t len, enum knit_image_kind kind,
    struct knit_image *ret)
{
    struct knit_sentence why = {""};

    put(path, bytes, len);
    assert_int_equal(knit_image_open(path, kind, ret, &why), 0);
}

/* In a segment whose parts are aligned to eight bytes the first text begins at 24, and the second
 * note behind it at 32. */
static void notes_of_either_alignment_are_read(void **state)
{
    const char *path = *state;
    struct knit_image image;
    struct file file;
    char *notes = (char *)&file.other;

    make(&file);
    file.segment.p_align = 8;
    file.segment.p_filesz = 32 + sizeof(file.note) + sizeof(file.name) + sizeof(file.id);
    memmove(notes + 32, &file.note, sizeof(file.note) + sizeof(file.name) + sizeof(file.id));
    copy(path, &file, sizeof(file), KNIT_IMAGE_MODULE, &image);
    assert_string_equal(image.build_id, "000102030405060708090a0b0c0d0e0f10111213");
    knit_image_close(&image);
}

static void a_copy_stays_as_it_is(void **state)
{
    const char *path = *state;
    struct knit_image image;
    struct file file;

    make(&file);
    copy(path, &file, sizeof(file), KNIT_IMAGE_MODULE, &image);
    assert_string_equal(image.build_id, "000102030405060708090a0b0c0d0e0f10111213");
    assert_int_equal(image.is_frozen, FREEZES);
    assert_int_equal(knit_image_compare(path, image.fd), 0);
    assert_int_equal(pwrite(image.fd, "x", 1, 0), -1);
    assert_int_equal(errno, EPERM);
    assert_int_equal(ftruncate(image.fd, 0), -1);
    assert_int_equal(fcntl(image.fd, F_GETFD), FD_CLOEXEC);
    /* One byte, fewer, more. */
    file.id[3] ^= 1;
    put(path, &file, sizeof(file));
    assert_int_equal(knit_image_compare(path, image.fd), KNIT_IMAGE_E_CHANGED);
    put(path, &file, sizeof(file) / 2);
    assert_int_equal(knit_image_compare(path, image.fd), KNIT_IMAGE_E_CHANGED);
    file.id[3] ^= 1;
    put(path, (uint8_t[sizeof(file) + 1]){0}, sizeof(file) + 1);
    assert_int_equal(knit_image_compare(path, image.fd), KNIT_IMAGE_E_CHANGED);
    put(path, &file, sizeof(file));
    assert_int_equal(knit_image_compare(path, image.fd), 0);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(knit_image_compare(path, image.fd), -ENOENT);
    knit_image_close(&image);
    knit_image_close(&image);
}

static void a_large_file_is_copied_whole(void **state)
{
    const char *path = *state;
    size_t len = (1u << 20) + 77;
    uint8_t *bytes = malloc(len);
    struct knit_image image;

    assert_non_null(bytes);
    for (size_t i = 0; i < len; i++)
        bytes[i] = (uint8_t)(i * 31 >> 3);
    copy(path, bytes, len, KNIT_IMAGE_MODULE, &image);
    assert_int_equal(knit_image_compare(path, image.fd), 0);
    bytes[len - 1] ^= 1;
    put(path, bytes, len);
    assert_int_equal(knit_image_compare(path, image.fd), KNIT_IMAGE_E_CHANGED);
    knit_image_close(&image);
    free(bytes);
}

/* What is found in the file at the end, and whether it is used from memory. */
static void expect_frozen(const char *path, const char *text, bool is_frozen)
{
    struct knit_image image;
    struct file file;

    make(&file);
    (void)snprintf(file.rest, sizeof(file.rest), "%s", text);
    copy(path, &file, sizeof(file), KNIT_IMAGE_PROGRAM, &image);
    assert_int_equal(image.is_frozen, is_frozen && FREEZES);
    knit_image_close(&image);
}

static void files_that_need_their_place_are_not_frozen(void **state)
{
    const char *path = *state;
    struct knit_image image;

    expect_frozen(path, "ORIGIN and ORIGINAL, {ORIGIN}", true);
    expect_frozen(path, "$ORIGIN/../lib", false);
    expect_frozen(path, "/lib:${ORIGIN}", false);
    expect_frozen(path, "ORIGIN:$ORIGIN", false);
    copy(path, "#!/bin/sh\n", 10, KNIT_IMAGE_PROGRAM, &image);
    assert_false(image.is_frozen);
    assert_string_equal(image.build_id, "");
    knit_image_close(&image);
    copy(path, "", 0, KNIT_IMAGE_MODULE, &image);
    assert_false(image.is_frozen);
    assert_int_equal(knit_image_compare(path, image.fd), 0);
    knit_image_close(&image);
}

static void damaged_heads_have_no_build_id_or_one_of_theirs(void **state)
{
    const char *path = *state;
    static const uint8_t values[] = {0, 1, 0x7f, 0x80, 0xff};
    struct knit_image image;
    struct file file;

    for (size_t at = 0; at < offsetof(struct file, id); at++) {
        for (size_t i = 0; i < sizeof(values); i++) {
            make(&file);
            ((uint8_t *)&file)[at] = values[i];
            copy(path, &file, sizeof(file), KNIT_IMAGE_MODULE, &image);
            assert_true(strlen(image.build_id) <= 2 * (size_t)KNIT_IMAGE_ID_BYTES);
            knit_image_close(&image);
        }
    }
    make(&file);
    for (size_t len = 0; len < sizeof(file); len++) {
        copy(path, &file, len, KNIT_IMAGE_MODULE, &image);
        assert_string_equal(image.build_id,
            len >= offsetof(struct file, rest) ? "000102030405060708090a0b0c0d0e0f10111213" : "");
        knit_image_close(&image);
    }
}

static void what_cannot_be_copied_is_named(void **state)
{
    struct knit_image image;
    struct knit_sentence why = {""};

    (void)state;
    assert_int_equal(
        knit_image_open("/nowhere/x", KNIT_IMAGE_PROGRAM, &image, &why), KNIT_IMAGE_E_REFUSED);
    assert_string_equal(why.text, "/nowhere/x: cannot be run: No such file or directory");
    assert_int_equal(knit_image_open("/", KNIT_IMAGE_MODULE, &image, &why), -EISDIR);
    assert_string_equal(why.text, "/: cannot be copied into memory: Is a directory");
}

static int set_up(void **state)
{
    char *folder = knit_scratch_new();

    *state = knit_scratch_path(folder, "file");
    free(folder);
    return 0;
}

static int tear_down(void **state)
{
    char *path = *state;

    *strrchr(path, '/') = '\0';
    knit_scratch_free(path);
    return 0;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_copy_stays_as_it_is),
        TEST(notes_of_either_alignment_are_read),
        TEST(a_large_file_is_copied_whole),
        TEST(files_that_need_their_place_are_not_frozen),
        TEST(damaged_heads_have_no_build_id_or_one_of_theirs),
        TEST(what_cannot_be_copied_is_named),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
