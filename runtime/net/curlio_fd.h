/* SPDX-License-Identifier: MIT
 * The sockets behind curlio: a table by descriptor, one uv_poll_t each for as
 * long as it is open (two on one number would abort libuv, libuv#2387). A
 * libuv callback only notes the event and raises the source. Part of curlio. */
#ifndef NP_CURLIO_FD_H
#define NP_CURLIO_FD_H

#include "base/list.h"
#include "core/loop.h"

#include <uv.h>

enum { NP_FD_ERROR = 1 << 16 }; /* beside UV_READABLE and UV_WRITABLE */

struct np_fd {
  uv_poll_t poll;
  struct np_list link; /* table's ready */
  struct np_fds *table;
  struct np_curlset *set;      /* NULL: libcurl's own, such as a resolver's */
  struct np_curl_shard *shard; /* the last one that asked for it */
  struct np_list opener; /* its transfer's opened, until it has proved itself */
  uint64_t inode;        /* tells it from a later descriptor of its number */
  int fd;
  int events; /* noted, not yet served */
  int want;   /* what libcurl asks for; 0 while no transfer owns it */
  int armed;  /* what libuv watches */
};

struct np_fds {
  uv_loop_t *uv;            /* borrowed */
  struct np_source *source; /* borrowed; raised when ready fills */
  struct np_list ready;     /* np_fd with events */
  struct np_fd **by_fd;     /* owned */
  int count;
};

void np_fds_init(struct np_fds *table, struct np_loop *l,
                 struct np_source *source);
/* Forgets all. */
void np_fds_fini(struct np_fds *table);

static inline struct np_fd *np_fds_find(const struct np_fds *table, int fd) {
  return fd >= 0 && fd < table->count ? table->by_fd[fd] : NULL;
}
/* Begins to know fd, watching nothing yet. NULL without memory or when it
 * cannot be polled. */
struct np_fd *np_fds_add(struct np_fds *table, int fd);
/* Whether fd is still the one that was added: libcurl closes some unannounced.
 * A system call. */
bool np_fd_alive(const struct np_fd *f);
/* Takes f out of epoll and frees it later; its fd may be closed at once. */
void np_fd_forget(struct np_fd *f);
/* Watches for mask; 0 stops. A system call only when the mask changes. */
void np_fd_arm(struct np_fd *f, int mask);

#endif
