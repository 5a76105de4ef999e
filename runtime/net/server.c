/* SPDX-License-Identifier: MIT */
#include "net/server_impl.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BACKLOG = 4096 };

/* -- Listening ------------------------------------------------------------ */

static socklen_t parse_address(const char *host, uint16_t port,
                               struct sockaddr_storage *out) {
  struct sockaddr_in *v4 = (struct sockaddr_in *)out;
  struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)out;
  memset(out, 0, sizeof *out);
  if (strcmp(host, "localhost") == 0) host = "127.0.0.1";
  if (inet_pton(AF_INET, host, &v4->sin_addr) == 1) {
    v4->sin_family = AF_INET;
    v4->sin_port = htons(port);
    return sizeof *v4;
  }
  if (inet_pton(AF_INET6, host, &v6->sin6_addr) == 1) {
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(port);
    return sizeof *v6;
  }
  return 0;
}

static uint16_t bound_port(int fd) {
  struct sockaddr_storage a;
  socklen_t len = sizeof a;
  if (getsockname(fd, (struct sockaddr *)&a, &len) != 0) return 0;
  if (a.ss_family == AF_INET6)
    return ntohs(((struct sockaddr_in6 *)&a)->sin6_port);
  return ntohs(((struct sockaddr_in *)&a)->sin_port);
}

/* Returns the listening descriptor, or NP_E_* with e filled. */
static int listen_on(const struct np_server_config *c, struct np_error *e) {
  struct sockaddr_storage address;
  int on = 1;
  socklen_t len = parse_address(c->host, c->port, &address);
  if (len == 0)
    return np_error_set(e, NP_E_INVALID, "listen",
                        "host '%s' is not an IP address", c->host);
  int fd =
      socket(address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd >= 0 &&
      setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0 &&
      bind(fd, (struct sockaddr *)&address, len) == 0 &&
      listen(fd, BACKLOG) == 0)
    return fd;
  int reason = errno;
  if (fd >= 0) (void)close(fd);
  return np_error_set(e, NP_E_CONNECT, "listen",
                      "cannot listen on %s port %u: %s", c->host, c->port,
                      strerror(reason));
}

/* -- The daemon on our loop ----------------------------------------------- */

static void on_readable(uv_poll_t *p, int status, int events) {
  struct np_server *s = p->data;
  (void)status; /* libmicrohttpd finds out by itself */
  (void)events;
  np_source_raise(&s->source);
}

static void on_timer(struct np_timer *t) {
  struct np_server *s = np_container_of(t, struct np_server, timer);
  s->armed_ns = NP_FOREVER;
  np_source_raise(&s->source);
}

/* An early alarm does no harm, so the timer moves only towards the present:
 * a busy keep-alive connection would else move it at every request. */
static void arm(struct np_server *s) {
  MHD_UNSIGNED_LONG_LONG timeout_ms;
  if (MHD_get_timeout(s->daemon, &timeout_ms) != MHD_YES) return;
  if (timeout_ms == 0) {
    np_source_raise(&s->source);
    return;
  }
  uint64_t deadline_ns =
      np_deadline(np_loop_now(s->loop), (uint64_t)timeout_ms * 1000000);
  if (deadline_ns >= s->armed_ns) return;
  /* Without memory for it, idle connections stay until the next traffic. */
  if (np_timer_start(&s->loop->timers, &s->timer, deadline_ns) == NP_OK)
    s->armed_ns = deadline_ns;
}

static void serve_left(struct np_server *s) {
  struct np_list *n;
  while ((n = np_list_pop(&s->left)) != NULL) {
    struct np_request *r = np_container_of(n, struct np_request, left);
    np_waitq_wake_all(&r->gone, NP_OK);
    np_request_abort(r);
  }
}

static void serve(struct np_source *source, struct np_loop *l) {
  struct np_server *s = np_container_of(source, struct np_server, source);
  (void)l; /* once over what is ready is libmicrohttpd's smallest step */
  serve_left(s);
  (void)MHD_run(s->daemon);
  arm(s);
}

static void free_handle(uv_handle_t *h) {
  free(h);
}

