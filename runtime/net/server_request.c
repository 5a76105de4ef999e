/* SPDX-License-Identifier: MIT */
#include "net/server_impl.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

/* A body over the limit is read and dropped up to this many bytes, so that the
 * client reads the 413 instead of a reset connection; beyond, it is cut off. */
enum { DRAIN_MAX = 1 << 20 };

/* -- Life ------------------------------------------------------------------ */

void *np_request_on_uri(void *cls, const char *uri, struct MHD_Connection *c) {
  struct np_request *r = calloc(1, sizeof *r);
  size_t len = strlen(uri) + 1;
  (void)c;
  if (!r || np_buf_append(&r->body, uri, len) < 0) {
    free(r);
    return NULL; /* np_request_on_access then closes the connection */
  }
  r->server = cls;
  r->refs = 1;
  r->fd = -1;
  np_list_init(&r->link);
  np_list_init(&r->left);
  np_list_push_tail(&r->server->live, &r->live);
  np_waitq_init(&r->writers, 0);
  np_waitq_init(&r->gone, 0);
  return r;
}

void np_request_unref(struct np_request *r) {
  if (--r->refs > 0) return;
  np_list_remove(&r->live);
  if (r->response) MHD_destroy_response(r->response);
  np_buf_fini(&r->head);
  np_buf_fini(&r->body);
  np_buf_fini(&r->out);
  free(r);
}

void np_request_retire(struct np_request *r) {
  struct np_server *s = r->server;
  if (!s || r->state != NP_REQ_COMPLETED || r->counted) return;
  np_list_remove(&r->live);
  r->server = NULL;
  np_server_notify(s);
}

void np_request_release(struct np_request *r) {
  if (!r->counted) return;
  r->counted = false;
  if (!r->server) return;
  r->server->running_count--;
  np_server_notify(r->server);
  np_request_retire(r);
}

void np_request_on_completed(void *cls, struct MHD_Connection *c,
                             void **con_cls,
                             enum MHD_RequestTerminationCode code) {
  struct np_server *s = cls;
  struct np_request *r = *con_cls;
  (void)c;
  if (!r) return;
  *con_cls = NULL;
  if (r->state == NP_REQ_WAITING) { /* only when the server is closed */
    np_list_remove(&r->link);
    s->waiting_count--;
    r->refs--;
  }
  bool whole = code == MHD_REQUEST_TERMINATED_COMPLETED_OK && !r->aborted;
  if (r->outcome == NP_OUTCOME_NONE)
    r->outcome = whole ? NP_OUTCOME_SENT : NP_OUTCOME_DISCONNECTED;
  bool handed_out = r->id != 0 && r->state != NP_REQ_WAITING;
  r->state = NP_REQ_COMPLETED;
  r->done_ns = np_loop_now(s->loop);
  r->suspended = false;
  r->conn = NULL;
  np_request_gone_stop(r);
  np_waitq_wake_all(&r->writers, whole ? NP_OK : NP_E_CLOSED);
  if (handed_out && s->config.report) {
    r->refs++; /* the event's */
    np_list_push_tail(&s->finished, &r->link);
    np_server_notify(s);
  }
  np_request_retire(r);
  np_request_unref(r);
}

/* -- What libmicrohttpd tells ---------------------------------------------- */

static enum MHD_Result copy_header(void *cls, enum MHD_ValueKind kind,
                                   const char *name, const char *value) {
  struct np_request *r = cls;
  size_t at = r->head.len;
  (void)kind;
  if (!value) value = "";
  if (np_buf_append(&r->head, name, strlen(name) + 1) < 0 ||
      np_buf_append(&r->head, value, strlen(value) + 1) < 0) {
    r->aborted = true;
    return MHD_NO;
  }
  for (char *p = r->head.data + at; *p; p++)
    if (*p >= 'A' && *p <= 'Z') *p = (char)(*p - 'A' + 'a');
  return MHD_YES;
}

