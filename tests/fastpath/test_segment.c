/* SPDX-License-Identifier: Apache-2.0 */
/* Segments and layout. Goal: no process can shrink, grow or re-open a descriptor that was passed to
 * it, and sizes and pointers agree. Method: try it, as another uid when the test runs as root. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "fastpath/lane/layout.h"
#include "fastpath/lane/segment.h"

static void a_segment_keeps_its_size(void **state)
{
    int fd;
    struct stat status;

    (void)state;
    assert_int_equal(knit_segment_create("knit-test", 8192, &fd), 0);
    assert_int_equal(ftruncate(fd, 4096), -1);
    assert_int_equal(errno, EPERM);
    assert_int_equal(ftruncate(fd, 16384), -1);
    assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), -1);
    assert_int_equal(fstat(fd, &status), 0);
    assert_int_equal(status.st_mode & 0777, 0600);
    close(fd);
}

static void short_and_unsealed_segments_are_refused(void **state)
{
    struct knit_mapping mapping;
    int fd;

    (void)state;
    mapping = (struct knit_mapping){0};
    assert_int_equal(knit_segment_create("knit-test", 8192, &fd), 0);
    assert_int_equal(knit_segment_map(fd, 4096, true, &mapping), KNIT_SEGMENT_E_SIZE);
    assert_int_equal(knit_segment_map(fd, 16384, true, &mapping), KNIT_SEGMENT_E_SIZE);
    close(fd);
    fd = memfd_create("knit-test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    assert_int_equal(ftruncate(fd, 8192), 0);
    assert_int_equal(knit_segment_map(fd, 8192, true, &mapping), KNIT_SEGMENT_E_UNSEALED);
    close(fd);
    fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    assert_true(knit_segment_map(fd, 8192, true, &mapping) != 0);
    close(fd);
    assert_null(mapping.base);
}

/* Of another process: its writer's mapping goes on storing, and no page can be removed. */
static void an_unsealed_segment_is_sealed_by_its_writer(void **state)
{
    const int punch = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    struct knit_mapping writer, reader;
    int fd, copy;

    (void)state;
    assert_int_equal(knit_segment_create_unsealed("knit-test", 8192, &fd), 0);
    assert_int_equal(knit_segment_reopen_readonly(fd, &copy), 0);
    assert_int_equal(ftruncate(fd, 4096), -1);
    assert_int_equal(knit_segment_map(copy, 8192, false, &reader), KNIT_SEGMENT_E_UNSEALED);
    assert_int_equal(knit_segment_map(fd, 8192, true, &writer), 0);
    assert_int_equal(fallocate(fd, punch, 0, 8192), 0);
    assert_false(knit_segment_is_sealed(copy));
    assert_int_equal(knit_segment_seal(copy), -EPERM);
    assert_int_equal(knit_segment_seal(fd), 0);
    assert_true(knit_segment_is_sealed(copy));
    assert_int_equal(fallocate(fd, punch, 0, 8192), -1);
    assert_int_equal(errno, EPERM);
    assert_int_equal(madvise(writer.base, 8192, MADV_REMOVE), -1);
    assert_ptr_equal(mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), MAP_FAILED);
    assert_int_equal(pwrite(fd, "x", 1, 0), -1);
    assert_int_equal(knit_segment_map(copy, 8192, false, &reader), 0);
    memcpy(writer.base, "seen", 5);
    assert_string_equal(reader.base, "seen");
    assert_int_equal(mprotect(reader.base, 8192, PROT_READ | PROT_WRITE), -1);
    knit_segment_unmap(&writer);
    knit_segment_unmap(&reader);
    close(fd);
    close(copy);
    assert_int_equal(knit_segment_create("knit-test", 8192, &fd), 0);
    assert_int_equal(knit_segment_seal(fd), -EPERM);
    assert_false(knit_segment_is_sealed(fd));
    close(fd);
    fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    assert_int_equal(knit_segment_seal(fd), -EINVAL);
    assert_false(knit_segment_is_sealed(fd));
    close(fd);
}

static void the_read_only_descriptor_cannot_write(void **state)
{
    int fd, reader;
    struct knit_mapping mine, theirs;

    (void)state;
    assert_int_equal(knit_segment_create("knit-test", 4096, &fd), 0);
    assert_int_equal(knit_segment_reopen_readonly(fd, &reader), 0);
    assert_int_equal(write(reader, "x", 1), -1);
    assert_ptr_equal(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, reader, 0), MAP_FAILED);
    assert_int_equal(knit_segment_map(fd, 4096, true, &mine), 0);
    assert_int_equal(knit_segment_map(reader, 4096, false, &theirs), 0);
    memcpy(mine.base, "seen", 5);
    assert_string_equal(theirs.base, "seen");
    knit_segment_unmap(&mine);
    knit_segment_unmap(&theirs);
    assert_null(mine.base);
    knit_segment_unmap(&mine);
    if (geteuid() != 0) {
        print_message("not root: re-opening as another uid was not tried\n");
    } else {
        pid_t child = fork();
        int status;
        if (child == 0) {
            char path[64];
            snprintf(path, sizeof(path), "/proc/self/fd/%d", reader);
            if (setgid(65534) != 0 || setuid(65534) != 0)
                _exit(2);
            _exit(open(path, O_RDWR) < 0 ? 0 : 1);
        }
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_int_equal(status, 0);
    }
    close(fd);
    close(reader);
}

