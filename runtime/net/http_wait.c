/* SPDX-License-Identifier: MIT
 * What tasks do with a call: make it, run it, wait on it, take what it brought,
 * let it go. */
#include "net/http_client.h"

#include <stdlib.h>
#include <string.h>

enum {
  KEEP_CALLS = 256,
  KEEP_BYTES = 16 * 1024, /* a larger buffer is not kept for the next call */
  UNSENT_MAX = 256 * 1024,
};

/* -- Making and letting go --------------------------------------------------
 */

void np_call_free(struct np_http_call *call) {
  np_headers_fini(&call->headers);
  np_buf_fini(&call->head);
  np_buf_fini(&call->body);
  np_buf_fini(&call->out);
  free(call);
}

static struct np_http_call *take_spare(struct np_http_client *c) {
  struct np_list *n = np_list_pop(&c->spare);
  if (!n) return NULL;
  c->spare_count--;
  return np_container_of(n, struct np_http_call, link);
}

struct np_http_call *np_http_call_new(struct np_http_client *c) {
  struct np_http_call *call = take_spare(c);
  if (!call) call = calloc(1, sizeof *call);
  if (!call) return NULL;
  call->client = c;
  call->armed_ns = NP_FOREVER;
  c->refs++;
  c->call_count++;
  np_list_init(&call->link);
  np_list_push_tail(&c->calls, &call->link);
  return call;
}

struct np_headers *np_http_call_headers(struct np_http_call *call) {
  return &call->headers;
}

static void keep_buffer(struct np_buf *b) {
  if (b->capacity > KEEP_BYTES) np_buf_fini(b);
  np_buf_clear(b);
}

/* Back to the client what np_call_lend gave. */
static void give_back(struct np_http_client *c, struct np_buf *b) {
  keep_buffer(b);
  if (b->capacity > 0 && c->buffer_count < NP_SPARE_BUFFERS) {
    c->buffers[c->buffer_count++] = *b;
    *b = (struct np_buf){0};
  }
  np_buf_fini(b);
}

/* Everything but the memory of the header lines goes back to zero. */
static void recycle(struct np_http_call *call) {
  struct np_headers headers = call->headers;
  give_back(call->client, &call->head);
  give_back(call->client, &call->body);
  np_buf_fini(&call->out);
  keep_buffer(&headers.lines);
  np_headers_clear(&headers);
  memset(call, 0, sizeof *call);
  call->headers = headers;
}

void np_http_call_release(struct np_http_call *call) {
  struct np_http_client *c = call->client;
  np_http_call_close(call);
  if (call->host) np_pool_unref(&c->pool, call->host);
  np_list_remove(&call->link);
  c->call_count--;
  if (c->spare_count < KEEP_CALLS && !c->closed) {
    recycle(call);
    np_list_push_head(&c->spare, &call->link);
    c->spare_count++;
  } else {
    np_call_free(call);
  }
  np_client_unref(c);
}

void np_http_call_close(struct np_http_call *call) {
  struct np_http_client *c = call->client;
  static const char message[] = "the client or the response was closed";
  if (call->state == NP_CALL_RUNNING) {
    np_call_abort(call, NP_E_CLOSED, message);
  } else if (call->state == NP_CALL_WAITING) {
    call->state = NP_CALL_ENDED;
    (void)np_error_set(&call->error, NP_E_CLOSED, "queue", message);
    call->error.has_sent = true;
    np_pool_quit(&c->pool, call->host, call->reader.task);
    np_call_wake(&call->reader, NP_E_CLOSED);
  } else if (call->state == NP_CALL_ENDED && call->error.code == NP_OK &&
             call->streams_response) {
    (void)np_error_set(&call->error, NP_E_CLOSED, "download", message);
    np_buf_fini(&call->body);
  }
}

/* -- Running ------------------------------------------------------------------
 */

/* A cancelled or timed-out wait ends the call with all it held. */
static void undo_whole(struct np_task *t) {
  struct np_http_call *call = t->wait_ud;
  t->wait_ud = NULL;
  if (call->state == NP_CALL_WAITING) {
    np_pool_quit(&call->client->pool, call->host, t);
    call->state = NP_CALL_NEW;
  }
  call->reader.task = NULL;
  np_http_call_release(call);
}

