/* SPDX-License-Identifier: MIT
 * What server.c (the daemon on our loop), server_request.c (libmicrohttpd's
 * callbacks), server_reply.c (answers) and server_gone.c (clients who leave)
 * share. For these four files only.
 *
 * A request has one reference for libmicrohttpd (until "completed"), one for
 * its place in the queue or for whoever took it, one as a finished event. */
#ifndef NP_SERVER_IMPL_H
#define NP_SERVER_IMPL_H

#include "base/buf.h"
#include "core/loop.h"
#include "core/waitq.h"
#include "net/server.h"

#include <microhttpd.h>
#include <netinet/in.h>
#include <uv.h>

struct np_server {
  struct np_loop *loop; /* borrowed until free */
  struct np_server_config config;
  struct MHD_Daemon *daemon;
  struct np_source source; /* raised when libmicrohttpd has to run */
  struct np_timer timer;   /* its next timeout */
  uv_poll_t *poll;         /* of its epoll descriptor; owned */
  struct MHD_Response *too_large, *overloaded; /* fixed answers; owned */
  struct np_list live;     /* np_request.live: not completed or not released */
  struct np_list waiting;  /* np_request.link: complete, to be handed out */
  struct np_list finished; /* np_request.link: completed, to be reported */
  struct np_list left;     /* np_request.left: their clients have left */
  struct np_waitq acceptor;
  uint32_t waiting_count, running_count;
  uint64_t next_id, refused_count;
  uint64_t armed_ns; /* the timer's deadline; NP_FOREVER: stopped */
  uint16_t port;
  bool stopping; /* no new requests */
  bool closing;  /* nothing may be suspended any more */
};

enum np_request_state {
  NP_REQ_READING, /* the body is still coming */
  NP_REQ_WAITING, /* in the queue */
  NP_REQ_RUNNING, /* handed out, not answered */
  NP_REQ_ANSWERED,
  NP_REQ_COMPLETED /* libmicrohttpd has done with it */
};

struct np_request {
  struct np_list link, live, left;
  struct np_server *server;    /* NULL once it is not live any more */
  struct MHD_Connection *conn; /* NULL once completed */
  struct np_buf head; /* "METHOD\0target\0" and the headers' "name\0value\0" */
  size_t target_at, headers_at;
  struct np_buf body;
  uint64_t id, arrived_ns, done_ns, dropped_bytes;
  struct sockaddr_storage peer;
  int fd;
  uint32_t refs;
  struct MHD_Response *response; /* owned until handed to libmicrohttpd */
  unsigned status;
  struct np_buf out; /* the stream's unsent bytes */
  size_t out_at;     /* of which these have been sent */
  struct np_waitq writers, gone;
  uv_poll_t *watch; /* notes the client's leaving; owned */
  uint8_t state, outcome;
  bool headers_in, suspended, counted, too_large, bodiless;
  bool streaming, ended, aborted, has_left;
};

/* server.c */
/* Has libmicrohttpd look at a suspended connection in the next turn. */
void np_server_resume(struct np_request *r);
/* Wakes the acceptor if there is an event for it. */
void np_server_notify(struct np_server *s);

/* server_request.c */
/* Forgets the server when neither it nor the handler needs r to be known. */
void np_request_retire(struct np_request *r);
/* libmicrohttpd's callbacks; cls is the server. */
void *np_request_on_uri(void *cls, const char *uri, struct MHD_Connection *c);
enum MHD_Result np_request_on_access(void *cls, struct MHD_Connection *c,
                                     const char *url, const char *method,
                                     const char *version, const char *upload,
                                     size_t *upload_len, void **con_cls);
void np_request_on_completed(void *cls, struct MHD_Connection *c,
                             void **con_cls,
                             enum MHD_RequestTerminationCode code);

/* server_gone.c */
/* Leaves it to libmicrohttpd to notice that the client leaves. Once the whole
 * answer is in its hands, a client who has read it and leaves before
 * libmicrohttpd says "completed" has not broken anything off. */
void np_request_unwatch(struct np_request *r);
/* Stops watching and wakes whoever waits for the leaving. */
void np_request_gone_stop(struct np_request *r);

#endif
