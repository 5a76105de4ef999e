/* SPDX-License-Identifier: MIT */
#include "net/curlio.h"

#include "base/err.h"
#include "net/curlio_fd.h"

#include <curl/curl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* BATCH sockets a turn: then the tasks that they wake run, and what those send
 * goes out, while it all is still in the processor's cache. */
enum { SHARD_CONNECTIONS = 125, BATCH = 32 };

struct np_curl_shard {
  struct np_curlset *set;
  CURLM *multi; /* owned; NULL until it is needed */
  struct np_list running;
  struct np_list kick; /* in io->kicks while libcurl wants to run at once */
  struct np_timer timer;
  uint32_t in_flight, capacity;
  uint32_t sockets; /* opened for this shard and seen by it */
  uint64_t idle_since_ns;
};

struct np_curlset {
  struct np_list link; /* io->sets */
  struct np_curlio *io;
  uint64_t idle_ns;
  uint32_t sockets;
  uint32_t shard_count;
  struct np_curl_shard shards[];
};

struct np_curlio {
  struct np_loop *loop;
  const struct np_log *log;
  struct np_source source;
  struct np_list sets;
  struct np_fds fds;
  struct np_list kicks; /* shards */
  uint32_t sockets;
  uv_timer_t *sweep;    /* owned until closed; looks for idle shards */
  uint64_t sweep_at_ns; /* NP_FOREVER: nothing is idle */
  bool sweep_due;
};

static void forget(struct np_fd *f) {
  if (f->set) {
    f->set->sockets--;
    f->set->io->sockets--;
    if (f->shard) f->shard->sockets--;
  }
  np_fd_forget(f);
}

/* libcurl lets f go. Its own descriptors it closes without telling; libcurl
 * 7.88 also those that did not become a connection: refused, overtaken by
 * another address, cancelled. What is still open is a connection, and will be
 * closed through on_close. */
static void settle(struct np_fd *f) {
  if (!f->set)
    forget(f);
  else if (np_list_empty(&f->opener))
    return; /* known to be a connection: no system call */
  else if (np_fd_alive(f))
    np_list_remove(&f->opener);
  else
    forget(f);
}

/* -- Called by libcurl: never fails, for -1 would end every transfer of the
 * multi (curl#8083) -------------------------------------------------------- */

static int on_curl_socket(CURL *easy, curl_socket_t fd, int what, void *userp,
                          void *socketp) {
  struct np_curl_shard *shard = userp;
  struct np_curlio *io = shard->set->io;
  struct np_fd *f = np_fds_find(&io->fds, fd);
  (void)easy;
  (void)socketp; /* not trusted: our own table knows better (curl#14976) */
  if (what == CURL_POLL_REMOVE) {
    if (!f) return 0; /* never announced (curl#17949) */
    f->want = 0;
    settle(f);
    return 0;
  }
  if (!f) f = np_fds_add(&io->fds, fd);
  if (!f) {
    np_logf(io->log, NP_LOG_ERROR, "http: no memory to watch a socket");
    return 0; /* the request's own time limit ends it */
  }
  if (f->set && f->shard != shard) {
    if (f->shard) f->shard->sockets--;
    shard->sockets++;
  }
  f->shard = shard;
  f->want = (what & CURL_POLL_IN ? UV_READABLE : 0) |
            (what & CURL_POLL_OUT ? UV_WRITABLE : 0);
  np_fd_arm(f, f->want);
  return 0;
}

static void kick(struct np_curl_shard *shard) {
  struct np_curlio *io = shard->set->io;
  if (np_list_empty(&shard->kick)) np_list_push_tail(&io->kicks, &shard->kick);
  np_source_raise(&io->source);
}

/* 0 ms is "as soon as you can": a mark that the next turn consumes. As a uv
 * timer it could starve sockets (libuv#4245), as 1 ms it would cost 1 ms. */
