/* SPDX-License-Identifier: MIT
 * A 4-ary min-heap of embedded nodes, ordered by (key, seq): equal keys leave
 * in the order in which they came, so runs are repeatable. A node knows its
 * place, so it can be removed from the middle. Owns its array, not the nodes.
 */
#ifndef NP_HEAP_H
#define NP_HEAP_H

#include <stdbool.h>
#include <stdint.h>

#define NP_HEAP_NOWHERE UINT32_MAX

struct np_heap_node {
  uint64_t seq;   /* set by np_heap_push */
  uint32_t index; /* NP_HEAP_NOWHERE when in no heap */
};

struct np_heap_slot {
  uint64_t key;
  struct np_heap_node *node;
};

struct np_heap {
  struct np_heap_slot *slots; /* owned */
  uint32_t count, capacity;
  uint64_t next_seq;
};

void np_heap_init(struct np_heap *h);
void np_heap_fini(struct np_heap *h);
static inline void np_heap_node_init(struct np_heap_node *n) {
  n->index = NP_HEAP_NOWHERE;
}
static inline bool np_heap_has(const struct np_heap_node *n) {
  return n->index != NP_HEAP_NOWHERE;
}
/* Adds a node that is in no heap. Returns 0, or NP_E_LIMIT without memory. */
int np_heap_push(struct np_heap *h, struct np_heap_node *n, uint64_t key);
/* Removes n from h; nothing happens when it is in no heap. */
void np_heap_remove(struct np_heap *h, struct np_heap_node *n);
/* The node with the least (key, seq), or NULL; its key through *key. */
static inline struct np_heap_node *np_heap_min(const struct np_heap *h,
                                               uint64_t *key) {
  if (h->count == 0) return 0;
  *key = h->slots[0].key;
  return h->slots[0].node;
}

/* Maps a double to a key of the same order (NaN excluded by the caller). */
uint64_t np_heap_key_of_double(double d);

#endif
