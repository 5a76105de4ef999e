/* SPDX-License-Identifier: MIT
 * The running part of a call's life: what the transport reports, time limits,
 * the end. */
#include "net/http_client.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

enum {
  /* libcurl sends a body below this in one go with the headers; a larger one
   * is read piece by piece, which shows when the last byte has left. */
  READ_FROM = 64 * 1024,
  UNREAD_MAX = 256 * 1024, /* of a streamed response, then it pauses */
  UNSENT_LOW = 64 * 1024,  /* of a streamed body, then the writer goes on */
  RESERVE_MAX = 8 * 1024 * 1024,
};

static struct np_http_call *of(struct np_exchange *x) {
  return np_container_of(x, struct np_http_call, x);
}

/* Never 0, which means "not yet": virtual time begins there. */
static uint64_t now(const struct np_http_call *call) {
  uint64_t now_ns = np_loop_now(call->client->http->loop);
  return now_ns ? now_ns : 1;
}

void np_call_wake(struct np_call_wait *w, int status) {
  struct np_task *t = w->task;
  if (!t) return;
  w->task = NULL;
  (void)np_task_wake(t, w->token, status);
}

/* -- Time limits --------------------------------------------------------------
 */

struct deadline {
  uint64_t at_ns;
  uint64_t limit_ns;
  const char *limit;
};

static void sooner(struct deadline *d, uint64_t from_ns, uint64_t limit_ns,
                   const char *limit) {
  uint64_t at_ns =
      limit_ns == NP_FOREVER ? NP_FOREVER : np_deadline(from_ns, limit_ns);
  if (at_ns < d->at_ns) *d = (struct deadline){at_ns, limit_ns, limit};
}

/* Bytes are due from one side or the other, and we do not hold them up. */
static bool bytes_are_due(const struct np_http_call *call) {
  if (call->sends > 0 && !call->sent_ns) return !call->starved;
  return call->head_total > 0 && !call->brimming;
}

/* The whole answer is here while the body of the request is still on its way:
 * nobody wants the rest. Only libcurl 7.88 does on HTTP/2: it waits for the
 * server to take more, which it does not. */
static bool answered_early(const struct np_http_call *call) {
  return call->sends > 0 && !call->sent_ns && call->head_done &&
         !call->encoded && call->body_total == call->announced;
}

/* The limit that applies now and ends first. */
static struct deadline next_deadline(const struct np_http_call *call) {
  const struct np_http_limits *l = &call->limits;
  struct deadline d = {NP_FOREVER, NP_FOREVER, NULL};
  sooner(&d, call->admitted_ns, l->total_ns, "total");
  if (call->sends == 0) sooner(&d, call->admitted_ns, l->connect_ns, "connect");
  if (call->sent_ns && !call->head_done)
    sooner(&d, call->sent_ns, l->first_byte_ns, "first_byte");
  if (answered_early(call)) d.at_ns = 0;
  if (bytes_are_due(call)) sooner(&d, call->activity_ns, l->idle_ns, "idle");
  return d;
}

/* The timer fires at the earliest deadline or before: a deadline that moves
 * away is found out when it fires, not with each byte. */
static void arm(struct np_http_call *call) {
  uint64_t at_ns = next_deadline(call).at_ns;
  if (at_ns >= call->armed_ns) return;
  call->armed_ns = at_ns;
  if (np_timer_start(&call->client->http->loop->timers, &call->timer, at_ns) <
      0)
    call->armed_ns = NP_FOREVER; /* tried again with the next event */
}

static void touch(struct np_http_call *call) {
  if (call->limits.idle_ns != NP_FOREVER) call->activity_ns = now(call);
}

/* -- What a trace tells -------------------------------------------------------
 */

/* Begins an event of the call's, or returns NULL: nobody wants to know. */
static struct np_trace *trace(const struct np_http_call *call,
                              const char *what) {
  struct np_trace *t = call->client->http->loop->trace;
  if (!t || call->trace_number == 0) return NULL;
  np_trace_begin(t, what);
  np_trace_number(t, "call", call->trace_number);
  return t;
}

static void trace_begin(struct np_http_call *call) {
  struct np_trace *t = call->client->http->loop->trace;
  call->trace_number = t ? ++t->calls : 0;
  t = trace(call, "request");
  if (!t) return;
  np_trace_name(t, "method", call->x.method);
  np_trace_text(t, "url", call->x.url, call->x.url_len);
  np_trace_end(t);
}

