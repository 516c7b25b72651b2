/* SPDX-License-Identifier: Apache-2.0 */
/* Copied by read() and write(): what it costs is the file's size in memory, once, and the pages are
 * shared by all workers as those of a file would be.
 *
 * A module is loaded by mapping it, so its copy is made not executable; that is what systems ask
 * for that forbid to run memory.
 */
#include "fastpath/control/image.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fastpath/lane/fd.h"
#include "proto/text.h"

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#define MFD_EXEC        0x0010U
#endif

#define SEALS      (F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)
#define PIECE      16384u
#define NAME_BYTES 200 /* of a memfd, at most 249 */

/* A copy, mapped. */
struct view {
    uint8_t *bytes; /* NULL when it is empty */
    size_t size;
};

static int map(int fd, struct view *ret_view)
{
    struct stat status;
    void *bytes = NULL;

    if (fstat(fd, &status) < 0)
        return -errno;
    if (status.st_size > 0)
        bytes = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (bytes == MAP_FAILED)
        return -errno;
    *ret_view = (struct view){bytes, (size_t)status.st_size};
    return 0;
}

static void unmap(const struct view *view)
{
    if (view->bytes != NULL)
        (void)munmap(view->bytes, view->size);
}

/* ---- what is in it ---- */

static bool is_inside(size_t size, uint64_t at, uint64_t len)
{
    return at <= size && len <= size - at;
}

/* Looks through one segment of notes for GNU's build id. */
static void read_notes(const uint8_t *bytes, size_t size, uint64_t align, char *ret_id)
{
    const uint64_t mask = align == 8 ? 7 : 3;
    Elf64_Nhdr note;

    for (uint64_t at = 0; is_inside(size, at, sizeof(note));) {
        uint64_t name = at + sizeof(note), text;

        memcpy(&note, bytes + at, sizeof(note));
        /* Counted from where the note begins, whose head is no multiple of 8. */
        text = at + ((sizeof(note) + note.n_namesz + mask) & ~mask);
        if (!is_inside(size, text, note.n_descsz))
            return;
        if (note.n_type == NT_GNU_BUILD_ID && note.n_namesz == sizeof(ELF_NOTE_GNU) &&
            memcmp(bytes + name, ELF_NOTE_GNU, sizeof(ELF_NOTE_GNU)) == 0) {
            for (uint32_t i = 0; i < note.n_descsz && i < KNIT_IMAGE_ID_BYTES; i++)
                (void)snprintf(ret_id + (size_t)2 * i, 3, "%02x", bytes[text + i]);
            return;
        }
        at = text + ((note.n_descsz + mask) & ~mask);
    }
}

static bool is_elf(const struct view *view)
{
    return view->size >= sizeof(Elf64_Ehdr) && memcmp(view->bytes, ELFMAG, SELFMAG) == 0;
}

static void read_build_id(const struct view *view, char *ret_id)
{
    Elf64_Ehdr head;
    Elf64_Phdr segment;

    if (!is_elf(view) || view->bytes[EI_CLASS] != ELFCLASS64)
        return;
    memcpy(&head, view->bytes, sizeof(head));
    if (head.e_phentsize != sizeof(segment) ||
        !is_inside(view->size, head.e_phoff, (uint64_t)head.e_phnum * sizeof(segment)))
        return;
    for (uint32_t i = 0; i < head.e_phnum; i++) {
        memcpy(&segment, view->bytes + head.e_phoff + i * sizeof(segment), sizeof(segment));
        if (segment.p_type == PT_NOTE && is_inside(view->size, segment.p_offset, segment.p_filesz))
            read_notes(view->bytes + segment.p_offset, segment.p_filesz, segment.p_align, ret_id);
    }
}

/* Whether $ORIGIN or ${ORIGIN} stands anywhere in it: in a path of its libraries or in what it
 * opens itself. */
static bool names_origin(const struct view *view)
{
    static const char word[] = "ORIGIN";
    const uint8_t *from = view->bytes, *end = view->bytes + view->size;

    while (from != NULL && from < end) {
        const uint8_t *found = memmem(from, (size_t)(end - from), word, sizeof(word) - 1);

        if (found == NULL)
            return false;
        if (found - view->bytes >= 2 && (found[-1] == '$' || memcmp(found - 2, "${", 2) == 0))
            return true;
        from = found + 1;
    }
    return false;
}

static bool may_be_frozen(const struct view *view)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    const bool needs_path = true;
#else
    const bool needs_path = false;
#endif

    return !needs_path && is_elf(view) && !names_origin(view);
}

/* ---- copying ---- */

/* Memory for a copy, with the file's name, which shows in lists of mappings. *ret_may_run: the
 * kernel would run it. */