static int on_curl_timer(CURLM *multi, long timeout_ms, void *userp) {
  struct np_curl_shard *shard = userp;
  struct np_loop *l = shard->set->io->loop;
  (void)multi;
  if (timeout_ms <= 0) np_timer_stop(&l->timers, &shard->timer);
  if (timeout_ms == 0) kick(shard);
  if (timeout_ms > 0 &&
      np_timer_start(
          &l->timers, &shard->timer,
          np_deadline(np_loop_now(l), (uint64_t)timeout_ms * 1000000)) < 0)
    kick(shard); /* without memory for a timer: too early, never too late */
  return 0;
}

static void on_timer(struct np_timer *t) {
  kick(np_container_of(t, struct np_curl_shard, timer));
}

static curl_socket_t on_open(void *clientp, curlsocktype purpose,
                             struct curl_sockaddr *a) {
  struct np_transfer *t = clientp;
  (void)purpose;
  if (t->resolved) t->resolved(t);
  int fd = socket(a->family, a->socktype | SOCK_CLOEXEC | SOCK_NONBLOCK,
                  a->protocol);
  if (fd < 0) return CURL_SOCKET_BAD;
  struct np_fd *f = np_fds_add(&t->set->io->fds, fd);
  if (!f) {
    (void)close(fd);
    return CURL_SOCKET_BAD;
  }
  f->set = t->set;
  np_list_push_tail(&t->opened, &f->opener);
  t->set->sockets++;
  t->set->io->sockets++;
  return fd;
}

static int on_close(void *clientp, curl_socket_t fd) {
  struct np_curlset *set = clientp;
  struct np_fd *f = np_fds_find(&set->io->fds, fd);
  /* First out of epoll, then closed: libuv aborts on a number that is gone. */
  if (f) forget(f);
  return close(fd);
}

/* -- Serving -------------------------------------------------------------- */

static void settle_opened(struct np_transfer *t) {
  while (!np_list_empty(&t->opened))
    settle(np_container_of(t->opened.next, struct np_fd, opener));
}

static void leave(struct np_transfer *t) {
  struct np_curl_shard *shard = t->shard;
  struct np_curlio *io = shard->set->io;
  t->shard = NULL;
  np_list_remove(&t->link);
  (void)curl_multi_remove_handle(shard->multi, t->easy); /* it is in there */
  settle_opened(t);
  np_loop_release(io->loop);
  if (--shard->in_flight > 0) return;
  shard->idle_since_ns = np_loop_now(io->loop);
  /* A sweep that is overdue does not count: a virtual clock, on which libuv's
   * timer does not run, may have jumped past it. */
  if (np_deadline(shard->idle_since_ns, shard->set->idle_ns) >=
          io->sweep_at_ns &&
      io->sweep_at_ns > shard->idle_since_ns)
    return;
  io->sweep_due = true;
  np_source_raise(&io->source);
}

/* After every call into libcurl, or the last completion is lost (the curl
 * example multi-uv.c since 8.17 has that bug). */
static void drain(struct np_curl_shard *shard) {
  CURLMsg *msg;
  int left;
  while ((msg = curl_multi_info_read(shard->multi, &left)) != NULL) {
    if (msg->msg != CURLMSG_DONE) continue;
    int code = (int)msg->data.result;
    char *owner = NULL;
    (void)curl_easy_getinfo(msg->easy_handle, CURLINFO_PRIVATE, &owner);
    struct np_transfer *t = (struct np_transfer *)(void *)owner;
    leave(t);
    t->done(t, code);
  }
}

static void close_multi(struct np_curl_shard *shard) {
  struct np_curlio *io = shard->set->io;
  if (!shard->multi) return;
  (void)curl_multi_cleanup(shard->multi); /* may call the callbacks */
  shard->multi = NULL;
  /* Descriptors of its own that it closed without a word. */
  for (int fd = 0; fd < io->fds.count; fd++) {
    struct np_fd *f = io->fds.by_fd[fd];
    if (f && f->shard == shard) forget(f);
  }
  np_list_remove(&shard->kick);
  np_timer_stop(&io->loop->timers, &shard->timer);
}