static void trace_sending(const struct np_http_call *call) {
  struct np_trace *t = trace(call, "send");
  if (!t) return;
  np_trace_number(t, "send", call->sends);
  np_trace_end(t);
}

static void trace_ended(const struct np_http_call *call) {
  bool failed = call->error.code != NP_OK;
  struct np_trace *t = trace(call, failed ? "failure" : "answer");
  if (!t) return;
  np_trace_number(t, failed ? "sends" : "status",
                  failed ? call->sends : (uint64_t)call->status);
  if (failed) np_trace_name(t, "kind", np_err_name(call->error.code));
  if (failed) np_trace_name(t, "phase", call->error.phase);
  if (!failed) np_trace_number(t, "bytes", call->body_total);
  np_trace_end(t);
}

/* -- The end ------------------------------------------------------------------
 */

static const char *phase_of(const struct np_http_call *call,
                            const struct np_progress *p) {
  if (call->sends == 0) return p->phase ? p->phase : "connect";
  if (!call->sent_ns) return "send";
  return call->head_done ? "download" : "first_byte";
}

static enum np_sent sent_of(const struct np_http_call *call,
                            const struct np_progress *p) {
  if (call->head_total > 0) return NP_SENT_YES; /* it answers */
  return call->sends > 0 && p->sent ? NP_SENT_MAYBE : NP_SENT_NO;
}

static void dress_error(struct np_http_call *call,
                        const struct np_progress *p) {
  struct np_error *e = &call->error;
  if (call->refused_again)
    (void)np_error_set(e, NP_E_RECEIVE, NULL,
                       "%s closed a kept-alive connection without an answer; "
                       "not sent again, for it may have been processed",
                       call->host->origin.name);
  if (!e->phase) e->phase = phase_of(call, p);
  e->has_sent = true;
  e->sent = sent_of(call, p);
  e->sends = call->sends;
}

/* The call has left the transport. First who waited for it learns, then the
 * place goes to the next. */
static void ended(struct np_http_call *call, const struct np_progress *p) {
  struct np_http *h = call->client->http;
  np_timer_stop(&h->loop->timers, &call->timer);
  call->armed_ns = NP_FOREVER;
  call->state = NP_CALL_ENDED;
  call->ended_ns = now(call);
  call->progress = *p;
  if (call->error.code != NP_OK || call->refused_again) dress_error(call, p);
  trace_ended(call);
  np_call_wake(&call->reader, call->error.code);
  np_call_wake(&call->writer,
               call->error.code != NP_OK ? call->error.code : NP_E_SEND);
  np_pool_leave(&call->client->pool, call->host);
}

static void leave_transport(struct np_http_call *call, struct np_progress *p) {
  if (!call->x.via) return;
  call->x.via->ops->observe(&call->x, p);
  call->x.via->ops->cancel(&call->x);
}

void np_call_abort(struct np_http_call *call, int code, const char *message) {
  struct np_progress p = {0};
  const char *limit = call->error.limit;
  leave_transport(call, &p);
  (void)np_error_set(&call->error, code, NULL, "%s", message);
  call->error.limit = limit;
  ended(call, &p);
}

static void on_timer(struct np_timer *timer) {
  struct np_http_call *call =
      np_container_of(timer, struct np_http_call, timer);
  struct deadline d = next_deadline(call);
  struct np_progress p = {0};
  char message[160];
  call->armed_ns = NP_FOREVER;
  if (d.at_ns > now(call)) {
    arm(call);
    return;
  }
  if (answered_early(call)) {
    leave_transport(call, &p);
    ended(call, &p);
    return;
  }
  (void)snprintf(message, sizeof message, "%.100s: timeout.%s of %g s is over",
                 call->host->origin.name, d.limit, (double)d.limit_ns / 1e9);
  call->error.limit = d.limit;
  np_call_abort(call, NP_E_TIMEOUT, message);
}

/* -- What the transport reports -------------------------------------------- */

static bool on_sending(struct np_exchange *x, bool again) {
  struct np_http_call *call = of(x);
  if (call->sends > 0 && again && !call->replay_safe) {
    call->refused_again = true;
    return false;
  }
  call->sends++;
  call->client->sends++;
  call->client->http->sends++;
  call->sending_ns = call->activity_ns = now(call);
  call->sent_ns = x->has_body && !x->body ? 0 : call->sending_ns;
  trace_sending(call);
  arm(call);
  return true;
}