static int poll_daemon(struct np_server *s) {
  const union MHD_DaemonInfo *info =
      MHD_get_daemon_info(s->daemon, MHD_DAEMON_INFO_EPOLL_FD);
  uv_poll_t *poll = calloc(1, sizeof *poll);
  if (!info || !poll ||
      uv_poll_init(np_loop_uv(s->loop), poll, info->epoll_fd) != 0) {
    free(poll);
    return NP_E_LIMIT;
  }
  poll->data = s;
  s->poll = poll;
  return uv_poll_start(poll, UV_READABLE, on_readable) == 0 ? NP_OK
                                                            : NP_E_LIMIT;
}

static struct MHD_Response *fixed_answer(const char *text) {
  struct MHD_Response *response = MHD_create_response_from_buffer(
      strlen(text), (void *)(uintptr_t)text, MHD_RESPMEM_PERSISTENT);
  if (response)
    (void)MHD_add_response_header(response, "Content-Type", "text/plain");
  return response;
}

static int start_daemon(struct np_server *s, int fd) {
  const struct np_server_config *c = &s->config;
  s->too_large = fixed_answer("the request body is too large\n");
  s->overloaded = fixed_answer("the server is busy\n");
  if (!s->too_large || !s->overloaded) {
    (void)close(fd);
    return NP_E_LIMIT;
  }
  (void)MHD_add_response_header(s->overloaded, "Retry-After", "1");
  /* On failure libmicrohttpd 0.9.75 has closed fd in all cases but two that a
   * fixed set of flags cannot meet. */
  s->daemon = MHD_start_daemon(
      MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME, 0, NULL, NULL,
      np_request_on_access, s, MHD_OPTION_LISTEN_SOCKET, fd,
      MHD_OPTION_CONNECTION_LIMIT, (unsigned)c->max_connections,
      MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)c->idle_timeout_s,
      MHD_OPTION_URI_LOG_CALLBACK, np_request_on_uri, s,
      MHD_OPTION_NOTIFY_COMPLETED, np_request_on_completed, s, MHD_OPTION_END);
  return s->daemon ? poll_daemon(s) : NP_E_LIMIT;
}

/* -- Life ------------------------------------------------------------------ */

static struct np_server *server_alloc(struct np_loop *loop,
                                      const struct np_server_config *config) {
  struct np_server *s = calloc(1, sizeof *s);
  if (!s) return NULL;
  s->loop = loop;
  s->config = *config;
  s->config.host = NULL; /* borrowed for np_server_new only */
  s->armed_ns = NP_FOREVER;
  np_list_init(&s->live);
  np_list_init(&s->waiting);
  np_list_init(&s->finished);
  np_list_init(&s->left);
  np_waitq_init(&s->acceptor, 1);
  np_timer_init(&s->timer, on_timer);
  np_source_add(loop, &s->source, serve);
  np_loop_hold(loop);
  return s;
}

int np_server_new(struct np_server **out, struct np_loop *loop,
                  const struct np_server_config *config, struct np_error *e) {
  if (loop->clock->is_virtual)
    return np_error_set(e, NP_E_INVALID, "listen",
                        "a server needs real sockets, which virtual time does "
                        "not have");
  int fd = listen_on(config, e);
  if (fd < 0) return fd;
  struct np_server *s = server_alloc(loop, config);
  if (!s) {
    (void)close(fd);
    return np_error_set(e, NP_E_LIMIT, "listen", "out of memory");
  }
  s->port = bound_port(fd);
  if (start_daemon(s, fd) != NP_OK) {
    np_server_free(s);
    return np_error_set(e, NP_E_LIMIT, "listen", "cannot start the server: %s",
                        strerror(errno));
  }
  *out = s;
  return NP_OK;
}

/* libmicrohttpd panics when it is stopped with suspended connections: this run
 * resumes and closes them, and sends what has just been answered. */
static void close_requests(struct np_server *s) {
  s->closing = true;
  for (struct np_list *n = s->live.next; n != &s->live; n = n->next) {
    struct np_request *r = np_container_of(n, struct np_request, live);
    if (r->suspended) np_request_abort(r);
  }
  (void)MHD_run(s->daemon);
}

