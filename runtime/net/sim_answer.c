/* SPDX-License-Identifier: MIT
 * The other side of the wire: reading a request, answering it. */
#include "net/sim_impl.h"

#include <string.h>

enum { PIECE = 16 * 1024, TRIES_MAX = 5 };

/* The slot if its client still waits for the answer. */
static struct np_sim_slot *served(struct np_sim *s, uint32_t slot) {
  struct np_sim_slot *c = s->slots[slot];
  return c->state == NP_SIM_SERVED ? c : NULL;
}

bool np_sim_is_there(struct np_sim *s, uint32_t slot) {
  return served(s, slot) != NULL;
}

bool np_sim_request(struct np_sim *s, uint32_t slot,
                    struct np_sim_request *out) {
  struct np_sim_slot *c = s->slots[slot];
  if (c->state != NP_SIM_SERVED && c->state != NP_SIM_CONNECTING) return false;
  struct np_exchange *x = c->x;
  *out = (struct np_sim_request){.method = x->method,
                                 .url = x->url,
                                 .url_len = x->url_len,
                                 .body = x->body ? x->body : c->in.data,
                                 .body_len = x->body ? x->body_len : c->in.len,
                                 .has_body = x->has_body,
                                 .compression = x->compression,
                                 .headers = x->headers,
                                 .host = x->origin->name,
                                 .operation = x->operation};
  if (!x->has_body) out->body_len = 0;
  return true;
}

/* -- Giving the answer ------------------------------------------------------
 */

/* The client does not want the rest. */
static void refused(struct np_sim_slot *c) {
  struct np_exchange *x = c->x;
  struct np_progress p;
  struct np_error e = {0};
  (void)np_error_set(&e, NP_E_RECEIVE, NULL, "the answer from %s broke off",
                     x->origin->name);
  np_sim_progress(c, &p);
  np_sim_detach(c);
  x->up->done(x, &p, &e);
}

void np_sim_head(struct np_sim *s, uint32_t slot, const char *lines, size_t len,
                 bool close) {
  struct np_sim_slot *c = served(s, slot);
  const char *end = lines + len;
  if (!c) return;
  c->head_begun = true;
  c->first_ns = np_loop_now(s->loop);
  c->close |= close;
  while (lines < end) {
    const char *eol = memchr(lines, '\n', (size_t)(end - lines));
    size_t line = eol ? (size_t)(eol + 1 - lines) : (size_t)(end - lines);
    if (!c->x->up->head(c->x, lines, line)) {
      refused(c);
      return;
    }
    lines += line;
  }
}

/* Offers bytes until the client pauses; returns how many it took. SIZE_MAX: it
 * has left. */
static size_t offer(struct np_sim_slot *c, const char *data, size_t len) {
  size_t taken = 0;
  while (taken < len) {
    size_t piece = len - taken < PIECE ? len - taken : PIECE;
    switch (c->x->up->body(c->x, data + taken, piece)) {
    case NP_TAKE_OK:
      taken += piece;
      break;
    case NP_TAKE_PAUSE:
      return taken;
    case NP_TAKE_REFUSE:
      refused(c);
      return SIZE_MAX;
    }
  }
  return taken;
}

void np_sim_body(struct np_sim *s, uint32_t slot, const char *data,
                 size_t len) {
  struct np_sim_slot *c = served(s, slot);
  if (!c || strcmp(c->x->method, "HEAD") == 0) return;
  size_t taken = c->out.len > 0 ? 0 : offer(c, data, len);
  if (taken == SIZE_MAX || taken == len) return;
  if (np_buf_append(&c->out, data + taken, len - taken) < 0) refused(c);
}

void np_sim_deliver(struct np_sim_slot *c) {
  size_t left = c->out.len - c->out_at;
  size_t taken = left > 0 ? offer(c, c->out.data + c->out_at, left) : 0;
  if (taken == SIZE_MAX) return;
  c->out_at += taken;
  if (taken < left) return;
  np_buf_clear(&c->out);
  c->out_at = 0;
  if (c->state == NP_SIM_ENDING) {
    np_sim_finish(c, NULL);
  } else if (c->state == NP_SIM_SERVED && c->wants_room) {
    c->wants_room = false;
    np_sim_queue(c, NP_SIM_SERVED);
  }
}

size_t np_sim_unread(struct np_sim *s, uint32_t slot) {
  struct np_sim_slot *c = served(s, slot);
  return c ? c->out.len - c->out_at : 0;
}

void np_sim_wake_when_read(struct np_sim *s, uint32_t slot) {
  struct np_sim_slot *c = served(s, slot);
  if (c) c->wants_room = true;
}

/* -- The end of an answer ---------------------------------------------------
 */

/* c, unless its client has left: then the slot is given back, and `gone` need
 * not be said. */
static struct np_sim_slot *give_back(struct np_sim *s, uint32_t slot) {
  struct np_sim_slot *c = s->slots[slot];
  np_timer_stop(&s->loop->timers, &c->timer);
  if (c->state == NP_SIM_SERVED) return c;
  if (c->state == NP_SIM_GONE || c->state == NP_SIM_TIMER) np_sim_release(c);
  return NULL;
}

void np_sim_end(struct np_sim *s, uint32_t slot) {
  struct np_sim_slot *c = give_back(s, slot);
  if (!c) return;
  np_list_remove(&c->link); /* nobody wants to know any more what is read */
  if (c->out.len > 0)
    c->state = NP_SIM_ENDING;
  else
    np_sim_finish(c, NULL);
}

/* libcurl sends again what a connection that it had used before lost without a
 * byte of an answer; http says whether it may. */
static bool goes_again(struct np_sim_slot *c) {
  if (!c->connection->reused || c->head_begun || c->tries >= TRIES_MAX)
    return false;
  c->tries++;
  np_sim_close(c);
  np_sim_queue(c, NP_SIM_PENDING);
  return true;
}

void np_sim_drop(struct np_sim *s, uint32_t slot, bool orderly) {
  struct np_sim_slot *c = give_back(s, slot);
  struct np_error e = {0};
  if (!c || goes_again(c)) return;
  const char *name = c->x->origin->name;
  if (!orderly)
    (void)np_error_set(&e, NP_E_RECEIVE, NULL,
                       "the connection to %s broke while receiving: connection "
                       "reset by peer",
                       name);
  else if (c->head_begun)
    (void)np_error_set(&e, NP_E_RECEIVE, "download",
                       "%s closed the connection in the middle of the body",
                       name);
  else
    (void)np_error_set(&e, NP_E_RECEIVE, NULL,
                       "%s closed the connection without an answer", name);
  np_sim_finish(c, &e);
}

void np_sim_fail(struct np_sim *s, uint32_t slot, const struct np_error *e) {
  struct np_sim_slot *c = give_back(s, slot);
  if (c) np_sim_finish(c, e);
}
