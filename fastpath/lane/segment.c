/* SPDX-License-Identifier: Apache-2.0 */
/* memfds with their mode, seals and mapping flags in one place, so that no caller can forget
 * one. */
#include "fastpath/lane/segment.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define SIZE_SEALS (F_SEAL_SHRINK | F_SEAL_GROW)
#define LAST_SEALS (F_SEAL_FUTURE_WRITE | F_SEAL_SEAL)

static int create(const char *name, uint64_t bytes, int seals, int *ret_fd)
{
    int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return -errno;
    if (fchmod(fd, 0600) < 0 || ftruncate(fd, (off_t)bytes) < 0 ||
        fcntl(fd, F_ADD_SEALS, seals) < 0) {
        int error = -errno;
        close(fd);
        return error;
    }
    *ret_fd = fd;
    return 0;
}

int knit_segment_create(const char *name, uint64_t bytes, int *ret_fd)
{
    return create(name, bytes, SIZE_SEALS | F_SEAL_SEAL, ret_fd);
}

int knit_segment_create_unsealed(const char *name, uint64_t bytes, int *ret_fd)
{
    return create(name, bytes, SIZE_SEALS, ret_fd);
}

int knit_segment_seal(int fd)
{
    return fcntl(fd, F_ADD_SEALS, LAST_SEALS) < 0 ? -errno : 0;
}

bool knit_segment_is_sealed(int fd)
{
    int seals = fcntl(fd, F_GET_SEALS);
    return seals >= 0 && (seals & (SIZE_SEALS | LAST_SEALS)) == (SIZE_SEALS | LAST_SEALS);
}

static int reopen(int fd, int flags, int *ret_fd)
{
    char path[64];
    int copy;
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    copy = open(path, flags | O_CLOEXEC);
    if (copy < 0)
        return -errno;
    *ret_fd = copy;
    return 0;
}

int knit_segment_reopen_readonly(int fd, int *ret_fd)
{
    return reopen(fd, O_RDONLY, ret_fd);
}

int knit_segment_reopen(int fd, int *ret_fd)
{
    return reopen(fd, O_RDWR, ret_fd);
}

int knit_segment_map(int fd, uint64_t bytes, bool writable, struct knit_mapping *ret)
{
    const int wanted = writable ? SIZE_SEALS : SIZE_SEALS | F_SEAL_SEAL;
    int seals = fcntl(fd, F_GET_SEALS);
    struct stat status;
    void *base;
    if (seals < 0)
        return -errno;
    if ((seals & wanted) != wanted)
        return KNIT_SEGMENT_E_UNSEALED;
    if (fstat(fd, &status) < 0)
        return -errno;
    if (status.st_size < 0 || (uint64_t)status.st_size != bytes)
        return KNIT_SEGMENT_E_SIZE;
    base = mmap(NULL, bytes, writable ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, fd, 0);
    if (base == MAP_FAILED)
        return -errno;
    if (madvise(base, bytes, MADV_DONTFORK) < 0 || madvise(base, bytes, MADV_DONTDUMP) < 0) {
        int error = -errno;
        munmap(base, bytes);
        return error;
    }
    ret->base = base;
    ret->bytes = bytes;
    return 0;
}

void knit_segment_unmap(struct knit_mapping *mapping)
{
    if (mapping->base != NULL)
        munmap(mapping->base, mapping->bytes);
    *mapping = (struct knit_mapping){0};
}
