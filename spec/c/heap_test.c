/* SPDX-License-Identifier: MIT
 * The heap against a plain list: whatever is pushed and removed, the least key
 * leaves first, and equal keys leave in the order in which they came. */
#include "base/heap.h"
#include "base/rng.h"

#include <assert.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>

enum { NODES = 200, STEPS = 200000, KEYS = 16 };

struct model {
  struct np_heap_node nodes[NODES];
  uint64_t keys[NODES];
  uint64_t order[NODES]; /* of the push; meaningful while in the heap */
  uint64_t pushes;
};

/* The index that must be on top, NODES when the heap must be empty. */
static unsigned expected_min(const struct model *m) {
  unsigned best = NODES;
  for (unsigned i = 0; i < NODES; i++) {
    if (!np_heap_has(&m->nodes[i])) continue;
    if (best == NODES || m->keys[i] < m->keys[best] ||
        (m->keys[i] == m->keys[best] && m->order[i] < m->order[best]))
      best = i;
  }
  return best;
}

static void check_top(const struct np_heap *h, const struct model *m) {
  uint64_t key = 0;
  const struct np_heap_node *top = np_heap_min(h, &key);
  unsigned want = expected_min(m);
  if (want == NODES) {
    assert(!top && h->count == 0);
    return;
  }
  assert(top == &m->nodes[want]);
  assert(key == m->keys[want]);
}

static void leaves_in_order_of_key_and_arrival(void) {
  static struct model m;
  struct np_heap h;
  struct np_rng rng;
  np_rng_seed(&rng, 1, 0);
  np_heap_init(&h);
  for (unsigned i = 0; i < NODES; i++) np_heap_node_init(&m.nodes[i]);
  for (unsigned step = 0; step < STEPS; step++) {
    unsigned i = (unsigned)(np_rng_u64(&rng) % NODES);
    if (np_heap_has(&m.nodes[i])) {
      np_heap_remove(&h, &m.nodes[i]);
    } else {
      m.keys[i] = np_rng_u64(&rng) % KEYS;
      m.order[i] = m.pushes++;
      assert(np_heap_push(&h, &m.nodes[i], m.keys[i]) == 0);
    }
    check_top(&h, &m);
  }
  for (unsigned i; (i = expected_min(&m)) < NODES;) {
    check_top(&h, &m);
    np_heap_remove(&h, &m.nodes[i]);
  }
  check_top(&h, &m);
  np_heap_fini(&h);
}

static void removes_a_node_once(void) {
  struct np_heap h;
  struct np_heap_node n;
  np_heap_init(&h);
  np_heap_node_init(&n);
  np_heap_remove(&h, &n);
  assert(np_heap_push(&h, &n, 7) == 0);
  np_heap_remove(&h, &n);
  np_heap_remove(&h, &n);
  assert(h.count == 0);
  np_heap_fini(&h);
}

static void keys_of_doubles_keep_their_order(void) {
  static const double ascending[] = {-INFINITY, -1e300, -2,     -1,
                                     -1e-300,   0,      1e-300, 0.5,
                                     1,         2,      1e300,  INFINITY};
  size_t count = sizeof ascending / sizeof *ascending;
  for (size_t i = 1; i < count; i++)
    assert(np_heap_key_of_double(ascending[i - 1]) <
           np_heap_key_of_double(ascending[i]));
  assert(np_heap_key_of_double(-0.0) == np_heap_key_of_double(0.0));
}

int main(void) {
  leaves_in_order_of_key_and_arrival();
  removes_a_node_once();
  keys_of_doubles_keep_their_order();
  puts("heap_test: ok");
  return 0;
}
