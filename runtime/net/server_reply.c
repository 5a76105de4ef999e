/* SPDX-License-Identifier: MIT */
#include "net/server_impl.h"

#include <string.h>
#include <strings.h>
#include <sys/socket.h>

/* Unsent bytes of a stream: a writer waits above HIGH and goes on below LOW. */
enum { OUT_HIGH = 64 * 1024, OUT_LOW = 16 * 1024, BLOCK = 16 * 1024 };

/* -- Building the answer -----------------------------------------------------
 */

static bool follows_from_body(const char *name) {
  return strcasecmp(name, "content-length") == 0 ||
         strcasecmp(name, "transfer-encoding") == 0;
}

static int add_headers(struct MHD_Response *response,
                       const struct np_buf *headers) {
  const char *p = headers->data, *end = p + headers->len;
  while (p < end) {
    const char *name = p, *value = name + strlen(name) + 1;
    p = value + strlen(value) + 1;
    if (*value == '\0' || follows_from_body(name)) continue;
    if (MHD_add_response_header(response, name, value) != MHD_YES)
      return NP_E_INVALID;
  }
  return NP_OK;
}

static int may_answer(const struct np_request *r, int status) {
  if (r->state > NP_REQ_RUNNING && r->state != NP_REQ_COMPLETED)
    return NP_E_INVALID;
  if (!r->conn || r->aborted) return NP_E_CLOSED;
  return status >= 200 && status <= 999 ? NP_OK : NP_E_INVALID;
}

/* Takes over response; NULL is out of memory. */
static int answer(struct np_request *r, int status,
                  struct MHD_Response *response, const struct np_buf *headers) {
  if (!response) return NP_E_LIMIT;
  int rc = headers && headers->len > 0 ? add_headers(response, headers) : NP_OK;
  if (rc < 0) {
    MHD_destroy_response(response);
    return rc;
  }
  if (r->server->stopping)
    (void)MHD_add_response_header(response, "Connection", "close");
  r->response = response;
  r->status = (unsigned)status;
  r->state = NP_REQ_ANSWERED;
  if (status == 204 || status == 304) r->bodiless = true;
  np_server_resume(r);
  return NP_OK;
}

int np_request_reply(struct np_request *r, int status,
                     const struct np_buf *headers, const void *body,
                     size_t body_len) {
  int rc = may_answer(r, status);
  if (rc < 0) return rc;
  rc = answer(r, status,
              MHD_create_response_from_buffer(body_len, (void *)(uintptr_t)body,
                                              MHD_RESPMEM_MUST_COPY),
              headers);
  if (rc == NP_OK) np_request_unwatch(r);
  return rc;
}

/* -- Streaming ---------------------------------------------------------------
 */

static size_t unsent(const struct np_request *r) {
  return r->out.len - r->out_at;
}

static ssize_t read_stream(void *cls, uint64_t pos, char *buf, size_t max) {
  struct np_request *r = cls;
  size_t len = unsent(r);
  (void)pos;
  if (r->aborted) return MHD_CONTENT_READER_END_WITH_ERROR;
  if (len == 0 && r->ended) return MHD_CONTENT_READER_END_OF_STREAM;
  if (len == 0 && r->server->closing) return MHD_CONTENT_READER_END_WITH_ERROR;
  if (len == 0) {
    r->suspended = true;
    MHD_suspend_connection(r->conn);
    return 0;
  }
  if (len > max) len = max;
  memcpy(buf, r->out.data + r->out_at, len);
  r->out_at += len;
  if (unsent(r) == 0) {
    np_buf_clear(&r->out);
    r->out_at = 0;
  }
  if (unsent(r) <= OUT_LOW) np_waitq_wake_all(&r->writers, NP_OK);
  return (ssize_t)len;
}

static struct MHD_Response *stream_response(struct np_request *r,
                                            uint64_t body_len) {
  bool unknown = body_len == NP_SIZE_UNKNOWN;
  struct MHD_Response *response = MHD_create_response_from_callback(
      unknown ? MHD_SIZE_UNKNOWN : body_len, BLOCK, read_stream, r, NULL);
  /* libmicrohttpd 0.9.75 sends the last chunk of a chunked answer to HEAD,
   * which the client takes for the next answer: without chunks it closes. */
  if (response && unknown && r->bodiless)
    (void)MHD_set_response_options(response, MHD_RF_HTTP_1_0_COMPATIBLE_STRICT,
                                   MHD_RO_END);
  return response;
}

int np_request_stream(struct np_request *r, int status,
                      const struct np_buf *headers, uint64_t body_len) {
  int rc = may_answer(r, status);
  if (rc < 0) return rc;
  rc = answer(r, status, stream_response(r, body_len), headers);
  if (rc == NP_OK) r->streaming = true;
  return rc;
}

static void leave_writers(struct np_task *t) {
  np_waitq_leave(&((struct np_request *)t->wait_ud)->writers, t);
}

static const struct np_wait_ops write_ops = {.what = "a client that reads",
                                             .undo = leave_writers};

static int append(struct np_request *r, const void *data, size_t len) {
  if (r->out_at > 0 && r->out_at >= r->out.len / 2) {
    memmove(r->out.data, r->out.data + r->out_at, unsent(r));
    r->out.len -= r->out_at;
    r->out_at = 0;
  }
  return np_buf_append(&r->out, data, len);
}

int np_request_write(struct np_request *r, struct np_task *t, const void *data,
                     size_t len) {
  if (!r->streaming || r->ended) return NP_E_INVALID;
  if (r->aborted) return NP_E_CLOSED;
  if (r->bodiless) return NP_OK; /* the client asked for the head only */
  if (!r->conn) return NP_E_CLOSED;
  /* A suspended connection does not notice that its client leaves. */
  if (r->suspended && np_request_disconnected(r)) {
    np_request_abort(r);
    return NP_E_CLOSED;
  }
  int rc = append(r, data, len);
  if (rc < 0) return rc;
  np_server_resume(r);
  if (unsent(r) <= OUT_HIGH) return NP_OK;
  return np_waitq_park(&r->writers, t, &write_ops, r, NP_FOREVER);
}

void np_request_end(struct np_request *r) {
  if (!r->streaming) return;
  r->ended = true;
  np_request_unwatch(r);
  if (r->conn) np_server_resume(r);
}

/* -- Breaking off ------------------------------------------------------------
 */

void np_request_abort(struct np_request *r) {
  if (!r->conn) return;
  r->aborted = true;
  if (r->suspended)
    np_server_resume(r);
  else if (r->fd >= 0) /* libmicrohttpd waits for the socket: it ends now */
    (void)shutdown(r->fd, SHUT_RDWR);
}

void np_request_forget(struct np_request *r) {
  bool unanswered = r->state == NP_REQ_RUNNING;
  if (unanswered || (r->streaming && !r->ended)) np_request_abort(r);
}

void np_request_drop(struct np_request *r) {
  struct linger linger = {.l_onoff = 1, .l_linger = 0};
  struct sockaddr none = {.sa_family = AF_UNSPEC};
  if (!r->conn) return;
  r->outcome = NP_OUTCOME_DROPPED;
  /* libmicrohttpd shuts a socket down before it closes it, which sends a FIN;
   * on Linux, connecting to AF_UNSPEC resets the connection here and now. */
  (void)setsockopt(r->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
  (void)connect(r->fd, &none, sizeof none);
  np_request_abort(r);
}