/* libcurl says that it no longer knows the state of this handle's transfers:
 * all of them fail, and the next request gets a new handle. */
static void fail_all(struct np_curl_shard *shard, CURLMcode code) {
  struct np_list batch, *n;
  np_logf(shard->set->io->log, NP_LOG_ERROR, "http: libcurl failed: %s",
          curl_multi_strerror(code));
  np_list_take(&batch, &shard->running);
  for (n = batch.next; n != &batch; n = n->next)
    (void)curl_multi_remove_handle(
        shard->multi, np_container_of(n, struct np_transfer, link)->easy);
  close_multi(shard);
  while ((n = np_list_pop(&batch)) != NULL) {
    struct np_transfer *t = np_container_of(n, struct np_transfer, link);
    t->shard = NULL;
    settle_opened(t);
    shard->in_flight--;
    np_loop_release(shard->set->io->loop);
    t->done(t, CURLE_FAILED_INIT);
  }
}

static void act(struct np_curl_shard *shard, curl_socket_t fd, int mask) {
  int running;
  CURLMcode code = curl_multi_socket_action(shard->multi, fd, mask, &running);
  if (code == CURLM_OK)
    drain(shard);
  else
    fail_all(shard, code);
}

static void serve_fd(struct np_fd *f) {
  int events = f->events;
  f->events = 0;
  if (!f->want) {
    /* Nobody owns it: an idle connection whose peer has closed would spin, so
     * would a paused one. libcurl asks again when it wants it. */
    np_fd_arm(f, 0);
    return;
  }
  int mask = (events & UV_READABLE ? CURL_CSELECT_IN : 0) |
             (events & UV_WRITABLE ? CURL_CSELECT_OUT : 0);
  /* With ERR alone libcurl 7.88 reports a failed send without looking; with IN
   * it reads, and finds the rest of the answer or the true error. One that only
   * sends acts on OUT alone: without it the poll error would come for ever. */
  if (events & NP_FD_ERROR)
    mask |= CURL_CSELECT_IN | CURL_CSELECT_OUT | CURL_CSELECT_ERR;
  int fd = f->fd;
  struct np_fds *table = f->table;
  act(f->shard, fd, mask); /* f may be gone */
  if (!(events & NP_FD_ERROR) || np_fds_find(table, fd) != f) return;
  np_fd_arm(f, f->want); /* libuv had stopped */
}

static bool serve_fds(struct np_curlio *io) {
  struct np_list *n;
  for (int i = 0; i < BATCH && (n = np_list_pop(&io->fds.ready)) != NULL; i++) {
    serve_fd(np_container_of(n, struct np_fd, link));
    if (np_loop_spent(io->loop)) break;
  }
  return np_list_empty(&io->fds.ready);
}

/* Each shard once: those that are kicked again wait for the next turn. */
static bool serve_kicks(struct np_curlio *io) {
  struct np_list batch, *n;
  np_list_take(&batch, &io->kicks);
  while ((n = np_list_pop(&batch)) != NULL) {
    struct np_curl_shard *shard =
        np_container_of(n, struct np_curl_shard, kick);
    if (shard->multi) act(shard, CURL_SOCKET_TIMEOUT, 0);
    if (np_loop_spent(io->loop)) break;
  }
  while (!np_list_empty(&batch)) {
    n = batch.prev;
    np_list_remove(n);
    np_list_push_head(&io->kicks, n);
  }
  return np_list_empty(&io->kicks);
}

/* -- Idle connections ----------------------------------------------------- */

static void on_sweep(uv_timer_t *timer) {
  struct np_curlio *io = timer->data;
  io->sweep_due = true;
  np_source_raise(&io->source);
}

