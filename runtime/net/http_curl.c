/* SPDX-License-Identifier: MIT */
#include "net/http_curl.h"

#include "net/http.h"
#include "net/http_easy.h"

#include <stdlib.h>
#include <string.h>

/* libcurl gives every running request a receive buffer, filled anew for each
 * recv: small ones keep thousands of requests in little memory, larger ones
 * bring larger answers in one call. A client begins small and learns. */
enum { BUFFER_MIN = 1024, BUFFER_MAX = 16384 };

struct transport {
  struct np_transport base;
  struct np_loop *loop;                /* borrowed */
  const struct np_http_config *config; /* borrowed */
  struct np_curlset *set;              /* owned */
  CURLSH *share; /* owned: addresses, TLS sessions, cookies of all shards */
  struct np_list spare; /* np_easy */
  uint32_t easies;
  uint32_t buffer_size; /* for the next request */
  struct np_list ripe;  /* origins whose held exchanges may go */
  struct np_post release;
  bool posted;
};

static struct transport *of(const struct np_transport *t) {
  return (struct transport *)(uintptr_t)t;
}

static struct np_easy *easy_of(const struct np_exchange *x) {
  return x->carrier;
}

/* -- One look-up at a time ------------------------------------------------- */

/* Inside libcurl, which must not be called back: the held ones go later. */
static void address_known(struct transport *t, struct np_exchange *x) {
  struct np_origin *o = x->origin;
  if (o->lookup.scout != x) return;
  o->lookup.scout = NULL;
  o->lookup.fresh_until_ns =
      t->config->dns_cache_ttl_s < 0
          ? NP_FOREVER
          : np_deadline(np_loop_now(t->loop),
                        (uint64_t)t->config->dns_cache_ttl_s * NP_NS_PER_S);
  if (np_list_empty(&o->lookup.held)) return;
  if (np_list_empty(&o->lookup.ripe))
    np_list_push_tail(&t->ripe, &o->lookup.ripe);
  if (t->posted) return;
  t->posted = true;
  np_loop_post(t->loop, &t->release);
}

static void on_resolved(struct np_transfer *transfer) {
  struct np_easy *e = np_container_of(transfer, struct np_easy, transfer);
  address_known(of(e->x->via), e->x);
}

static void finish(struct np_easy *e, const struct np_error *error);

static void hold(struct np_easy *e) {
  e->held = true;
  np_list_push_tail(&e->x->origin->lookup.held, &e->link);
  np_loop_hold(of(e->x->via)->loop);
}

static void unhold(struct np_easy *e) {
  if (!e->held) return;
  e->held = false;
  np_list_remove(&e->link);
  np_loop_release(of(e->x->via)->loop);
}

static void begin(struct np_easy *e) {
  unhold(e);
  int rc = np_transfer_start(&e->transfer);
  if (rc == NP_OK) return;
  struct np_error error = {0};
  (void)np_error_set(&error, rc, NULL, "libcurl cannot start a request");
  finish(e, &error);
}

static void release_held(struct np_post *post) {
  struct transport *t = np_container_of(post, struct transport, release);
  struct np_list *n;
  t->posted = false;
  while ((n = np_list_pop(&t->ripe)) != NULL) {
    struct np_origin *o = np_container_of(n, struct np_origin, lookup.ripe);
    struct np_list batch;
    np_list_take(&batch, &o->lookup.held); /* the origin may go with the last */
    while ((n = np_list_pop(&batch)) != NULL)
      begin(np_container_of(n, struct np_easy, link));
  }
}

/* The scout ended before its name was known: those who asked the same question
 * share the answer, or the next one asks. */
static void scout_ended(struct np_origin *o, const struct np_error *error) {
  struct np_list batch, *n;
  o->lookup.scout = NULL;
  if (error && error->code == NP_E_DNS) {
    np_list_take(&batch, &o->lookup.held);
    while ((n = np_list_pop(&batch)) != NULL)
      finish(np_container_of(n, struct np_easy, link), error);
  } else if ((n = np_list_pop(&o->lookup.held)) != NULL) {
    struct np_easy *e = np_container_of(n, struct np_easy, link);
    o->lookup.scout = e->x;
    begin(e);
  }
}

static bool must_hold(struct transport *t, struct np_exchange *x) {
  struct np_origin *o = x->origin;
  if (o->is_address && !t->config->proxy) return false;
  if (np_loop_now(t->loop) < o->lookup.fresh_until_ns) return false;
  if (o->lookup.scout) return true;
  o->lookup.scout = x;
  return false;
}

