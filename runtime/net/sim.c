/* SPDX-License-Identifier: MIT
 * The network: a request from its start to its arrival, and its end. */
#include "net/sim_impl.h"

#include <stdlib.h>
#include <string.h>

enum { READ_PIECE = 16 * 1024, KEEP_BYTES = 64 * 1024 };

static uint64_t now(const struct np_sim_slot *c) {
  return np_loop_now(c->sim->loop);
}

/* -- Slots ------------------------------------------------------------------
 */

static void on_timer(struct np_timer *timer);

struct np_sim_slot *np_sim_new_slot(struct np_sim *s) {
  if (s->count + 1 >= s->capacity) {
    uint32_t capacity = s->capacity ? s->capacity * 2 : 64;
    struct np_sim_slot **grown = realloc(s->slots, capacity * sizeof *grown);
    if (!grown) return NULL;
    s->slots = grown;
    s->capacity = capacity;
  }
  struct np_sim_slot *c = calloc(1, sizeof *c);
  if (!c) return NULL;
  c->sim = s;
  c->number = ++s->count;
  np_list_init(&c->link);
  np_timer_init(&c->timer, on_timer);
  s->slots[c->number] = c;
  return c;
}

static void keep_buffer(struct np_buf *b) {
  if (b->capacity > KEEP_BYTES) np_buf_fini(b);
  np_buf_clear(b);
}

void np_sim_release(struct np_sim_slot *c) {
  np_timer_stop(&c->sim->loop->timers, &c->timer);
  np_list_remove(&c->link);
  keep_buffer(&c->in);
  keep_buffer(&c->out);
  c->x = NULL;
  c->via = NULL;
  c->route = NULL;
  c->out_at = 0;
  c->send_ns = c->first_ns = c->dns_ns = c->connect_ns = c->tls_ns = 0;
  c->state = NP_SIM_FREE;
  c->tries = 0;
  c->fails = NP_OK;
  c->close = c->head_begun = c->wants_room = false;
  np_list_push_head(&c->sim->spare, &c->link);
}

void np_sim_queue(struct np_sim_slot *c, enum np_sim_state state) {
  struct np_sim *s = c->sim;
  c->state = (uint8_t)state;
  np_list_remove(&c->link);
  np_list_push_tail(&s->pending, &c->link);
  if (s->posted) return;
  s->posted = true;
  np_loop_post(s->loop, &s->post);
}

static void arm(struct np_sim_slot *c, uint64_t at_ns) {
  if (np_timer_start(&c->sim->loop->timers, &c->timer, at_ns) == NP_OK) return;
  struct np_error e = {0};
  (void)np_error_set(&e, NP_E_LIMIT, NULL, "out of memory");
  if (c->x) np_sim_finish(c, &e);
}

/* -- The end ------------------------------------------------------------------
 */

static const char *phase_of(const struct np_sim_slot *c) {
  uint64_t elapsed_ns = now(c) - c->start_ns;
  if (c->send_ns) return "send";
  if (elapsed_ns < c->dns_ns) return "dns";
  return elapsed_ns < np_deadline(c->dns_ns, c->connect_ns) || c->tls_ns == 0
             ? "connect"
             : "tls";
}

/* Durations of 0 would say "not reached". */
static uint64_t since(uint64_t from_ns, uint64_t to_ns) {
  return to_ns > from_ns ? to_ns - from_ns : 1;
}

void np_sim_progress(const struct np_sim_slot *c, struct np_progress *p) {
  *p = (struct np_progress){.phase = phase_of(c),
                            .sent = c->send_ns > 0,
                            .total_ns = since(c->start_ns, now(c))};
  if (!p->sent) return;
  p->dns_ns = c->dns_ns;
  p->connect_ns = c->connect_ns;
  p->tls_ns = c->tls_ns;
  p->before_send_ns = c->send_ns - c->start_ns;
  if (c->head_begun) p->first_byte_ns = since(c->start_ns, c->first_ns);
}

void np_sim_finish(struct np_sim_slot *c, const struct np_error *e) {
  struct np_exchange *x = c->x;
  struct np_progress p;
  np_sim_progress(c, &p);
  if (c->connection && !e)
    np_sim_keep(c);
  else
    np_sim_close(c);
  x->via = NULL;
  x->carrier = NULL;
  np_sim_release(c); /* first: what ends lets the next one start */
  x->up->done(x, &p, e);
}