static struct knit_geometry geometry_of(uint32_t lanes, uint32_t slots, uint64_t arena)
{
    return (struct knit_geometry){.version = KNIT_LAYOUT_VERSION,
        .lanes = lanes,
        .slots = slots,
        .cells = knit_geometry_cells(slots),
        .features = KNIT_FEATURES,
        .classes = KNIT_CLASSES_MAX,
        .request_arena_bytes = arena,
        .reply_arena_bytes = arena};
}

static void sizes_hold_all_pointers(void **state)
{
    const uint32_t lanes[] = {1, 2, 16, 256}, slots[] = {1, 16, 1008, KNIT_SLOTS_MAX};
    struct knit_geometry usual;

    (void)state;
    for (size_t i = 0; i < 4; i++) {
        for (size_t j = 0; j < 4; j++) {
            struct knit_geometry geometry = geometry_of(lanes[i], slots[j], 65536);
            struct knit_request_view request;
            struct knit_reply_view reply;
            uintptr_t base;
            assert_null(knit_geometry_check(&geometry));
            base = 1 << 20;
            knit_layout_request(&geometry, (void *)base, &request);
            knit_layout_reply(&geometry, (void *)base, &reply);
            assert_int_equal(
                (uintptr_t)request.arena + 65536 - base, knit_layout_request_bytes(&geometry));
            assert_int_equal((uintptr_t)reply.arena + 65536ull * lanes[i] - base,
                knit_layout_reply_bytes(&geometry));
            assert_int_equal((uintptr_t)request.ring % 128, 0);
            assert_int_equal((uintptr_t)reply.reply % 128, 0);
            assert_true((uintptr_t)(request.ring + (size_t)lanes[i] * geometry.classes *
                                                       geometry.cells) <= (uintptr_t)request.arena);
        }
    }
    usual = geometry_of(2, 1008, 0);
    assert_int_equal(usual.cells, 1024);
}

static void bad_geometries_are_named(void **state)
{
    const struct knit_geometry good = geometry_of(2, 100, 4096);
    struct knit_geometry bad[13];

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        bad[i] = good;
    bad[0].version = KNIT_LAYOUT_VERSION + 1;
    bad[1].lanes = 0;
    bad[2].lanes = KNIT_LANES_MAX + 1;
    bad[3].slots = 0;
    bad[4].slots = KNIT_SLOTS_MAX + 1;
    bad[5].cells = 127;
    bad[6].cells = 64;
    bad[7].request_arena_bytes = 4095;
    bad[8].reply_arena_bytes = KNIT_ARENA_MAX + 4096;
    bad[9].classes = 0;
    bad[10].classes = KNIT_CLASSES_MAX + 1;
    bad[11].features = KNIT_FEATURES + 1;
    bad[12].streams = 1;
    assert_null(knit_geometry_check(&good));
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_non_null(knit_geometry_check(&bad[i]));
}

static void packed_words_are_split_into_their_parts(void **state)
{
    uint64_t ctrl, word, meta;

    (void)state;
    ctrl = knit_ctrl(KNIT_GEN_MASK - 5, 16367, 1023);
    assert_int_equal(knit_ctrl_gen(ctrl), KNIT_GEN_MASK - 5);
    assert_int_equal(knit_ctrl_slot(ctrl), 16367);
    assert_int_equal(knit_ctrl_tag(ctrl), 1023);
    word = knit_word(KNIT_GEN_MASK, 255, 65535);
    assert_int_equal(knit_word_gen(word), KNIT_GEN_MASK);
    assert_int_equal(knit_word_status(word), 255);
    assert_int_equal(knit_word_flags(word), 65535);
    assert_int_equal(knit_gen_diff(0, KNIT_GEN_MASK), 1);
    assert_int_equal(knit_gen_diff(KNIT_GEN_MASK, 0), -1);
    assert_int_equal(knit_gen_next(KNIT_GEN_MASK), 0);
    meta = knit_meta(65535, 255, 255, UINT32_MAX);
    assert_int_equal(knit_meta_task(meta), 65535);
    assert_int_equal(knit_meta_epoch(meta), 255);
    assert_int_equal(knit_meta_len(meta), UINT32_MAX);
    for (uint64_t ns = 1; ns < UINT64_C(1) << 42; ns += ns / 3 + 1) {
        meta = knit_meta(65535, 0, 0, UINT32_MAX) | knit_meta_of_run(ns);
        assert_int_equal(knit_meta_lane(meta), 65535);
        assert_int_equal(knit_meta_len(meta), UINT32_MAX);
        assert_in_range(knit_meta_run_ns(meta), ns - ns / 1024, ns);
    }
    assert_int_equal(knit_meta_run_ns(knit_meta(65535, 0, 0, UINT32_MAX)), 0);
    assert_int_equal(knit_meta_run_ns(knit_meta_of_run(0)), 1);
    assert_int_equal(knit_meta_run_ns(knit_meta_of_run(UINT64_MAX)), UINT64_C(2047) << 31);
    assert_int_equal(knit_tag(0, 32), 1);
    assert_int_equal(knit_tag(1023 * 32, 32), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_segment_keeps_its_size),
        cmocka_unit_test(short_and_unsealed_segments_are_refused),
        cmocka_unit_test(an_unsealed_segment_is_sealed_by_its_writer),
        cmocka_unit_test(the_read_only_descriptor_cannot_write),
        cmocka_unit_test(sizes_hold_all_pointers),
        cmocka_unit_test(bad_geometries_are_named),
        cmocka_unit_test(packed_words_are_split_into_their_parts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