/* A streaming call belongs to whoever opened it: it ends, but stays. */
static void undo_stream(struct np_task *t) {
  struct np_http_call *call = t->wait_ud;
  if (call->reader.task == t) call->reader.task = NULL;
  if (call->writer.task == t) call->writer.task = NULL;
  if (call->state == NP_CALL_WAITING) {
    np_pool_quit(&call->client->pool, call->host, t);
    call->state = NP_CALL_ENDED;
    (void)np_error_set(&call->error, NP_E_QUEUE_TIMEOUT, "queue",
                       "no connection to %s came free in time",
                       call->host->origin.name);
    call->error.limit = "queue";
    call->error.has_sent = true;
  } else {
    np_http_call_close(call);
  }
}

static const struct np_wait_ops wait_whole = {"http", undo_whole, NULL};
static const struct np_wait_ops wait_open = {"http", undo_stream, NULL};

/* The reader of a stream may be another task next time: its wait ends, the
 * stream does not. */
static void undo_wait(struct np_task *t) {
  struct np_http_call *call = t->wait_ud;
  if (call->reader.task == t) call->reader.task = NULL;
  if (call->writer.task == t) call->writer.task = NULL;
}

static const struct np_wait_ops wait_head = {"http head", undo_wait, NULL};
static const struct np_wait_ops wait_read = {"http body", undo_wait, NULL};
static const struct np_wait_ops wait_write = {"http upload", undo_wait, NULL};

static int refuse(struct np_http_call *call, int code, const char *phase,
                  const char *message) {
  call->state = NP_CALL_ENDED;
  (void)np_error_set(&call->error, code, phase, "%s", message);
  call->error.has_sent = true;
  return code;
}

static int check(struct np_http_call *call, const struct np_http_request *r) {
  if (call->client->closed)
    return refuse(call, NP_E_CLOSED, NULL, "the client is closed");
  if (!np_http_is_token(r->method, r->method_len) ||
      strcmp(r->method, "CONNECT") == 0)
    return refuse(call, NP_E_INVALID, NULL, "the method is not usable");
  if (r->has_body && strcmp(r->method, "HEAD") == 0)
    return refuse(call, NP_E_INVALID, NULL, "a HEAD request has no body");
  call->host =
      np_pool_host(&call->client->pool, r->url, r->url_len, &call->error);
  if (call->host) return NP_OK;
  call->state = NP_CALL_ENDED;
  call->error.has_sent = true;
  return call->error.code;
}

static void take_request(struct np_http_call *call,
                         const struct np_http_request *r) {
  call->limits = r->limits;
  call->streams_response = r->streams_response;
  call->streams_body = r->streams_body;
  call->stream_len = r->streamed_len;
  call->replay_safe = r->replay_safe;
  call->x.method = r->method;
  call->x.url = r->url;
  call->x.url_len = r->url_len;
  call->x.body = r->streams_body ? NULL : r->body;
  call->x.body_len = r->streams_body ? r->streamed_len : r->body_len;
  call->x.has_body = r->has_body || r->streams_body;
  call->x.operation = r->operation;
  call->x.version = r->version;
  call->x.compression = r->compression;
}

static int refuse_entry(struct np_http_call *call, int rc) {
  call->error.limit = rc == NP_E_QUEUE_TIMEOUT ? "queue" : NULL;
  const char *limit = call->error.limit;
  rc = refuse(call, rc, "queue",
              rc == NP_E_QUEUE_FULL ? "too many requests wait for a connection"
              : rc == NP_E_QUEUE_TIMEOUT ? "no connection is free"
                                         : "the client is closed");
  call->error.limit = limit;
  return rc;
}

int np_http_call_run(struct np_http_call *call, struct np_task *t,
                     const struct np_http_request *r) {
  const struct np_wait_ops *ops =
      r->streams_response ? &wait_open : &wait_whole;
  t->wait_ud = call;
  int rc = check(call, r);
  if (rc < 0) return rc;
  take_request(call, r);
  call->made_ns = np_loop_now(call->client->http->loop);
  if (call->made_ns == 0) call->made_ns = 1; /* 0 means "not yet" */
  rc = np_pool_enter(&call->client->pool, call->host, t, ops, call,
                     r->limits.queue_ns);
  if (rc == NP_PARKED) {
    call->state = NP_CALL_WAITING;
  } else if (rc == NP_OK) {
    rc = np_call_begin(call, call->made_ns);
    if (rc < 0 || r->streams_response) return rc;
    (void)np_task_park(t, ops, call, NP_FOREVER);
  } else {
    return refuse_entry(call, rc);
  }
  call->reader = (struct np_call_wait){t, t->token};
  return NP_PARKED;
}

