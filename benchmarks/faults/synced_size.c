/* Notes, for every file that is synced, how large it was when the sync began: what a power cut
   leaves of it at least. Preloaded into a store; a file <inode> in SYNCED_SIZES holds the size. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static int synced(int descriptor, const char *name) {
    int (*real)(int) = dlsym(RTLD_NEXT, name);
    struct stat before;
    int is_known = fstat(descriptor, &before) == 0;
    int result = real(descriptor);
    const char *folder = getenv("SYNCED_SIZES");
    if (result == 0 && is_known && folder != NULL) {
        char path[4096];
        snprintf(path, sizeof path, "%s/%llu", folder, (unsigned long long)before.st_ino);
        int note = open(path, O_CREAT | O_WRONLY, 0644);
        if (note >= 0) {
            char text[32];
            int length = snprintf(text, sizeof text, "%020llu", (unsigned long long)before.st_size);
            if (pwrite(note, text, length, 0) != length) abort();
            close(note);
        }
    }
    return result;
}

int fsync(int descriptor) { return synced(descriptor, "fsync"); }
int fdatasync(int descriptor) { return synced(descriptor, "fdatasync"); }