static void copy_peer(struct np_request *r) {
  const union MHD_ConnectionInfo *info =
      MHD_get_connection_info(r->conn, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
  if (info && info->client_addr->sa_family == AF_INET)
    memcpy(&r->peer, info->client_addr, sizeof(struct sockaddr_in));
  else if (info && info->client_addr->sa_family == AF_INET6)
    memcpy(&r->peer, info->client_addr, sizeof(struct sockaddr_in6));
  info = MHD_get_connection_info(r->conn, MHD_CONNECTION_INFO_CONNECTION_FD);
  if (info) r->fd = info->connect_fd;
}

static enum MHD_Result refuse(struct np_request *r, unsigned status,
                              struct MHD_Response *response) {
  r->state = NP_REQ_ANSWERED;
  r->server->refused_count++;
  return MHD_queue_response(r->conn, status, response);
}

static enum MHD_Result on_headers(struct np_request *r, const char *method) {
  struct np_server *s = r->server;
  r->headers_in = true;
  r->arrived_ns = np_loop_now(s->loop);
  copy_peer(r);
  /* The target came before the method was known; see np_request_on_uri. */
  struct np_buf target = r->body;
  r->body = (struct np_buf){0};
  r->target_at = strlen(method) + 1;
  r->headers_at = r->target_at + target.len;
  if (np_buf_append(&r->head, method, r->target_at) < 0 ||
      np_buf_append(&r->head, target.data, target.len) < 0)
    r->aborted = true;
  else
    (void)MHD_get_connection_values(r->conn, MHD_HEADER_KIND, copy_header, r);
  np_buf_fini(&target);
  r->bodiless = strcmp(method, "HEAD") == 0;
  if (r->aborted) return MHD_NO;

  const char *length =
      MHD_lookup_connection_value(r->conn, MHD_HEADER_KIND, "Content-Length");
  uint64_t body_len = length ? strtoull(length, NULL, 10) : 0;
  if (body_len <= s->config.max_body) return MHD_YES;
  r->too_large = true;
  if (body_len - s->config.max_body > DRAIN_MAX ||
      MHD_lookup_connection_value(r->conn, MHD_HEADER_KIND, "Expect"))
    return refuse(r, 413, s->too_large);
  return MHD_YES;
}

static enum MHD_Result on_body(struct np_request *r, const char *data,
                               size_t len) {
  if (!r->too_large && len > r->server->config.max_body - r->body.len)
    r->too_large = true;
  if (!r->too_large)
    return np_buf_append(&r->body, data, len) == NP_OK ? MHD_YES : MHD_NO;
  np_buf_fini(&r->body);
  r->dropped_bytes += len;
  return r->dropped_bytes > r->server->config.max_body + DRAIN_MAX ? MHD_NO
                                                                   : MHD_YES;
}

static void suspend(struct np_request *r) {
  r->suspended = true;
  MHD_suspend_connection(r->conn);
}

static enum MHD_Result on_request(struct np_request *r) {
  struct np_server *s = r->server;
  uint64_t held = (uint64_t)s->running_count + s->waiting_count;
  if (r->too_large) return refuse(r, 413, s->too_large);
  if (s->stopping ||
      held >= (uint64_t)s->config.max_concurrency + s->config.max_waiting)
    return refuse(r, 503, s->overloaded);
  r->state = NP_REQ_WAITING;
  r->id = ++s->next_id;
  r->refs++;
  s->waiting_count++;
  np_list_push_tail(&s->waiting, &r->link);
  suspend(r);
  np_server_notify(s);
  return MHD_YES;
}

static enum MHD_Result on_resumed(struct np_request *r) {
  struct MHD_Response *response = r->response;
  if (r->aborted || (!response && r->server->closing)) return MHD_NO;
  if (!response) { /* nothing to say yet: not to be asked again and again */
    suspend(r);
    return MHD_YES;
  }
  r->response = NULL;
  enum MHD_Result rc = MHD_queue_response(r->conn, r->status, response);
  MHD_destroy_response(response); /* libmicrohttpd has its own reference */
  return rc;
}

enum MHD_Result np_request_on_access(void *cls, struct MHD_Connection *c,
                                     const char *url, const char *method,
                                     const char *version, const char *upload,
                                     size_t *upload_len, void **con_cls) {
  struct np_request *r = *con_cls;
  (void)cls;
  (void)url;
  (void)version;
  if (!r) return MHD_NO;
  if (!r->headers_in) {
    r->conn = c;
    return on_headers(r, method);
  }
  if (*upload_len > 0) {
    size_t len = *upload_len;
    *upload_len = 0;
    return on_body(r, upload, len);
  }
  return r->state == NP_REQ_READING ? on_request(r) : on_resumed(r);
}

/* -- Reading it --------------------------------------------------------------
 */

uint64_t np_request_id(const struct np_request *r) {
  return r->id;
}

const char *np_request_method(const struct np_request *r) {
  return r->head.data;
}

const char *np_request_target(const struct np_request *r) {
  return r->head.data + r->target_at;
}

bool np_request_header(const struct np_request *r, size_t *at,
                       const char **name, const char **value) {
  if (*at == 0) *at = r->headers_at;
  if (*at >= r->head.len) return false;
  *name = r->head.data + *at;
  *value = *name + strlen(*name) + 1;
  *at += (size_t)(*value - *name) + strlen(*value) + 1;
  return true;
}

const char *np_request_body(const struct np_request *r, size_t *len) {
  *len = r->body.len;
  return r->body.data ? r->body.data : "";
}

void np_request_remote(const struct np_request *r, char *out, size_t size,
                       uint16_t *port) {
  const struct sockaddr_in *v4 = (const struct sockaddr_in *)&r->peer;
  const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)&r->peer;
  out[0] = '\0';
  *port = 0;
  if (r->peer.ss_family == AF_INET) {
    (void)inet_ntop(AF_INET, &v4->sin_addr, out, (socklen_t)size);
    *port = ntohs(v4->sin_port);
  } else if (r->peer.ss_family == AF_INET6) {
    (void)inet_ntop(AF_INET6, &v6->sin6_addr, out, (socklen_t)size);
    *port = ntohs(v6->sin6_port);
  }
}

uint64_t np_request_arrived(const struct np_request *r) {
  return r->arrived_ns;
}

uint64_t np_request_done(const struct np_request *r) {
  return r->done_ns;
}

enum np_outcome np_request_outcome(const struct np_request *r) {
  return (enum np_outcome)r->outcome;
}