void np_sim_detach(struct np_sim_slot *c) {
  bool known = c->state == NP_SIM_SERVED;
  np_sim_close(c);
  c->x->via = NULL;
  c->x->carrier = NULL;
  c->x = NULL;
  c->via = NULL;
  np_timer_stop(&c->sim->loop->timers, &c->timer);
  if (known)
    np_sim_queue(c, NP_SIM_GONE);
  else
    np_sim_release(c);
}

static void fail(struct np_sim_slot *c, int code, const char *phase,
                 const char *why) {
  struct np_error e = {0};
  (void)np_error_set(&e, code, phase, why, c->x->origin->name);
  np_sim_finish(c, &e);
}

/* -- Sending ------------------------------------------------------------------
 */

static void arrive(struct np_sim_slot *c) {
  struct np_sim *s = c->sim;
  c->state = NP_SIM_SERVED;
  s->ops->arrive(s->ud, c->route->upstream, c->number);
}

/* Reads what there is of the body. True: it is complete. */
static bool read_body(struct np_sim_slot *c) {
  struct np_exchange *x = c->x;
  if (!x->has_body || x->body) return true;
  do {
    if (np_buf_reserve(&c->in, READ_PIECE) < 0) {
      fail(c, NP_E_LIMIT, NULL, "%s: out of memory");
      return false;
    }
    size_t len = x->up->read(x, c->in.data + c->in.len, READ_PIECE);
    if (len == NP_READ_PAUSE) return false;
    if (len == 0) return true;
    c->in.len += len;
  } while (c->in.len < x->body_len);
  return true;
}

void np_sim_read(struct np_sim_slot *c) {
  if (c->state == NP_SIM_SENDING && read_body(c))
    np_sim_queue(c, NP_SIM_COMPLETE);
}

static bool rewind_body(struct np_sim_slot *c) {
  np_buf_clear(&c->in);
  if (c->tries == 0 || !c->x->has_body || c->x->body) return true;
  return c->x->up->rewind(c->x);
}

static void transmit(struct np_sim_slot *c) {
  c->state = NP_SIM_SENDING;
  if (!c->x->up->sending(c->x, c->tries > 0)) {
    fail(c, NP_E_RECEIVE, NULL, "%s closed the connection");
    return;
  }
  if (!rewind_body(c)) {
    fail(c, NP_E_SEND, "send",
         "the connection to %s broke and the body cannot be sent again");
    return;
  }
  c->send_ns = now(c) ? now(c) : 1;
  if (read_body(c)) arrive(c);
}

/* -- Connecting ------------------------------------------------------------ */

static void open_connection(struct np_sim_slot *c) {
  struct np_sim *s = c->sim;
  struct np_sim_plan plan = {.keepalive_ns = NP_FOREVER};
  c->state = NP_SIM_CONNECTING;
  s->ops->connect(s->ud, c->route->upstream, c->number, &plan);
  c->connection = np_sim_connect(c->via, plan.keepalive_ns);
  if (!c->connection) {
    fail(c, NP_E_LIMIT, NULL, "%s: out of memory");
    return;
  }
  c->dns_ns = plan.dns_ns;
  c->connect_ns = plan.hang ? NP_FOREVER : plan.connect_ns;
  c->tls_ns = plan.tls_ns;
  c->fails = plan.fails;
  if (plan.hang) return;
  uint64_t ready_ns = np_deadline(np_deadline(now(c), plan.dns_ns),
                                  np_deadline(plan.connect_ns, plan.tls_ns));
  arm(c, ready_ns);
}

static void connected(struct np_sim_slot *c) {
  if (c->fails == NP_OK)
    transmit(c);
  else if (c->fails == NP_E_DNS)
    fail(c, NP_E_DNS, "dns", "no address found for %s");
  else if (c->fails == NP_E_TLS)
    fail(c, NP_E_TLS, "tls", "TLS to %s failed");
  else
    fail(c, NP_E_CONNECT, "connect",
         "cannot connect to %s: connection refused");
}

