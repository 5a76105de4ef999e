/* SPDX-License-Identifier: MIT
 * Admission: who may run now. FIFO over the whole client, except that a call
 * to an origin which is full does not hold up calls to others. While there is
 * room, nobody who could use it waits. Part of http. */
#ifndef NP_HTTP_POOL_H
#define NP_HTTP_POOL_H

#include "base/heap.h"
#include "core/waitq.h"
#include "net/transport.h"

enum { NP_POOL_BUCKETS = 64 };

struct np_host {
  struct np_origin origin;
  struct np_list link;   /* pool's bucket */
  struct np_waitq queue; /* tasks; wait_ud is the call, wait_arg its ticket */
  struct np_heap_node runnable; /* in pool's heap: waits and has room */
  uint32_t in_flight;
  uint32_t refs;    /* calls that know it */
  uint32_t raw_len; /* of raw: how a URL that led here began */
  char *raw;        /* inside text */
  char text[];      /* "https://host:port", then raw */
};

struct np_pool {
  struct np_loop *loop; /* borrowed */
  uint32_t max, max_per_host, max_waiting;
  uint32_t in_flight, waiting, host_count;
  uint64_t next_ticket;
  bool closed;             /* nobody is admitted any more */
  bool admitting;          /* np_pool_leave is at work further up the stack */
  struct np_heap runnable; /* hosts by their first waiter's ticket */
  struct np_host *last;    /* found last, or NULL */
  /* Called for a call that waited and may go now. */
  void (*admitted)(void *call);
  struct np_list buckets[NP_POOL_BUCKETS];
};

void np_pool_init(struct np_pool *p, struct np_loop *l);
/* Frees the hosts; nobody runs or waits. */
void np_pool_fini(struct np_pool *p);

/* The host of a URL, with a reference for the caller; NULL and e when the URL
 * is not one of http or https. */
struct np_host *np_pool_host(struct np_pool *p, const char *url, size_t url_len,
                             struct np_error *e);
void np_pool_unref(struct np_pool *p, struct np_host *h);

/* Returns NP_OK when the caller runs now, NP_PARKED when t waits with ops and
 * call, NP_E_QUEUE_FULL, NP_E_QUEUE_TIMEOUT (timeout_ns is 0) or NP_E_CLOSED.
 */
int np_pool_enter(struct np_pool *p, struct np_host *h, struct np_task *t,
                  const struct np_wait_ops *ops, void *call,
                  uint64_t timeout_ns);
/* A running call has ended: admits who comes next. */
void np_pool_leave(struct np_pool *p, struct np_host *h);
/* t gives up waiting for h; it is not woken. */
void np_pool_quit(struct np_pool *p, struct np_host *h, struct np_task *t);

#endif