/* -- Callbacks of libcurl -------------------------------------------------- */

static size_t on_head(char *data, size_t size, size_t count, void *ud) {
  struct np_easy *e = ud;
  e->received += size * count;
  return e->x->up->head(e->x, data, size * count) ? size * count : 0;
}

static size_t on_body(char *data, size_t size, size_t count, void *ud) {
  struct np_easy *e = ud;
  size_t len = size * count;
  switch (e->x->up->body(e->x, data, len)) {
  case NP_TAKE_OK:
    e->received += len;
    return len;
  case NP_TAKE_PAUSE:
    e->receive_paused = true;
    return CURL_WRITEFUNC_PAUSE;
  case NP_TAKE_REFUSE:
    break;
  }
  return len > 0 ? 0 : 1; /* anything but len is an error */
}

static size_t on_read(char *out, size_t size, size_t count, void *ud) {
  struct np_easy *e = ud;
  size_t len = e->x->up->read(e->x, out, size * count);
  if (len != NP_READ_PAUSE) return len;
  e->send_paused = true;
  return CURL_READFUNC_PAUSE;
}

static int on_seek(void *ud, curl_off_t offset, int origin) {
  struct np_easy *e = ud;
  if (offset != 0 || origin != SEEK_SET || !e->x->up->rewind(e->x))
    return CURL_SEEKFUNC_FAIL;
  return CURL_SEEKFUNC_OK;
}

/* Called before every send, also when libcurl sends again by itself because a
 * reused connection died: the one place where that can be counted or forbidden.
 */
static int on_sending(void *ud, char *remote, char *local, int remote_port,
                      int local_port) {
  struct np_easy *e = ud;
  (void)remote;
  (void)local;
  (void)remote_port;
  (void)local_port;
  address_known(of(e->x->via), e->x);
  if (!e->counting) {
    e->base_bytes = 0;
    e->counting = true;
    e->base_bytes = np_easy_sent_bytes(e);
  }
  return e->x->up->sending(e->x, np_easy_sent_bytes(e) > 0)
             ? CURL_PREREQFUNC_OK
             : CURL_PREREQFUNC_ABORT;
}

/* -- Handles ----------------------------------------------------------------
 */

static void on_done(struct np_transfer *transfer, int code);

static struct np_easy *new_easy(struct transport *t) {
  struct np_easy *e = np_easy_new(t->set, t->share, t->config);
  if (!e) return NULL;
  CURL *easy = e->transfer.easy;
  e->transfer.done = on_done;
  e->transfer.resolved = on_resolved;
  (void)curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_head);
  (void)curl_easy_setopt(easy, CURLOPT_HEADERDATA, e);
  (void)curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
  (void)curl_easy_setopt(easy, CURLOPT_WRITEDATA, e);
  (void)curl_easy_setopt(easy, CURLOPT_READFUNCTION, on_read);
  (void)curl_easy_setopt(easy, CURLOPT_READDATA, e);
  (void)curl_easy_setopt(easy, CURLOPT_SEEKFUNCTION, on_seek);
  (void)curl_easy_setopt(easy, CURLOPT_SEEKDATA, e);
  (void)curl_easy_setopt(easy, CURLOPT_PREREQFUNCTION, on_sending);
  (void)curl_easy_setopt(easy, CURLOPT_PREREQDATA, e);
  t->easies++;
  return e;
}

static struct np_easy *take_easy(struct transport *t) {
  struct np_list *n = np_list_pop(&t->spare);
  return n ? np_container_of(n, struct np_easy, link) : new_easy(t);
}

/* The last one used is the first one taken: its memory is warm. */
static void spare_easy(struct transport *t, struct np_easy *e) {
  e->x->via = NULL;
  e->x->carrier = NULL;
  e->x = NULL;
  np_list_push_head(&t->spare, &e->link);
}

/* Ends e's exchange; error is NULL for a complete answer. */
static void finish(struct np_easy *e, const struct np_error *error) {
  struct np_exchange *x = e->x;
  struct transport *t = of(x->via);
  struct np_origin *o = x->origin;
  struct np_progress p;
  bool was_scout = o->lookup.scout == x;
  while (t->buffer_size < e->received && t->buffer_size < BUFFER_MAX)
    t->buffer_size *= 2;
  np_easy_progress(e, &p);
  unhold(e);
  spare_easy(t, e);
  /* First the others of this origin, for x may be the last that keeps it. */
  if (was_scout) scout_ended(o, error);
  x->up->done(x, &p, error);
}