static void begin(struct np_sim_slot *c) {
  c->route = np_sim_route(c);
  if (!c->route) {
    fail(c, NP_E_LIMIT, NULL, "%s: out of memory");
    return;
  }
  if (!c->route->upstream) {
    np_sim_finish(c, &c->route->nobody);
    return;
  }
  if (!c->via->client.force_close)
    c->connection = np_sim_reuse(c->via, c->route);
  if (c->connection)
    transmit(c);
  else
    open_connection(c);
}

/* -- What the loop calls --------------------------------------------------- */

static void on_timer(struct np_timer *timer) {
  struct np_sim_slot *c = np_container_of(timer, struct np_sim_slot, timer);
  if (c->state == NP_SIM_CONNECTING)
    connected(c);
  else
    c->sim->ops->due(c->sim->ud, c->number);
}

static void look_at(struct np_sim_slot *c) {
  struct np_sim *s = c->sim;
  switch (c->state) {
  case NP_SIM_PENDING:
    begin(c);
    break;
  case NP_SIM_COMPLETE:
    arrive(c);
    break;
  case NP_SIM_SERVED: /* all that was unread has been taken */
    s->ops->due(s->ud, c->number);
    break;
  case NP_SIM_GONE:
    s->ops->gone(s->ud, c->number);
    np_sim_release(c);
    break;
  default:
    break;
  }
}

static void on_post(struct np_post *post) {
  struct np_sim *s = np_container_of(post, struct np_sim, post);
  struct np_list batch, *n;
  s->posted = false;
  np_list_take(&batch, &s->pending); /* what is asked for meanwhile: later */
  while ((n = np_list_pop(&batch)) != NULL)
    look_at(np_container_of(n, struct np_sim_slot, link));
}

/* -- The network ------------------------------------------------------------
 */

static bool is_up(const struct np_network *n) {
  return ((const struct np_sim *)(const void *)n)->ops != NULL;
}

static void take_down(struct np_sim *s) {
  struct np_error e = {0};
  (void)np_error_set(&e, NP_E_CLOSED, NULL, "the simulated network is gone");
  for (uint32_t i = 1; i <= s->count; i++) {
    struct np_sim_slot *c = s->slots[i];
    if (c->x)
      np_sim_finish(c, &e);
    else if (c->state != NP_SIM_FREE)
      np_sim_release(c);
  }
  for (struct np_list *n = s->transports.next; n != &s->transports; n = n->next)
    np_sim_close_idle(np_container_of(n, struct np_sim_transport, link));
}

void np_sim_set_ops(struct np_sim *s, const struct np_sim_ops *ops, void *ud) {
  s->ops = ops; /* a request that starts from now on is the next one's */
  s->ud = ud;
  s->epoch++;
  if (!ops) take_down(s);
}

void np_sim_reroute(struct np_sim *s) {
  s->epoch++;
}

static void free_network(struct np_network *n) {
  struct np_sim *s = np_container_of(n, struct np_sim, base);
  for (uint32_t i = 1; i <= s->count; i++) {
    struct np_sim_slot *c = s->slots[i];
    np_timer_stop(&s->loop->timers, &c->timer);
    np_buf_fini(&c->in);
    np_buf_fini(&c->out);
    free(c);
  }
  np_list_remove(&s->post.link);
  free(s->slots);
  free(s);
}

struct np_sim *np_sim_new(struct np_loop *l) {
  struct np_sim *s = calloc(1, sizeof *s);
  if (!s) return NULL;
  s->base = (struct np_network){np_sim_open, is_up, free_network};
  s->loop = l;
  s->post.run = on_post;
  np_list_init(&s->post.link);
  np_list_init(&s->transports);
  np_list_init(&s->pending);
  np_list_init(&s->spare);
  return s;
}

struct np_network *np_sim_network(struct np_sim *s) {
  return &s->base;
}

/* -- Deadlines of the other side ------------------------------------------- */

uint32_t np_sim_timer(struct np_sim *s) {
  struct np_list *n = np_list_pop(&s->spare);
  struct np_sim_slot *c =
      n ? np_container_of(n, struct np_sim_slot, link) : np_sim_new_slot(s);
  if (!c) return 0;
  c->state = NP_SIM_TIMER;
  return c->number;
}

void np_sim_wake(struct np_sim *s, uint32_t slot, uint64_t at_ns) {
  struct np_sim_slot *c = s->slots[slot];
  if (c->state == NP_SIM_SERVED || c->state == NP_SIM_TIMER) arm(c, at_ns);
}
