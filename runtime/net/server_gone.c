/* SPDX-License-Identifier: MIT */
#include "net/server_impl.h"

#include <poll.h>
#include <stdlib.h>

bool np_request_disconnected(const struct np_request *r) {
  if (!r->conn) return r->outcome != NP_OUTCOME_SENT;
  if (r->aborted || r->has_left) return true;
  struct pollfd p = {.fd = r->fd, .events = POLLRDHUP};
  return poll(&p, 1, 0) > 0 &&
         (p.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
}

static void free_handle(uv_handle_t *h) {
  free(h);
}

void np_request_unwatch(struct np_request *r) {
  if (!r->watch) return;
  (void)uv_poll_stop(r->watch);
  uv_close((uv_handle_t *)r->watch, free_handle);
  r->watch = NULL;
}

static void on_left(uv_poll_t *p, int status, int events) {
  struct np_request *r = p->data;
  (void)status; /* an error on the socket means the same */
  (void)events;
  np_request_unwatch(r);
  r->has_left = true;
  np_list_push_tail(&r->server->left, &r->left);
  np_source_raise(&r->server->source);
}

static int watch(struct np_request *r) {
  if (r->watch) return NP_OK;
  uv_poll_t *p = calloc(1, sizeof *p);
  if (!p || uv_poll_init(np_loop_uv(r->server->loop), p, r->fd) != 0) {
    free(p);
    return NP_E_LIMIT;
  }
  p->data = r;
  r->watch = p;
  if (uv_poll_start(p, UV_DISCONNECT, on_left) == 0) return NP_OK;
  np_request_unwatch(r);
  return NP_E_LIMIT;
}

void np_request_gone_stop(struct np_request *r) {
  np_request_unwatch(r);
  np_list_remove(&r->left);
  np_waitq_wake_all(&r->gone, NP_OK);
}

static void leave_gone(struct np_task *t) {
  np_waitq_leave(&((struct np_request *)t->wait_ud)->gone, t);
}

static const struct np_wait_ops gone_ops = {.what = "a client to leave",
                                            .undo = leave_gone};

int np_request_wait_gone(struct np_request *r, struct np_task *t,
                         uint64_t timeout_ns) {
  if (!r->conn || r->has_left) return NP_OK;
  int rc = watch(r);
  if (rc < 0) return rc;
  return np_waitq_park(&r->gone, t, &gone_ops, r, timeout_ns);
}
