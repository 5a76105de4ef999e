/* SPDX-License-Identifier: MIT */
#include "net/curlio_fd.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

void np_fds_init(struct np_fds *table, struct np_loop *l,
                 struct np_source *source) {
  table->uv = np_loop_uv(l);
  table->source = source;
  table->by_fd = NULL;
  table->count = 0;
  np_list_init(&table->ready);
}

void np_fds_fini(struct np_fds *table) {
  for (int fd = 0; fd < table->count; fd++)
    if (table->by_fd[fd]) np_fd_forget(table->by_fd[fd]);
  free(table->by_fd);
}

static bool reserve(struct np_fds *table, int fd) {
  if (fd < table->count) return true;
  int count = table->count ? table->count : 64;
  while (count <= fd) count *= 2;
  struct np_fd **grown = realloc(table->by_fd, (size_t)count * sizeof *grown);
  if (!grown) return false;
  memset(grown + table->count, 0,
         (size_t)(count - table->count) * sizeof *grown);
  table->by_fd = grown;
  table->count = count;
  return true;
}

/* 0 for none. */
static uint64_t inode_of(int fd) {
  struct stat st;
  return fstat(fd, &st) == 0 ? (uint64_t)st.st_ino : 0;
}

bool np_fd_alive(const struct np_fd *f) {
  return inode_of(f->fd) == f->inode;
}

struct np_fd *np_fds_add(struct np_fds *table, int fd) {
  /* Still known: it was closed behind our back. */
  struct np_fd *stale = np_fds_find(table, fd);
  if (stale) np_fd_forget(stale);
  struct np_fd *f = calloc(1, sizeof *f);
  if (!f || !reserve(table, fd) || uv_poll_init(table->uv, &f->poll, fd) != 0) {
    free(f);
    return NULL;
  }
  uv_unref((uv_handle_t *)&f->poll);
  np_list_init(&f->link);
  np_list_init(&f->opener);
  f->inode = inode_of(fd);
  f->table = table;
  f->fd = fd;
  table->by_fd[fd] = f;
  return f;
}

static void on_closed(uv_handle_t *h) {
  free(np_container_of(h, struct np_fd, poll));
}

void np_fd_forget(struct np_fd *f) {
  f->table->by_fd[f->fd] = NULL;
  np_list_remove(&f->link);
  np_list_remove(&f->opener);
  uv_close((uv_handle_t *)&f->poll, on_closed);
}

static void note(struct np_fd *f, int events) {
  f->events |= events;
  if (np_list_empty(&f->link)) np_list_push_tail(&f->table->ready, &f->link);
  np_source_raise(f->table->source);
}

static void on_poll(uv_poll_t *p, int status, int events) {
  struct np_fd *f = np_container_of(p, struct np_fd, poll);
  if (status < 0) f->armed = 0; /* libuv has stopped polling (libuv#3796) */
  note(f, status < 0 ? NP_FD_ERROR : events);
}

void np_fd_arm(struct np_fd *f, int mask) {
  if (f->armed == mask) return;
  f->armed = mask;
  if (mask == 0) {
    (void)uv_poll_stop(&f->poll); /* never fails */
  } else if (uv_poll_start(&f->poll, mask, on_poll) != 0) {
    f->armed = 0;
    note(f, NP_FD_ERROR);
  }
}