static void all_sent(struct np_http_call *call) {
  if (call->sent_ns) return;
  call->sent_ns = now(call);
  arm(call);
}

static size_t read_source(struct np_http_call *call, char *out, size_t room) {
  size_t left = (size_t)(call->x.body_len - call->source_at);
  size_t len = left < room ? left : room;
  memcpy(out, call->source + call->source_at, len);
  call->source_at += len;
  if (len == left) all_sent(call);
  return len;
}

static size_t read_stream(struct np_http_call *call, char *out, size_t room) {
  size_t left = call->out.len - call->out_at;
  size_t len = left < room ? left : room;
  if (len == 0 && !call->body_finished) {
    call->starved = true;
    return NP_READ_PAUSE;
  }
  if (len > 0) memcpy(out, call->out.data + call->out_at, len);
  call->out_at += len;
  call->source_at += len;
  if (call->out_at == call->out.len || call->out_at >= UNSENT_LOW) {
    left = call->out.len - call->out_at;
    if (left > 0) memmove(call->out.data, call->out.data + call->out_at, left);
    call->out.len = left;
    call->out_at = 0;
  }
  left = call->out.len - call->out_at;
  if (call->source_at == call->stream_len || (left == 0 && call->body_finished))
    all_sent(call);
  if (left <= UNSENT_LOW) np_call_wake(&call->writer, NP_OK);
  return len;
}

static size_t on_read(struct np_exchange *x, char *out, size_t room) {
  struct np_http_call *call = of(x);
  touch(call);
  return call->source ? read_source(call, out, room)
                      : read_stream(call, out, room);
}

static bool on_rewind(struct np_exchange *x) {
  struct np_http_call *call = of(x);
  if (!call->source && call->source_at > 0) return false; /* gone for good */
  call->source_at = 0;
  return true;
}

/* "HTTP/1.1 200 OK" */
static int parse_status(const char *line, size_t len) {
  const char *space = memchr(line, ' ', len);
  if (!space || line + len - space < 4) return 0;
  int status = 0;
  for (int i = 1; i <= 3; i++) {
    if (space[i] < '0' || space[i] > '9') return 0;
    status = status * 10 + (space[i] - '0');
  }
  return status;
}

static bool too_large(struct np_http_call *call, const char *phase,
                      const char *what, uint64_t limit) {
  (void)np_error_set(&call->error, NP_E_TOO_LARGE, phase,
                     "%s from %.100s is larger than %llu bytes", what,
                     call->host->origin.name, (unsigned long long)limit);
  return false;
}

/* "Content-Length: 17", or NP_BODY_UNKNOWN for any other line. */
static uint64_t parse_length(const char *line, size_t len) {
  static const char name[] = "content-length:";
  size_t i = sizeof name - 1;
  uint64_t value = 0;
  if (len < i || strncasecmp(line, name, i) != 0) return NP_BODY_UNKNOWN;
  while (i < len && line[i] == ' ') i++;
  for (; i < len && line[i] >= '0' && line[i] <= '9'; i++) {
    if (value > UINT64_MAX / 16) return NP_BODY_UNKNOWN;
    value = value * 10 + (uint64_t)(line[i] - '0');
  }
  return value;
}

static bool head_ended(struct np_http_call *call) {
  /* 1xx is only news on the way, but for a switch of protocols. */
  if (call->status >= 100 && call->status < 200 && call->status != 101)
    return true;
  call->head_done = true;
  bool has_body = call->status != 204 && call->status != 304 &&
                  strcmp(call->x.method, "HEAD") != 0;
  if (!has_body) call->announced = 0;
  if (call->announced != NP_BODY_UNKNOWN &&
      call->announced > call->limits.max_body)
    return too_large(call, "download", "the body", call->limits.max_body);
  arm(call);
  if (call->streams_response) np_call_wake(&call->reader, NP_OK);
  return true;
}

