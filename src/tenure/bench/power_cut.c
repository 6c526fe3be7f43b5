/* What a disk keeps when the power goes: only what was synced.
 *
 * Preloaded into a process (LD_PRELOAD), it copies each file of the watched folder aside whenever the process syncs it,
 * by inode, and notes which names a sync made durable. `power.restore` rebuilds the folder from that. As on ext4, syncing
 * a new file makes its own name durable; other changes of names (rename, unlink) last once their folder was synced.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static const char *home(void) { return getenv("POWER_CUT_HOME"); }
static const char *shadow(void) { return getenv("POWER_CUT_SHADOW"); }

static void note(const char *text) {
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/log", shadow());
    int log = open(path, O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (log >= 0) {
        if (write(log, text, strlen(text)) < 0) { /* a torn line is not counted */ }
        close(log);
    }
}

static void keep_file(int fd, const struct stat *found, const char *name) {
    char aside[PATH_MAX], kept[PATH_MAX], line[PATH_MAX + 64], block[1 << 16];
    snprintf(aside, sizeof aside, "%s/%lu.new", shadow(), (unsigned long)found->st_ino);
    snprintf(kept, sizeof kept, "%s/%lu", shadow(), (unsigned long)found->st_ino);
    int copy = open(aside, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    /* Read through the caller's own descriptor: opening and closing an SQLite file here would drop SQLite's locks. */
    int readable = (fcntl(fd, F_GETFL) & O_ACCMODE) != O_WRONLY;
    int source = readable ? fd : open(name, O_RDONLY);
    off_t place = 0;
    ssize_t num_bytes;
    while (source >= 0 && copy >= 0 && (num_bytes = pread(source, block, sizeof block, place)) > 0) {
        if (write(copy, block, (size_t)num_bytes) != num_bytes) break;
        place += num_bytes;
    }
    if (source >= 0 && !readable) close(source);
    if (copy >= 0) close(copy);
    rename(aside, kept);
    snprintf(line, sizeof line, "F\t%lu\t%s\n", (unsigned long)found->st_ino, name + strlen(home()) + 1);
    note(line);
}

static void keep_folder(const char *name) {
    char line[PATH_MAX + 64], path[PATH_MAX];
    snprintf(line, sizeof line, "D\t0\t%s\n", strcmp(name, home()) ? name + strlen(home()) + 1 : "");
    note(line);
    DIR *folder = opendir(name);
    for (struct dirent *entry; folder && (entry = readdir(folder));) {
        struct stat found;
        if (snprintf(path, sizeof path, "%s/%s", name, entry->d_name) >= (int)sizeof path) continue;
        if (entry->d_name[0] != '.' && lstat(path, &found) == 0) {
            snprintf(line, sizeof line, "%c\t%lu\t%s\n", S_ISDIR(found.st_mode) ? 'S' : 'E', (unsigned long)found.st_ino,
                     path + strlen(home()) + 1);
            note(line);
        }
    }
    if (folder) closedir(folder);
}

static void keep(int fd) {
    char link[64], name[PATH_MAX];
    struct stat found;
    if (!home() || !shadow()) return;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, name, sizeof name - 1);
    if (length <= 0 || fstat(fd, &found) != 0) return;
    name[length] = 0;
    if (strncmp(name, home(), strlen(home())) != 0) return;
    pthread_mutex_lock(&lock);
    if (S_ISDIR(found.st_mode)) keep_folder(name);
    else keep_file(fd, &found, name);
    pthread_mutex_unlock(&lock);
}

int fsync(int fd) {
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    int result = real(fd);
    if (result == 0) keep(fd);
    return result;
}

int fdatasync(int fd) {
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    int result = real(fd);
    if (result == 0) keep(fd);
    return result;
}
