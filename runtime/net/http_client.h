/* SPDX-License-Identifier: MIT
 * The structs behind http.h, shared by http's own files only. */
#ifndef NP_HTTP_CLIENT_H
#define NP_HTTP_CLIENT_H

#include "net/http.h"
#include "net/http_pool.h"

struct np_http {
  struct np_loop *loop;       /* borrowed until free */
  const struct np_log *log;   /* borrowed until free */
  struct np_curlio *io;       /* owned; NULL until the first real request */
  struct np_list clients;     /* np_http_client */
  struct np_transport none;   /* what carries requests on a virtual clock ... */
  struct np_network *network; /* ... unless this is there and up; owned */
  uint64_t sends;
};

enum { NP_SPARE_BUFFERS = 64 };

struct np_http_client {
  struct np_list link; /* engine's clients */
  struct np_http *http;
  struct np_http_config config; /* its strings are owned */
  struct np_pool pool;
  struct np_transport *curl; /* owned; NULL until the first real request */
  struct np_transport *sim;  /* owned; NULL until the first simulated one */
  struct np_list calls;      /* np_http_call, from new to release */
  struct np_list spare;      /* np_http_call, to be used again */
  uint32_t spare_count, call_count;
  /* Memory for heads and bodies, held by a call only while an answer comes in:
   * few, so that the same few stay in the processor's cache. */
  struct np_buf buffers[NP_SPARE_BUFFERS];
  uint32_t buffer_count;
  uint32_t refs; /* the owner and each call */
  uint64_t sends;
  bool closed;
};

enum np_call_state {
  NP_CALL_NEW,
  NP_CALL_WAITING,
  NP_CALL_RUNNING,
  NP_CALL_ENDED
};

/* A task that waits on a call. */
struct np_call_wait {
  struct np_task *task; /* NULL: nobody */
  np_token token;
};

struct np_http_call {
  struct np_exchange x;
  struct np_list link; /* client's calls or spare */
  struct np_http_client *client;
  struct np_host *host; /* referenced; NULL before np_http_call_run */
  struct np_timer timer;
  uint64_t armed_ns; /* the timer's deadline; NP_FOREVER: stopped */
  struct np_http_limits limits;
  struct np_call_wait reader; /* for admission, the response, the body */
  struct np_call_wait writer;
  struct np_headers headers;
  struct np_buf head;      /* the head under way, then the final one */
  struct np_buf body;      /* received and not taken */
  struct np_buf out;       /* of a streamed body: written and not sent */
  const char *source;      /* a large body, read piece by piece; borrowed */
  uint64_t source_at;      /* bytes of source or of out's stream handed over */
  uint64_t stream_len;     /* of a streamed body; NP_BODY_UNKNOWN */
  uint64_t stream_written; /* bytes written so far */
  uint64_t body_total;     /* decoded bytes received */
  uint64_t announced;      /* the head's Content-Length; NP_BODY_UNKNOWN */
  size_t out_at;           /* of out: handed over */
  size_t head_total;       /* bytes of all heads */
  uint64_t trace_number;   /* in the order of their start; 0: not traced */
  /* When; 0: not yet. sent_ns: the last byte of the request was handed over. */
  uint64_t made_ns, admitted_ns, sending_ns, sent_ns, activity_ns, ended_ns;
  struct np_progress progress; /* once ended */
  struct np_error error;       /* code NP_OK: none */
  uint32_t sends;
  int status;
  uint8_t state; /* enum np_call_state */
  bool streams_response, streams_body, replay_safe;
  bool body_finished; /* of a streamed body: np_http_call_finish */
  bool head_done;
  bool encoded;  /* the body is in a content coding: its length is another */
  bool starved;  /* libcurl waits for bytes of a streamed body */
  bool brimming; /* libcurl holds bytes back until some are taken */
  bool refused_again;
};

/* http_call.c */

/* Starts a call that is admitted at now_ns. Returns 0 or the error, which is
 * then the call's. */
int np_call_begin(struct np_http_call *call, uint64_t now_ns);
/* Ends a running call with code and a message of its own. */
void np_call_abort(struct np_http_call *call, int code, const char *message);
/* Wakes whoever waits there; harmless when nobody does. */
void np_call_wake(struct np_call_wait *w, int status);
/* Bytes for a starved upload are there, or its end. */
void np_call_feed(struct np_http_call *call);
/* There is room again for a response that was brimming. */
void np_call_drain(struct np_http_call *call);

/* http_wait.c */

/* Gives b, which is empty, memory of the client's if there is some to spare. */
static inline void np_call_lend(struct np_http_client *c, struct np_buf *b) {
  if (b->capacity == 0 && c->buffer_count > 0)
    *b = c->buffers[--c->buffer_count];
}
void np_call_free(struct np_http_call *call);

/* http.c */

/* Drops a reference; the last one frees c. */
void np_client_unref(struct np_http_client *c);

/* Puts the engine and the client of a real request together. NULL without
 * memory. */
struct np_transport *np_client_transport(struct np_http_client *c);

#endif