static void forget_requests(struct np_server *s) {
  struct np_list *n;
  while ((n = np_list_pop(&s->finished)) != NULL)
    np_request_unref(np_container_of(n, struct np_request, link));
  while ((n = np_list_pop(&s->live)) != NULL)
    np_container_of(n, struct np_request, live)->server = NULL;
}

void np_server_free(struct np_server *s) {
  s->stopping = true;
  if (s->poll) {
    (void)uv_poll_stop(s->poll);
    uv_close((uv_handle_t *)s->poll, free_handle);
  }
  if (s->daemon) {
    np_server_stop(s);
    close_requests(s);
    MHD_stop_daemon(s->daemon);
  }
  forget_requests(s);
  np_waitq_wake_all(&s->acceptor, NP_E_CLOSED);
  np_timer_stop(&s->loop->timers, &s->timer);
  np_source_remove(&s->source);
  np_loop_release(s->loop);
  if (s->too_large) MHD_destroy_response(s->too_large);
  if (s->overloaded) MHD_destroy_response(s->overloaded);
  free(s);
}

void np_server_stop(struct np_server *s) {
  s->stopping = true;
  int fd = MHD_quiesce_daemon(s->daemon);
  if (fd >= 0) (void)close(fd);
  np_server_notify(s);
}

const char *np_server_library_version(void) {
  return MHD_get_version();
}

uint16_t np_server_port(const struct np_server *s) {
  return s->port;
}

void np_server_stats(const struct np_server *s, struct np_server_stats *out) {
  const union MHD_DaemonInfo *info =
      MHD_get_daemon_info(s->daemon, MHD_DAEMON_INFO_CURRENT_CONNECTIONS);
  *out = (struct np_server_stats){.connections = info->num_connections,
                                  .running = s->running_count,
                                  .waiting = s->waiting_count,
                                  .requests = s->next_id - s->waiting_count,
                                  .refused = s->refused_count};
}

/* -- Events ---------------------------------------------------------------- */

static bool may_hand_out(const struct np_server *s) {
  return !np_list_empty(&s->waiting) &&
         s->running_count < s->config.max_concurrency;
}

static bool has_event(const struct np_server *s) {
  return !np_list_empty(&s->finished) || may_hand_out(s);
}

static bool is_drained(const struct np_server *s) {
  return s->stopping && np_list_empty(&s->live) && np_list_empty(&s->finished);
}

void np_server_notify(struct np_server *s) {
  if (has_event(s))
    np_waitq_wake_all(&s->acceptor, NP_OK);
  else if (is_drained(s))
    np_waitq_wake_all(&s->acceptor, NP_E_CLOSED);
}

static void leave_acceptor(struct np_task *t) {
  np_waitq_leave(&((struct np_server *)t->wait_ud)->acceptor, t);
}

static const struct np_wait_ops accept_ops = {.what = "a server's requests",
                                              .undo = leave_acceptor};

int np_server_accept(struct np_server *s, struct np_task *t) {
  if (has_event(s)) return NP_OK;
  if (is_drained(s)) return NP_E_CLOSED;
  return np_waitq_park(&s->acceptor, t, &accept_ops, s, NP_FOREVER);
}

void np_server_next(struct np_server *s, struct np_server_event *event) {
  struct np_list *n = np_list_pop(&s->finished);
  *event = (struct np_server_event){.type = NP_SERVER_NOTHING};
  if (n) {
    event->type = NP_SERVER_FINISHED;
    event->request = np_container_of(n, struct np_request, link);
  } else if (may_hand_out(s)) {
    n = np_list_pop(&s->waiting);
    event->type = NP_SERVER_REQUEST;
    event->request = np_container_of(n, struct np_request, link);
    event->request->state = NP_REQ_RUNNING;
    event->request->counted = true;
    s->waiting_count--;
    s->running_count++;
  }
}

void np_server_resume(struct np_request *r) {
  if (!r->suspended) return;
  r->suspended = false;
  MHD_resume_connection(r->conn);
  np_source_raise(&r->server->source);
}
