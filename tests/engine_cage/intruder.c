/* What somebody would do who got hold of the engine's process while it parses a model file.
 *
 * Loaded into the real engine in front of the C library. When llama.cpp opens the model, one
 * attempt is made from there, by INTRUDER in the environment, and its outcome told on standard
 * error: "through", or the number of the error. A call that ends the process says nothing.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static void *nothing(void *it) { return it; }

/* The file that is at stake. */
static const char *at(void) { return getenv("INTRUDER_AT"); }

static int opened(const char *path, int flags) {
  int fd = open(path, flags, 0600);
  char byte;
  /* A file that can be opened and not read would be no way out either. */
  if (fd >= 0 && (flags & O_ACCMODE) == O_RDONLY && read(fd, &byte, 1) < 0) return -1;
  return fd;
}

/* Nothing lies at the beginning of a memory, so that one is opened only. */
static int of_parent(const char *file, int read_it) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/%s", getppid(), file);
  return read_it ? opened(path, O_RDONLY) : open(path, O_RDONLY);
}

static long attempt(const char *what) {
  char *none[] = {NULL};
  char byte = 0;
  struct iovec mine = {&byte, 1}, theirs = {at, 1};
  struct rlimit more = {RLIM_INFINITY, RLIM_INFINITY};
  pthread_t thread;
  if (!strcmp(what, "tcp")) return socket(AF_INET, SOCK_STREAM, 0);
  if (!strcmp(what, "udp")) return socket(AF_INET6, SOCK_DGRAM, 0);
  if (!strcmp(what, "unix")) return socket(AF_UNIX, SOCK_STREAM, 0);
  if (!strcmp(what, "pair")) return socketpair(AF_UNIX, SOCK_STREAM, 0, (int[2]){0});
  if (!strcmp(what, "read")) return opened(at(), O_RDONLY);
  if (!strcmp(what, "list")) return open("/", O_RDONLY | O_DIRECTORY);
  if (!strcmp(what, "write")) return opened(at(), O_WRONLY);
  if (!strcmp(what, "create")) return opened("/tmp/lineside-intruder", O_RDWR | O_CREAT);
  if (!strcmp(what, "nameless")) return opened("/tmp", O_RDWR | O_TMPFILE);
  if (!strcmp(what, "memfd")) return memfd_create("intruder", 0);
  if (!strcmp(what, "truncate")) return truncate(at(), 0);
  if (!strcmp(what, "chmod")) return chmod(at(), 0666);
  if (!strcmp(what, "unlink")) return unlink("/tmp/lineside-intruder-nowhere") && errno == ENOENT ? 0 : -1;
  if (!strcmp(what, "mkdir")) return mkdir("/tmp", 0700) && errno == EEXIST ? 0 : -1;
  if (!strcmp(what, "exec")) return execve("/bin/true", none, none);
  if (!strcmp(what, "fork")) {
    long child = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
    if (child == 0) _exit(0);
    return child;
  }
  if (!strcmp(what, "space")) return unshare(CLONE_NEWUTS);
  if (!strcmp(what, "ptrace")) return ptrace(PTRACE_SEIZE, getppid(), 0, 0);
  if (!strcmp(what, "memory")) return of_parent("mem", 0);
  if (!strcmp(what, "environment")) return of_parent("environ", 1);
  if (!strcmp(what, "peek")) return process_vm_readv(getppid(), &mine, 1, &theirs, 1, 0) < 0 && errno == EFAULT ? 0 : -1;
  if (!strcmp(what, "signal")) return kill(getppid(), 0);
  if (!strcmp(what, "limits")) return syscall(SYS_prlimit64, 0, RLIMIT_CORE, &more, NULL);
  if (!strcmp(what, "mount")) return mount("none", "/mnt", "tmpfs", 0, NULL);
  if (!strcmp(what, "code")) return mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED ? -1 : 0;
  if (!strcmp(what, "thread")) return pthread_create(&thread, NULL, nothing, NULL) ? -1 : pthread_join(thread, NULL);
  return -1;
}

static FILE *intercept(const char *name, const char *path, const char *mode) {
  const char *what = getenv("INTRUDER"), *end = strrchr(path, '.');
  if (what && end && !strcmp(end, ".gguf")) {
    errno = 0;
    long result = attempt(what);
    int error = errno;
    if (result >= 0) dprintf(2, "through\n");
    else dprintf(2, "error %d\n", error);
    _exit(0);
  }
  FILE *(*next)(const char *, const char *) = dlsym(RTLD_NEXT, name);
  return next(path, mode);
}

FILE *fopen(const char *path, const char *mode) { return intercept("fopen", path, mode); }
FILE *fopen64(const char *path, const char *mode) { return intercept("fopen64", path, mode); }

/* A kernel without some of it: INTRUDER_LACKS names the call that it does not know. */
long syscall(long number, ...) {
  const char *lacks = getenv("INTRUDER_LACKS");
  if (lacks && atol(lacks) == number) {
    errno = ENOSYS;
    return -1;
  }
  va_list list;
  va_start(list, number);
  long a[6];
  for (int i = 0; i < 6; i++) a[i] = va_arg(list, long);
  va_end(list);
  long (*next)(long, ...) = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
  return next(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}