static void on_done(struct np_transfer *transfer, int code) {
  struct np_easy *e = np_container_of(transfer, struct np_easy, transfer);
  struct np_error error = {0};
  if (code == CURLE_OK) {
    finish(e, NULL);
    return;
  }
  np_easy_error(e, (CURLcode)code, &error);
  finish(e, &error);
}

/* -- The transport -----------------------------------------------------------
 */

static int curl_start(struct np_transport *base, struct np_exchange *x,
                      struct np_error *error) {
  struct transport *t = of(base);
  struct np_easy *e = take_easy(t);
  if (!e) return np_error_set(error, NP_E_LIMIT, NULL, "out of memory");
  int rc = np_easy_prepare(e, x, t->buffer_size);
  x->via = base;
  x->carrier = e;
  if (rc == NP_OK && must_hold(t, x)) {
    hold(e);
    return NP_OK;
  }
  if (rc == NP_OK) rc = np_transfer_start(&e->transfer);
  if (rc == NP_OK) return NP_OK;
  if (x->origin->lookup.scout == x) x->origin->lookup.scout = NULL;
  spare_easy(t, e);
  return np_error_set(error, rc, NULL,
                      rc == NP_E_INVALID ? "libcurl cannot use this request"
                                         : "libcurl cannot start a request");
}

static void curl_resume(struct np_exchange *x, bool receiving) {
  struct np_easy *e = easy_of(x);
  bool *paused = receiving ? &e->receive_paused : &e->send_paused;
  if (!*paused) return;
  *paused = false;
  int mask = (e->receive_paused ? CURLPAUSE_RECV : 0) |
             (e->send_paused ? CURLPAUSE_SEND : 0);
  /* A failure shows as the end of the transfer. */
  (void)curl_easy_pause(e->transfer.easy, mask);
}

static void curl_observe(struct np_exchange *x, struct np_progress *p) {
  np_easy_progress(easy_of(x), p);
}

static void curl_cancel(struct np_exchange *x) {
  struct np_easy *e = easy_of(x);
  struct transport *t = of(x->via);
  struct np_origin *o = x->origin;
  bool was_scout = o->lookup.scout == x;
  unhold(e);
  np_transfer_stop(&e->transfer);
  spare_easy(t, e);
  if (was_scout) scout_ended(o, NULL);
}

static uint32_t curl_connections(const struct np_transport *t) {
  return np_curlset_sockets(of(t)->set);
}

uint32_t np_http_curl_easies(const struct np_transport *t) {
  return of(t)->easies;
}

static void curl_close(struct np_transport *base) {
  struct transport *t = of(base);
  struct np_list *n;
  np_list_remove(&t->release.link);
  while ((n = np_list_pop(&t->spare)) != NULL)
    np_easy_free(np_container_of(n, struct np_easy, link));
  np_curlset_free(t->set);
  if (t->share) (void)curl_share_cleanup(t->share); /* nobody uses it now */
  free(t);
}

static const struct np_transport_ops ops = {.name = "curl",
                                            .start = curl_start,
                                            .resume = curl_resume,
                                            .observe = curl_observe,
                                            .cancel = curl_cancel,
                                            .connections = curl_connections,

                                            .free = curl_close};

static CURLSH *new_share(bool cookies) {
  CURLSH *share = curl_share_init();
  if (!share) return NULL;
  (void)curl_share_setopt(share, CURLSHOPT_SHARE, CURL_LOCK_DATA_DNS);
  (void)curl_share_setopt(share, CURLSHOPT_SHARE, CURL_LOCK_DATA_SSL_SESSION);
  if (cookies)
    (void)curl_share_setopt(share, CURLSHOPT_SHARE, CURL_LOCK_DATA_COOKIE);
  return share;
}

struct np_transport *np_http_curl_new(struct np_curlio *io, struct np_loop *l,
                                      const struct np_http_config *config) {
  struct transport *t = calloc(1, sizeof *t);
  if (!t) return NULL;
  t->base.ops = &ops;
  t->loop = l;
  t->buffer_size = BUFFER_MIN;
  t->config = config;
  np_list_init(&t->spare);
  np_list_init(&t->ripe);
  np_list_init(&t->release.link);
  t->release.run = release_held;
  t->share = new_share(config->cookies);
  t->set = np_curlset_new(io, config->max_connections, config->keepalive_ns);
  if (t->share && t->set) return &t->base;
  curl_close(&t->base);
  return NULL;
}
