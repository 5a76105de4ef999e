/* SPDX-License-Identifier: MIT
 * An HTTP/1.1 server: libmicrohttpd in external-event mode, driven by our loop
 * and by nothing else (no threads). libmicrohttpd parses and sends; this module
 * queues whole requests, hands out at most max_concurrency of them at a time,
 * and takes the answers. A request that waits for its answer is suspended, so
 * it costs nothing meanwhile. Needs real sockets and real time. Loop thread
 * only. */
#ifndef NP_SERVER_H
#define NP_SERVER_H

#include "base/buf.h"
#include "base/err.h"
#include "core/task.h"

struct np_server;
struct np_request;

struct np_server_config {
  const char *host;         /* an IP address, or "localhost" */
  uint16_t port;            /* 0: the system picks one */
  uint64_t max_body;        /* bytes; a larger one is answered 413 */
  uint32_t max_connections; /* beyond it the listen backlog holds them */
  uint32_t max_concurrency; /* requests handed out and not yet released */
  uint32_t max_waiting;     /* requests beyond that; more are answered 503 */
  uint32_t idle_timeout_s;  /* of a connection without traffic; 0: none */
  bool report;              /* whether finished requests become events */
};

struct np_server_stats {
  uint32_t connections; /* open ones */
  uint32_t running;     /* handed out and not released */
  uint32_t waiting;     /* complete, not yet handed out */
  uint64_t requests;    /* handed out so far */
  uint64_t refused;     /* answered 413 or 503 by the server itself */
};

enum np_outcome {
  NP_OUTCOME_NONE,
  NP_OUTCOME_SENT,         /* the answer was handed to the system whole */
  NP_OUTCOME_DISCONNECTED, /* the client left, or the answer broke off */
  NP_OUTCOME_DROPPED       /* we reset the connection */
};

/* What np_server_next takes from the queue. */
struct np_server_event {
  enum { NP_SERVER_NOTHING, NP_SERVER_REQUEST, NP_SERVER_FINISHED } type;
  struct np_request *request; /* owned by the caller: np_request_unref */
};

/* Listens. Fills e and returns NP_E_INVALID (a bad host, virtual time),
 * NP_E_CONNECT (cannot bind) or NP_E_LIMIT. Holds the loop until the free. */
int np_server_new(struct np_server **out, struct np_loop *loop,
                  const struct np_server_config *config, struct np_error *e);
/* Closes the socket and every connection, answered or not. Requests that are
 * still referenced stay valid and behave like those of a client who left. */
void np_server_free(struct np_server *s);
uint16_t np_server_port(const struct np_server *s);
/* libmicrohttpd's version. Static. */
const char *np_server_library_version(void);
void np_server_stats(const struct np_server *s, struct np_server_stats *out);

/* Waits for an event: NP_OK (also when somebody else may take it first) or
 * NP_E_CLOSED once the server is stopped and its last request has finished.
 * One task at a time: NP_E_QUEUE_FULL for a second. */
int np_server_accept(struct np_server *s, struct np_task *t);
/* Takes the next event; finished requests come before new ones. */
void np_server_next(struct np_server *s, struct np_server_event *event);
/* Closes the listening socket; requests that are here are still served, later
 * ones on open connections are answered 503. */
void np_server_stop(struct np_server *s);

/* -- A request ----------------------------------------------------------- */

void np_request_unref(struct np_request *r);
/* Nobody will answer any more: an unanswered or unfinished request is aborted.
 */
void np_request_forget(struct np_request *r);
/* Gives its place among max_concurrency to the next. Idempotent. */
void np_request_release(struct np_request *r);

uint64_t np_request_id(const struct np_request *r);
const char *np_request_method(const struct np_request *r);
const char *np_request_target(const struct np_request *r);
/* The next header line, in order of arrival, with *at 0 at first; false beyond
 * the last. Names are in lower case. Borrowed like the method and the target:
 * until the unref. */
bool np_request_header(const struct np_request *r, size_t *at,
                       const char **name, const char **value);
const char *np_request_body(const struct np_request *r, size_t *len);
/* The client's address and port, "" when unknown. */
void np_request_remote(const struct np_request *r, char *out, size_t size,
                       uint16_t *port);
/* When the headers were in and when the answer was out (0: not yet). */
uint64_t np_request_arrived(const struct np_request *r);
uint64_t np_request_done(const struct np_request *r);
enum np_outcome np_request_outcome(const struct np_request *r);

/* -- Its answer: one of reply, stream, drop -------------------------------- */

#define NP_SIZE_UNKNOWN UINT64_MAX

/* Answers with a whole body (copied). headers: "name\0value\0" ..., or NULL; a
 * line with an empty value is left out, as are Content-Length and
 * Transfer-Encoding, which follow from the body. Returns NP_E_CLOSED when the
 * client is gone, NP_E_INVALID when it was answered before or a header or the
 * status is not allowed. */
int np_request_reply(struct np_request *r, int status,
                     const struct np_buf *headers, const void *body,
                     size_t body_len);
/* Answers with a body that np_request_write brings; body_len NP_SIZE_UNKNOWN
 * means chunked. Errors as above. */
int np_request_stream(struct np_request *r, int status,
                      const struct np_buf *headers, uint64_t body_len);
/* Appends to the body; waits while much is unsent. NP_OK, NP_PARKED,
 * NP_E_CLOSED when the client has left, NP_E_INVALID when there is no stream.
 */
int np_request_write(struct np_request *r, struct np_task *t, const void *data,
                     size_t len);
/* Ends the stream well. */
void np_request_end(struct np_request *r);
/* Closes the connection in the middle of whatever it does. */
void np_request_abort(struct np_request *r);
/* Resets the connection (TCP RST). */
void np_request_drop(struct np_request *r);

/* Whether the client has left, asked of the socket. A half-closed connection
 * counts as left. */
bool np_request_disconnected(const struct np_request *r);
/* Waits until the client has left. NP_OK, NP_PARKED or NP_E_TIMEOUT. */
int np_request_wait_gone(struct np_request *r, struct np_task *t,
                         uint64_t timeout_ns);

#endif