static void on_sweep_closed(uv_handle_t *h) {
  free(h); /* the timer begins with it */
}

/* libcurl looks at the age of idle connections only when it starts a request,
 * so a set at rest would keep its sockets for ever. The timer is libuv's and
 * unreferenced: it must not keep a finished program alive. */
static void sweep(struct np_curlio *io) {
  uint64_t now_ns = np_loop_now(io->loop), next_ns = NP_FOREVER;
  io->sweep_due = false;
  io->sweep_at_ns = NP_FOREVER;
  for (struct np_list *n = io->sets.next; n != &io->sets; n = n->next) {
    struct np_curlset *set = np_container_of(n, struct np_curlset, link);
    for (uint32_t i = 0; i < set->shard_count; i++) {
      struct np_curl_shard *shard = &set->shards[i];
      if (!shard->multi || shard->in_flight > 0 || shard->sockets == 0)
        continue;
      uint64_t due_ns = np_deadline(shard->idle_since_ns, set->idle_ns);
      if (due_ns <= now_ns)
        close_multi(shard);
      else if (due_ns - now_ns < next_ns)
        next_ns = due_ns - now_ns;
    }
  }
  if (next_ns == NP_FOREVER) return;
  io->sweep_at_ns = now_ns + next_ns;
  uint64_t delay_ms = next_ns / 1000000 + 1;
  uv_update_time(np_loop_uv(io->loop)); /* it counts from there (libuv#1068) */
  (void)uv_timer_start(io->sweep, on_sweep, delay_ms, 0); /* has a callback */
}

static void serve(struct np_source *source, struct np_loop *l) {
  struct np_curlio *io = source->ud;
  (void)l;
  bool quiet = serve_kicks(io); /* what the last turn's tasks have started */
  quiet = serve_fds(io) && quiet;
  if (io->sweep_due) sweep(io);
  if (!quiet) np_source_raise(source);
}

/* -- The engine and its sets ---------------------------------------------- */

struct np_curlio *np_curlio_new(struct np_loop *l, const struct np_log *log) {
  struct np_curlio *io = calloc(1, sizeof *io);
  if (!io) return NULL;
  io->sweep = malloc(sizeof *io->sweep);
  if (!io->sweep) {
    free(io);
    return NULL;
  }
  (void)uv_timer_init(np_loop_uv(l), io->sweep); /* never fails */
  uv_unref((uv_handle_t *)io->sweep);
  io->sweep->data = io;
  io->loop = l;
  io->log = log;
  io->sweep_at_ns = NP_FOREVER;
  np_list_init(&io->sets);
  np_fds_init(&io->fds, l, &io->source);
  np_list_init(&io->kicks);
  np_source_add(l, &io->source, serve);
  io->source.ud = io;
  return io;
}

void np_curlio_free(struct np_curlio *io) {
  if (!io) return;
  np_source_remove(&io->source);
  np_fds_fini(&io->fds);
  uv_close((uv_handle_t *)io->sweep, on_sweep_closed);
  free(io);
}

uint32_t np_curlio_sockets(const struct np_curlio *io) {
  return io->sockets;
}

struct np_curlset *np_curlset_new(struct np_curlio *io,
                                  uint32_t max_connections, uint64_t idle_ns) {
  uint32_t count =
      (max_connections + SHARD_CONNECTIONS - 1) / SHARD_CONNECTIONS;
  struct np_curlset *set =
      calloc(1, sizeof *set + count * sizeof set->shards[0]);
  if (!set) return NULL;
  set->io = io;
  set->idle_ns = idle_ns;
  set->shard_count = count;
  for (uint32_t i = 0; i < count; i++) {
    struct np_curl_shard *shard = &set->shards[i];
    uint32_t rest = max_connections - i * SHARD_CONNECTIONS;
    shard->set = set;
    shard->capacity = rest < SHARD_CONNECTIONS ? rest : SHARD_CONNECTIONS;
    np_list_init(&shard->running);
    np_list_init(&shard->kick);
    np_timer_init(&shard->timer, on_timer);
  }
  np_list_push_tail(&io->sets, &set->link);
  return set;
}