/* -- Streams -----------------------------------------------------------------
 */

static int park(struct np_call_wait *w, struct np_http_call *call,
                struct np_task *t, const struct np_wait_ops *ops) {
  if (w->task) return NP_E_INVALID; /* one task at a time, each way */
  w->task = t;
  w->token = np_task_park(t, ops, call, NP_FOREVER);
  return NP_PARKED;
}

int np_http_call_head(struct np_http_call *call, struct np_task *t) {
  t->wait_ud = call;
  if (call->head_done && call->error.code != NP_E_CLOSED) return NP_OK;
  if (call->error.code != NP_OK) return call->error.code;
  return park(&call->reader, call, t, &wait_head);
}

int np_http_call_read(struct np_http_call *call, struct np_task *t) {
  t->wait_ud = call;
  if (call->body.len > 0) return NP_OK;
  if (call->error.code != NP_OK) return call->error.code;
  if (call->state == NP_CALL_ENDED) return NP_OK;
  return park(&call->reader, call, t, &wait_read);
}

int np_http_call_write(struct np_http_call *call, struct np_task *t,
                       const char *data, size_t len) {
  t->wait_ud = call;
  if (call->error.code != NP_OK) return call->error.code;
  if (call->state != NP_CALL_RUNNING) return NP_E_SEND;
  if (call->body_finished || len > call->stream_len - call->stream_written)
    return NP_E_INVALID;
  if (np_buf_append(&call->out, data, len) < 0) return NP_E_LIMIT;
  call->stream_written += len;
  np_call_feed(call);
  if (call->error.code != NP_OK) return call->error.code;
  if (call->out.len - call->out_at <= UNSENT_MAX) return NP_OK;
  return park(&call->writer, call, t, &wait_write);
}

int np_http_call_finish(struct np_http_call *call) {
  if (call->error.code != NP_OK) return call->error.code;
  if (call->body_finished || call->state != NP_CALL_RUNNING) return NP_OK;
  if (call->stream_len != NP_BODY_UNKNOWN &&
      call->stream_written < call->stream_len) {
    np_call_abort(call, NP_E_INVALID, "the body is shorter than announced");
    return NP_E_INVALID;
  }
  call->body_finished = true;
  np_call_feed(call);
  return NP_OK;
}

/* -- What it brought ----------------------------------------------------------
 */

static const char *version_of(const struct np_http_call *call) {
  const char *head = call->head.data;
  if (call->head.len < 8 || memcmp(head, "HTTP/", 5) != 0) return "1.1";
  if (head[5] == '2') return "2";
  return head[5] == '1' && head[7] == '0' ? "1.0" : "1.1";
}

void np_http_call_result(const struct np_http_call *call,
                         struct np_http_result *out) {
  *out = (struct np_http_result){.status = call->status,
                                 .version = version_of(call),
                                 .head = call->head.data,
                                 .head_len = call->head.len,
                                 .body = call->body.data,
                                 .body_len = call->body.len,
                                 .sends = call->sends,
                                 .replay_safe = call->replay_safe};
}

void np_http_call_taken(struct np_http_call *call) {
  keep_buffer(&call->body);
  np_call_drain(call);
}

static uint64_t gap(uint64_t from_ns, uint64_t to_ns) {
  return to_ns > from_ns && from_ns > 0 ? to_ns - from_ns : 0;
}

void np_http_call_timings(const struct np_http_call *call,
                          struct np_http_timings *out) {
  struct np_http_call *mine = (struct np_http_call *)(uintptr_t)call;
  struct np_progress p = call->progress;
  uint64_t end_ns = call->ended_ns;
  if (call->state == NP_CALL_RUNNING && call->x.via) {
    call->x.via->ops->observe(&mine->x, &p);
    end_ns = np_loop_now(call->client->http->loop);
  }
  out->queue = gap(call->made_ns, call->admitted_ns);
  out->dns = p.dns_ns;
  out->connect = p.connect_ns;
  out->tls = p.tls_ns;
  out->send = gap(call->sending_ns, call->sent_ns);
  /* Simulated, a request may be out at the very instant it began. */
  uint64_t out_ns = p.before_send_ns + out->send;
  out->first_byte = p.first_byte_ns > out_ns ? p.first_byte_ns - out_ns : 0;
  out->download = gap(p.first_byte_ns, p.total_ns);
  out->total = gap(call->made_ns, end_ns);
}

const struct np_error *np_http_call_error(const struct np_http_call *call) {
  return &call->error;
}
