/* SPDX-License-Identifier: MIT */
#include "core/loop.h"

#include "base/err.h"

#include <stdlib.h>
#include <unistd.h>
#include <uv.h>
#ifdef __linux__
#include <sys/timerfd.h>
#endif

/* libuv's own timers count milliseconds; a timerfd lets a wait end on the
 * nanosecond that the earliest deadline asks for. Elsewhere a uv_timer does. */
struct np_loop_uv {
  uv_loop_t loop;
  uv_async_t wakeup;
  uint64_t armed_ns; /* the deadline the alarm is set for; NP_FOREVER: none */
#ifdef __linux__
  int alarm_fd;
  uv_poll_t alarm;
#else
  uv_timer_t alarm;
#endif
};

struct uv_loop_s *np_loop_uv(struct np_loop *l) {
  return &l->uv->loop;
}

static void on_wakeup(uv_async_t *a) {
  (void)a; /* returning is the effect */
}

#ifdef __linux__

static void on_alarm(uv_poll_t *p, int status, int events) {
  struct np_loop_uv *u = np_container_of(p, struct np_loop_uv, alarm);
  uint64_t ticks;
  (void)status;
  (void)events;
  /* Reading makes the descriptor quiet again; the count says nothing new. */
  if (read(u->alarm_fd, &ticks, sizeof ticks) < 0) ticks = 0;
  u->armed_ns = NP_FOREVER;
}

static int alarm_init(struct np_loop_uv *u) {
  u->alarm_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
  if (u->alarm_fd < 0) return NP_E_LIMIT;
  if (uv_poll_init(&u->loop, &u->alarm, u->alarm_fd) != 0 ||
      uv_poll_start(&u->alarm, UV_READABLE, on_alarm) != 0)
    return NP_E_LIMIT;
  uv_unref((uv_handle_t *)&u->alarm);
  return NP_OK;
}

/* Deadlines within this time share one wake, as with the kernel's own default
 * timer slack (prctl(2)): a million sleepers would cost a system call each. */
enum { ALARM_SLACK_NS = 50000 };

static void alarm_set(struct np_loop_uv *u, uint64_t delay_ns) {
  delay_ns += ALARM_SLACK_NS;
  struct itimerspec its = {
      .it_value = {.tv_sec = (time_t)(delay_ns / NP_NS_PER_S),
                   .tv_nsec = (long)(delay_ns % NP_NS_PER_S)}};
  (void)timerfd_settime(u->alarm_fd, 0, &its, NULL); /* arguments are valid */
}

static void alarm_fini(struct np_loop_uv *u) {
  if (u->alarm_fd >= 0) (void)close(u->alarm_fd);
}

#else

static void on_alarm(uv_timer_t *t) {
  np_container_of(t, struct np_loop_uv, alarm)->armed_ns = NP_FOREVER;
}

static int alarm_init(struct np_loop_uv *u) {
  if (uv_timer_init(&u->loop, &u->alarm) != 0) return NP_E_LIMIT;
  uv_unref((uv_handle_t *)&u->alarm);
  return NP_OK;
}

static void alarm_set(struct np_loop_uv *u, uint64_t delay_ns) {
  uv_update_time(&u->loop); /* uv counts from its cached time (libuv#1068) */
  (void)uv_timer_start(&u->alarm, on_alarm, (delay_ns + 999999) / 1000000, 0);
  uv_unref((uv_handle_t *)&u->alarm);
}

static void alarm_fini(struct np_loop_uv *u) {
  (void)u;
}

#endif

static void close_handle(uv_handle_t *h, void *arg) {
  (void)arg;
  if (!uv_is_closing(h)) uv_close(h, NULL);
}

static void close_all(struct np_loop_uv *u) {
  uv_walk(&u->loop, close_handle, NULL);
  while (uv_run(&u->loop, UV_RUN_DEFAULT) != 0) {
  }
  (void)uv_loop_close(&u->loop); /* all handles are closed: cannot be busy */
}

struct np_loop *np_loop_new(struct np_clock *clock) {
  struct np_loop *l = calloc(1, sizeof *l);
  struct np_loop_uv *u = calloc(1, sizeof *u);
  if (!l || !u || uv_loop_init(&u->loop) != 0) goto fail;
  u->armed_ns = NP_FOREVER;
#ifdef __linux__
  u->alarm_fd = -1;
#endif
  l->uv = u;
  l->clock = clock;
  l->budget_end = NP_FOREVER;
  np_timers_init(&l->timers);
  np_list_init(&l->sources);
  np_list_init(&l->posts);
  np_list_init(&l->ready.link);
  if (uv_async_init(&u->loop, &u->wakeup, on_wakeup) != 0 ||
      alarm_init(u) != NP_OK) {
    np_loop_free(l);
    return NULL;
  }
  uv_unref((uv_handle_t *)&u->wakeup);
  return l;
fail:
  free(u);
  free(l);
  return NULL;
}

void np_loop_free(struct np_loop *l) {
  if (!l) return;
  close_all(l->uv);
  alarm_fini(l->uv);
  np_timers_fini(&l->timers);
  free(l->uv);
  free(l);
}

void np_source_add(struct np_loop *l, struct np_source *s,
                   void (*serve)(struct np_source *s, struct np_loop *l)) {
  s->raised = false;
  s->serve = serve;
  np_list_push_tail(&l->sources, &s->link);
}

void np_source_remove(struct np_source *s) {
  np_list_remove(&s->link);
}

void np_loop_post(struct np_loop *l, struct np_post *p) {
  np_list_push_tail(&l->posts, &p->link);
}

void np_loop_wakeup(struct np_loop *l) {
  (void)uv_async_send(&l->uv->wakeup);
}