void np_curlset_free(struct np_curlset *set) {
  if (!set) return;
  for (uint32_t i = 0; i < set->shard_count; i++) close_multi(&set->shards[i]);
  np_list_remove(&set->link);
  free(set);
}

uint32_t np_curlset_sockets(const struct np_curlset *set) {
  return set->sockets;
}

/* -- Transfers ------------------------------------------------------------ */

void np_transfer_init(struct np_transfer *t, struct np_curlset *set,
                      void *easy) {
  np_list_init(&t->link);
  np_list_init(&t->opened);
  t->shard = NULL;
  t->set = set;
  t->easy = easy;
  (void)curl_easy_setopt(easy, CURLOPT_PRIVATE, t);
  (void)curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, on_open);
  (void)curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, t);
  /* A connection outlives the handle that opened it, so it gets the set. */
  (void)curl_easy_setopt(easy, CURLOPT_CLOSESOCKETFUNCTION, on_close);
  (void)curl_easy_setopt(easy, CURLOPT_CLOSESOCKETDATA, set);
}

static bool open_multi(struct np_curl_shard *shard) {
  if (shard->multi) return true;
  CURLM *m = curl_multi_init();
  if (!m) return false;
  (void)curl_multi_setopt(m, CURLMOPT_SOCKETFUNCTION, on_curl_socket);
  (void)curl_multi_setopt(m, CURLMOPT_SOCKETDATA, shard);
  (void)curl_multi_setopt(m, CURLMOPT_TIMERFUNCTION, on_curl_timer);
  (void)curl_multi_setopt(m, CURLMOPT_TIMERDATA, shard);
  /* Without MAXCONNECTS the cache shrinks as a batch drains. The total cap
   * makes libcurl close an idle connection to another host for a new one; it
   * cannot make it queue, since admission keeps to the same number. */
  (void)curl_multi_setopt(m, CURLMOPT_MAXCONNECTS, (long)shard->capacity);
  (void)curl_multi_setopt(m, CURLMOPT_MAX_TOTAL_CONNECTIONS,
                          (long)shard->capacity);
  shard->multi = m;
  return true;
}

/* The first shard with room: under falling load the last ones go idle. */
static struct np_curl_shard *pick_shard(struct np_curlset *set) {
  for (uint32_t i = 0; i < set->shard_count; i++)
    if (set->shards[i].in_flight < set->shards[i].capacity)
      return &set->shards[i];
  return NULL;
}

int np_transfer_start(struct np_transfer *t) {
  struct np_curl_shard *shard = pick_shard(t->set);
  if (!shard) return NP_E_INTERNAL;
  if (!open_multi(shard)) return NP_E_LIMIT;
  CURLMcode code = curl_multi_add_handle(shard->multi, t->easy);
  if (code != CURLM_OK)
    return code == CURLM_OUT_OF_MEMORY ? NP_E_LIMIT : NP_E_INTERNAL;
  t->shard = shard;
  shard->in_flight++;
  np_list_push_tail(&shard->running, &t->link);
  np_loop_hold(shard->set->io->loop);
  return NP_OK;
}

void np_transfer_stop(struct np_transfer *t) {
  if (t->shard) leave(t);
}

bool np_transfer_connected(const struct np_transfer *t) {
  for (struct np_list *n = t->opened.next; n != &t->opened; n = n->next) {
    struct sockaddr_storage peer;
    socklen_t len = sizeof peer;
    int fd = np_container_of(n, struct np_fd, opener)->fd;
    if (getpeername(fd, (struct sockaddr *)&peer, &len) == 0) return true;
  }
  return false;
}
