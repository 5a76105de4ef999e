/* SPDX-License-Identifier: MIT */
#include "flow/queue.h"

#include <stdlib.h>

struct np_queue_item {
  struct np_heap_node node;
  uint64_t key;
  struct np_queue *queue;
  struct np_queue_item *next_dead;
  int handle;
};

static struct np_queue_item *item_new(struct np_queue *q, int handle,
                                      double priority) {
  struct np_queue_item *item = malloc(sizeof *item);
  if (!item) return NULL;
  np_heap_node_init(&item->node);
  item->key = np_heap_key_of_double(priority);
  item->queue = q;
  item->next_dead = NULL;
  item->handle = handle;
  return item;
}

/* -- Puts ------------------------------------------------------------------ */

/* Undoing must not touch Lua, where the value is: the binding asks for the
 * handles of given-up puts later. */
static void give_up(struct np_queue_item *item) {
  item->next_dead = item->queue->dead;
  item->queue->dead = item;
}

static void undo_put(struct np_task *t) {
  struct np_queue_item *item = t->wait_ud;
  np_waitq_leave(&item->queue->putters, t);
  give_up(item);
}

static const struct np_wait_ops wait_put = {.what = "queue.put",
                                            .undo = undo_put};

static int park_put(struct np_queue *q, struct np_task *t,
                    struct np_queue_item *item, uint64_t timeout_ns) {
  int rc = np_waitq_park(&q->putters, t, &wait_put, item, timeout_ns);
  if (rc != NP_PARKED) free(item);
  return rc;
}

static int store(struct np_queue *q, struct np_queue_item *item) {
  int rc = np_heap_push(&q->items, &item->node, item->key);
  if (rc < 0) {
    free(item);
    return rc;
  }
  q->unfinished++;
  return NP_OK;
}

static void hand_over(struct np_queue *q, int handle) {
  struct np_task *getter = np_waitq_first(&q->getters);
  getter->wait_arg = (uint64_t)handle;
  q->unfinished++;
  q->taken++;
  np_waitq_wake(&q->getters, getter, NP_OK);
}

/* Small numbers, counted from the start, keep it exact for months. */
static double rank(const struct np_queue *q, double priority, uint64_t now_ns) {
  return priority + q->aging * ((double)(now_ns - q->start_ns) / 1e9);
}

int np_queue_put(struct np_queue *q, struct np_task *t, int handle,
                 double priority, uint64_t timeout_ns) {
  if (q->closed) return NP_E_CLOSED;
  if (q->getters.count > 0) {
    hand_over(q, handle);
    return NP_OK;
  }
  struct np_queue_item *item =
      item_new(q, handle, rank(q, priority, np_loop_now(t->sched->loop)));
  if (!item) return NP_E_LIMIT;
  if (q->max != 0 && q->items.count >= q->max)
    return park_put(q, t, item, timeout_ns);
  return store(q, item);
}

/* One place has become free: the putter that has waited longest fills it. */
static void admit_putter(struct np_queue *q) {
  struct np_task *t = np_waitq_first(&q->putters);
  if (!t) return;
  np_waitq_wake(&q->putters, t, store(q, t->wait_ud));
}

/* -- Gets ------------------------------------------------------------------ */

static void undo_get(struct np_task *t) {
  struct np_queue *q = t->wait_ud;
  np_waitq_leave(&q->getters, t);
}

static const struct np_wait_ops wait_get = {.what = "queue.get",
                                            .undo = undo_get};

static int take_first(struct np_queue *q) {
  uint64_t key;
  struct np_heap_node *node = np_heap_min(&q->items, &key);
  struct np_queue_item *item =
      np_container_of(node, struct np_queue_item, node);
  int handle = item->handle;
  np_heap_remove(&q->items, node);
  free(item);
  q->taken++;
  return handle;
}

int np_queue_get(struct np_queue *q, struct np_task *t, uint64_t timeout_ns) {
  if (q->items.count > 0) {
    t->wait_arg = (uint64_t)take_first(q);
    admit_putter(q);
    return NP_OK;
  }
  if (q->closed) return NP_E_CLOSED;
  return np_waitq_park(&q->getters, t, &wait_get, q, timeout_ns);
}

/* -- Completion ------------------------------------------------------------ */

static void undo_join(struct np_task *t) {
  struct np_queue *q = t->wait_ud;
  np_waitq_leave(&q->joiners, t);
}

static const struct np_wait_ops wait_join = {.what = "queue.join",
                                             .undo = undo_join};

int np_queue_task_done(struct np_queue *q) {
  if (q->taken == 0) return NP_E_INVALID;
  q->taken--;
  if (--q->unfinished == 0) np_waitq_wake_all(&q->joiners, NP_OK);
  return NP_OK;
}

int np_queue_join(struct np_queue *q, struct np_task *t, uint64_t timeout_ns) {
  if (q->unfinished == 0) return NP_OK;
  return np_waitq_park(&q->joiners, t, &wait_join, q, timeout_ns);
}

/* -- Life ------------------------------------------------------------------ */

void np_queue_init(struct np_queue *q, uint32_t max, double aging,
                   uint64_t now_ns) {
  *q = (struct np_queue){.max = max, .aging = aging, .start_ns = now_ns};
  np_waitq_init(&q->getters, 0);
  np_waitq_init(&q->putters, 0);
  np_waitq_init(&q->joiners, 0);
  np_heap_init(&q->items);
}

void np_queue_close(struct np_queue *q) {
  struct np_task *t;
  q->closed = true;
  while ((t = np_waitq_first(&q->putters)) != NULL) {
    give_up(t->wait_ud);
    np_waitq_wake(&q->putters, t, NP_E_CLOSED);
  }
  np_waitq_wake_all(&q->getters, NP_E_CLOSED);
}

int np_queue_reap(struct np_queue *q) {
  struct np_queue_item *item = q->dead;
  if (!item) return NP_QUEUE_NONE;
  int handle = item->handle;
  q->dead = item->next_dead;
  free(item);
  return handle;
}

void np_queue_fini(struct np_queue *q) {
  np_queue_close(q);
  np_waitq_wake_all(&q->joiners, NP_E_CLOSED);
  while (q->items.count > 0) (void)take_first(q);
  while (np_queue_reap(q) != NP_QUEUE_NONE) {
  }
  np_heap_fini(&q->items);
}