bool np_loop_spent(const struct np_loop *l) {
  return l->budget_end != NP_FOREVER && np_clock_machine() >= l->budget_end;
}

static void serve_source(struct np_source *s, struct np_loop *l) {
  if (!s->raised) return;
  s->raised = false;
  s->serve(s, l);
}

static bool has_work(const struct np_loop *l) {
  if (l->ready.raised || !np_list_empty(&l->posts)) return true;
  for (struct np_list *n = l->sources.next; n != &l->sources; n = n->next)
    if (np_container_of(n, struct np_source, link)->raised) return true;
  return false;
}

bool np_loop_busy(const struct np_loop *l) {
  uint64_t next_ns = np_timers_next(&l->timers);
  return has_work(l) || (next_ns != NP_FOREVER && next_ns <= np_loop_now(l)) ||
         (l->clock->is_virtual && next_ns != NP_FOREVER && l->holds == 0);
}

/* The wakeup handle keeps uv_run from returning at once when every other
 * handle is unreferenced (idle connections, the alarm). */
static void poll_uv(struct np_loop_uv *u, uv_run_mode mode) {
  uv_ref((uv_handle_t *)&u->wakeup);
  (void)uv_run(&u->loop, mode);
  uv_unref((uv_handle_t *)&u->wakeup);
}

void np_loop_poll(struct np_loop *l) {
  poll_uv(l->uv, UV_RUN_ONCE);
}

static void poll_until(struct np_loop *l, uint64_t deadline_ns) {
  struct np_loop_uv *u = l->uv;
  if (deadline_ns != u->armed_ns && deadline_ns != NP_FOREVER) {
    uint64_t now_ns = np_loop_now(l);
    alarm_set(u, deadline_ns > now_ns ? deadline_ns - now_ns : 0);
    u->armed_ns = deadline_ns;
  }
  poll_uv(u, UV_RUN_ONCE);
}

/* A busy loop asks the system every now and then, not every turn: with
 * thousands of ready sockets each answer is long, and most of it is known
 * already. Polling takes at most a POLL_SHARE-th of the time. */
enum { POLL_SHARE = 20, POLL_MIN_NS = 100000 };

static void poll_if_due(struct np_loop *l) {
  uint64_t start_ns = np_clock_machine();
  if (start_ns < l->next_poll_ns) return;
  poll_uv(l->uv, UV_RUN_NOWAIT);
  uint64_t end_ns = np_clock_machine(),
           pause_ns = (end_ns - start_ns) * POLL_SHARE;
  l->next_poll_ns = end_ns + (pause_ns > POLL_MIN_NS ? pause_ns : POLL_MIN_NS);
}

/* Nothing is ready: waits for the first event or deadline. False when neither
 * can come. */
static bool wait(struct np_loop *l, bool may_block) {
  uv_loop_t *uv = &l->uv->loop;
  uint64_t next_ns = np_timers_next(&l->timers);
  /* Requests (files, thread-pool jobs, name look-ups) are real work in flight;
   * a mere handle is not, or a virtual clock would stand still for it. */
  bool in_flight = l->holds > 0 || uv->active_reqs.count > 0;
  if (next_ns == NP_FOREVER && !in_flight && !uv_loop_alive(uv)) return false;
  if (l->clock->is_virtual) {
    if (!in_flight && next_ns != NP_FOREVER)
      np_clock_advance(l->clock, next_ns);
    else if (may_block)
      poll_uv(l->uv, UV_RUN_ONCE);
    /* Where nothing of libuv's is alive, there is only a wakeup to learn of. */
    if (in_flight || uv_loop_alive(uv))
      poll_uv(l->uv, UV_RUN_NOWAIT);
    else
      poll_if_due(l);
  } else if (may_block && next_ns > np_loop_now(l)) {
    poll_until(l, next_ns);
  } else {
    poll_uv(l->uv, UV_RUN_NOWAIT);
  }
  return true;
}

static void serve_timers(struct np_loop *l) {
  uint64_t now_ns = np_loop_now(l);
  while (np_timers_fire_one(&l->timers, now_ns))
    if (np_loop_spent(l)) return;
}

static void serve_posts(struct np_loop *l) {
  struct np_list batch, *n;
  np_list_take(&batch, &l->posts);
  while ((n = np_list_pop(&batch)) != NULL) {
    struct np_post *p = np_container_of(n, struct np_post, link);
    p->run(p);
    if (np_loop_spent(l)) break;
  }
  /* What the budget left over goes before what was posted meanwhile. */
  while (!np_list_empty(&batch)) {
    n = batch.prev;
    np_list_remove(n);
    np_list_push_head(&l->posts, n);
  }
}

void np_loop_drain(struct np_loop *l) {
  l->budget_end = NP_FOREVER;
  while (l->uv->loop.active_reqs.count > 0 || !np_list_empty(&l->posts)) {
    if (np_list_empty(&l->posts)) poll_uv(l->uv, UV_RUN_ONCE);
    serve_posts(l);
  }
}

bool np_loop_turn(struct np_loop *l, uint64_t budget_ns, bool may_block) {
  bool alive = true;
  l->budget_end = NP_FOREVER;
  if (budget_ns != NP_FOREVER)
    l->budget_end = np_deadline(np_clock_machine(), budget_ns);
  if (has_work(l))
    poll_if_due(l);
  else
    alive = wait(l, may_block);
  for (struct np_list *n = l->sources.next, *next; n != &l->sources; n = next) {
    next = n->next;
    serve_source(np_container_of(n, struct np_source, link), l);
  }
  serve_timers(l);
  serve_posts(l);
  serve_source(&l->ready, l);
  return alive;
}