static bool on_head(struct np_exchange *x, const char *line, size_t len) {
  struct np_http_call *call = of(x);
  touch(call);
  call->head_total += len;
  if (call->head_total > call->limits.max_headers)
    return too_large(call, "first_byte", "the head", call->limits.max_headers);
  if (call->head_done) return true; /* a trailer */
  if (len > 5 && memcmp(line, "HTTP/", 5) == 0) {
    np_buf_clear(&call->head);
    call->status = parse_status(line, len);
    call->announced = NP_BODY_UNKNOWN;
    call->encoded = false;
  } else if (line[0] == 'c' || line[0] == 'C') {
    uint64_t length = parse_length(line, len);
    if (length != NP_BODY_UNKNOWN) call->announced = length;
    call->encoded |=
        len > 17 && strncasecmp(line, "content-encoding:", 17) == 0;
  }
  np_call_lend(call->client, &call->head);
  if (np_buf_append(&call->head, line, len) < 0) return false;
  if (call->head_total == len) arm(call); /* from now on bytes are due */
  if (line[0] == '\n' || (line[0] == '\r' && line[1] == '\n'))
    return head_ended(call);
  return true;
}

/* One allocation for a body whose length is known. */
static bool reserve_body(struct np_http_call *call) {
  if (call->announced == NP_BODY_UNKNOWN || call->streams_response) return true;
  size_t more =
      call->announced < RESERVE_MAX ? (size_t)call->announced : RESERVE_MAX;
  return np_buf_reserve(&call->body, more) == NP_OK;
}

static enum np_take on_body(struct np_exchange *x, const char *data,
                            size_t len) {
  struct np_http_call *call = of(x);
  if (call->streams_response && call->body.len >= UNREAD_MAX) {
    call->brimming = true;
    return NP_TAKE_PAUSE;
  }
  touch(call);
  np_call_lend(call->client, &call->body);
  if (call->body_total == 0 && !reserve_body(call)) return NP_TAKE_REFUSE;
  if (len > call->limits.max_body - call->body_total) {
    (void)too_large(call, "download", "the body", call->limits.max_body);
    return NP_TAKE_REFUSE;
  }
  if (np_buf_append(&call->body, data, len) < 0) return NP_TAKE_REFUSE;
  call->body_total += len;
  if (answered_early(call)) arm(call);
  if (call->streams_response) np_call_wake(&call->reader, NP_OK);
  return NP_TAKE_OK;
}

static void on_done(struct np_exchange *x, const struct np_progress *p,
                    const struct np_error *e) {
  struct np_http_call *call = of(x);
  /* What we stopped ourselves shows as libcurl's "write error". */
  if (e && call->error.code == NP_OK) call->error = *e;
  /* libcurl takes half a head for a whole one. */
  if (!e && !call->head_done)
    (void)np_error_set(&call->error, NP_E_RECEIVE, "first_byte",
                       "%s closed the connection in the middle of the head",
                       call->host->origin.name);
  ended(call, p);
}

static const struct np_exchange_ops upcalls = {.sending = on_sending,
                                               .read = on_read,
                                               .rewind = on_rewind,
                                               .head = on_head,
                                               .body = on_body,
                                               .done = on_done};

/* -- The beginning ------------------------------------------------------------
 */

int np_call_begin(struct np_http_call *call, uint64_t now_ns) {
  struct np_http_client *c = call->client;
  struct np_transport *via = np_client_transport(c);
  struct np_progress p = {0};
  call->state = NP_CALL_RUNNING;
  call->admitted_ns = call->activity_ns = now_ns;
  call->x.up = &upcalls;
  call->x.origin = &call->host->origin;
  call->x.headers = &call->headers;
  if (call->x.body && call->x.body_len >= READ_FROM) {
    call->source = call->x.body;
    call->x.body = NULL;
  }
  np_timer_init(&call->timer, on_timer);
  trace_begin(call);
  arm(call);
  if (!via)
    (void)np_error_set(&call->error, NP_E_LIMIT, NULL, "out of memory");
  else if (via->ops->start(via, &call->x, &call->error) == NP_OK)
    return NP_OK;
  ended(call, &p);
  return call->error.code;
}

void np_call_feed(struct np_http_call *call) {
  if (!call->starved || !call->x.via) return;
  call->starved = false;
  touch(call);
  arm(call);
  call->x.via->ops->resume(&call->x, false);
}

void np_call_drain(struct np_http_call *call) {
  if (!call->brimming || !call->x.via) return;
  call->brimming = false;
  touch(call);
  arm(call);
  call->x.via->ops->resume(&call->x, true);
}
