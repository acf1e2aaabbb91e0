// Calls of the C library that change files, counted: the process is killed before one of them, the disk is full after
// so many bytes, or each call takes its time. Loaded before the C library; does nothing until `faults_set`.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

static atomic_long steps, written;
static long kill_at, full_after = -1, slow_us;
static int armed;

// kill: before the call of this number, counted from 1, or 0; full: bytes that fit, or -1; slow: microseconds a call
void faults_set(long kill, long full, long slow) {
  kill_at = kill, full_after = full, slow_us = slow;
  steps = written = 0;
  armed = 1;
}

long faults_steps(void) { return steps; }

static void step(void) {
  if (!armed) return;
  if (slow_us) usleep(slow_us);
  if (++steps == kill_at) {
    kill(getpid(), SIGKILL);
    for (;;) pause();
  }
}

static int full(int file, size_t size) {
  struct stat about;
  if (!armed || full_after < 0 || fstat(file, &about) || !S_ISREG(about.st_mode)) return 0;
  if ((written += size) <= full_after) return 0;
  errno = ENOSPC;
  return 1;
}

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

int fsync(int file) { return step(), NEXT(fsync)(file); }
int fdatasync(int file) { return step(), NEXT(fdatasync)(file); }
int rename(const char *from, const char *to) { return step(), NEXT(rename)(from, to); }
int renameat(int a, const char *from, int b, const char *to) { return step(), NEXT(renameat)(a, from, b, to); }
int renameat2(int a, const char *from, int b, const char *to, unsigned how) {
  return step(), NEXT(renameat2)(a, from, b, to, how);
}
int unlink(const char *path) { return step(), NEXT(unlink)(path); }
int unlinkat(int folder, const char *path, int how) { return step(), NEXT(unlinkat)(folder, path, how); }
int rmdir(const char *path) { return step(), NEXT(rmdir)(path); }

ssize_t write(int file, const void *from, size_t size) {
  if (armed && slow_us) usleep(slow_us);
  return full(file, size) ? -1 : NEXT(write)(file, from, size);
}
ssize_t pwrite(int file, const void *from, size_t size, off_t at) {
  return full(file, size) ? -1 : NEXT(pwrite)(file, from, size, at);
}
ssize_t pwrite64(int file, const void *from, size_t size, off64_t at) {
  return full(file, size) ? -1 : NEXT(pwrite64)(file, from, size, at);
}