static int new_memory(const char *path, enum knit_image_kind kind, int *ret_fd, bool *ret_may_run)
{
    const unsigned plain = MFD_CLOEXEC | MFD_ALLOW_SEALING;
    const char *slash = strrchr(path, '/');
    char name[NAME_BYTES];
    int fd;

    (void)snprintf(name, sizeof(name), "%s", slash != NULL ? slash + 1 : path);
    *ret_may_run = kind == KNIT_IMAGE_PROGRAM;
    fd = memfd_create(name, plain | (*ret_may_run ? MFD_EXEC : MFD_NOEXEC_SEAL));
    /* Linux before 6.3 knows neither. */
    if (fd < 0 && errno == EINVAL)
        fd = memfd_create(name, plain);
    if (fd < 0 && errno == EACCES) {
        *ret_may_run = false;
        fd = memfd_create(name, plain | MFD_NOEXEC_SEAL);
    }
    *ret_fd = fd;
    return fd < 0 ? -errno : 0;
}

static int write_all(int fd, const uint8_t *bytes, size_t len)
{
    while (len > 0) {
        ssize_t wrote = write(fd, bytes, len);

        if (wrote < 0)
            return -errno;
        bytes += wrote;
        len -= (size_t)wrote;
    }
    return 0;
}

static int copy(int file, int memory)
{
    uint8_t piece[PIECE];
    ssize_t len;
    int error = 0;

    while (error == 0 && (len = read(file, piece, sizeof(piece))) != 0)
        error = len < 0 ? -errno : write_all(memory, piece, (size_t)len);
    return error;
}

static int inspect(struct knit_image *image, bool may_be_used)
{
    struct view view;
    int error = map(image->fd, &view);

    if (error != 0)
        return error;
    read_build_id(&view, image->build_id);
    image->is_frozen = may_be_used && may_be_frozen(&view);
    unmap(&view);
    return 0;
}

int knit_image_open(const char *path, enum knit_image_kind kind, struct knit_image *ret_image,
    struct knit_sentence *ret_why)
{
    struct knit_image image = {.path = path, .fd = -1};
    bool may_run = false;
    int file = open(path, O_RDONLY | O_CLOEXEC);
    int error;

    if (file < 0)
        return knit_sentence_set(ret_why, KNIT_IMAGE_E_REFUSED, "%s: cannot %s: %s", path,
            kind == KNIT_IMAGE_PROGRAM ? "be run" : "open shared object file", strerror(errno));
    error = new_memory(path, kind, &image.fd, &may_run);
    if (error == 0)
        error = copy(file, image.fd);
    (void)close(file);
    if (error == 0 &&
        (fchmod(image.fd, may_run ? 0500 : 0400) < 0 || fcntl(image.fd, F_ADD_SEALS, SEALS) < 0))
        error = -errno;
    if (error == 0)
        error = inspect(&image, may_run || kind == KNIT_IMAGE_MODULE);
    if (error != 0) {
        knit_image_close(&image);
        return knit_sentence_set(
            ret_why, error, "%s: cannot be copied into memory: %s", path, strerror(-error));
    }
    *ret_image = image;
    return 0;
}

const char *knit_image_file(const struct knit_image *image)
{
    const char *slash = strrchr(image->path, '/');
    const char *name = slash != NULL ? slash + 1 : image->path;

    return knit_text_is_utf8(name, strlen(name)) ? name : "?";
}

void knit_image_close(struct knit_image *image)
{
    knit_fd_close(&image->fd);
}

/* ---- using it ---- */

/* The file is read and not mapped: it may be cut short meanwhile. */
static int compare_with(const struct view *view, int file)
{
    uint8_t piece[PIECE];
    size_t done = 0;
    ssize_t len;

    while ((len = read(file, piece, sizeof(piece))) != 0) {
        if (len < 0)
            return -errno;
        if (!is_inside(view->size, done, (size_t)len) ||
            memcmp(view->bytes + done, piece, (size_t)len) != 0)
            return KNIT_IMAGE_E_CHANGED;
        done += (size_t)len;
    }
    return done == view->size ? 0 : KNIT_IMAGE_E_CHANGED;
}

int knit_image_compare(const char *path, int fd)
{
    int file = open(path, O_RDONLY | O_CLOEXEC);
    struct view view;
    int error;

    if (file < 0)
        return -errno;
    error = map(fd, &view);
    if (error == 0) {
        error = compare_with(&view, file);
        unmap(&view);
    }
    (void)close(file);
    return error;
}

void knit_image_name(int fd, char ret_name[KNIT_IMAGE_NAME_SIZE])
{
    (void)snprintf(ret_name, KNIT_IMAGE_NAME_SIZE, "/proc/self//fd/%d", fd);
}
