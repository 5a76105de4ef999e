/* SPDX-License-Identifier: MIT
 * A 4-ary min-heap of embedded nodes, ordered by (key, order of arrival): equal
 * keys leave in the order in which they came, so runs are repeatable. A node
 * can be removed from the middle. What moves while sifting is 16 bytes in one
 * array; where a node is lies in a second compact array, not in the node: with
 * a million sleepers every touched node would be a cache miss. Owns its arrays,
 * not the nodes. */
#ifndef NP_HEAP_H
#define NP_HEAP_H

#include <stdbool.h>
#include <stdint.h>

#define NP_HEAP_NOWHERE UINT32_MAX

struct np_heap_node {
  uint32_t id; /* NP_HEAP_NOWHERE when in no heap */
};

struct np_heap_slot {
  uint64_t key;
  uint32_t arrival; /* wraps; equal keys are never 2^31 arrivals apart */
  uint32_t id;
};

struct np_heap_place {
  struct np_heap_node *node; /* NULL: free */
  uint32_t index;            /* in slots; of a free place: the next free one */
};

struct np_heap {
  struct np_heap_slot *slots;   /* owned: capacity of them */
  struct np_heap_place *places; /* owned, by id */
  uint32_t count, capacity;
  uint32_t first_free; /* id, NP_HEAP_NOWHERE: none */
  uint32_t next_arrival;
};

void np_heap_init(struct np_heap *h);
void np_heap_fini(struct np_heap *h);
static inline void np_heap_node_init(struct np_heap_node *n) {
  n->id = NP_HEAP_NOWHERE;
}
static inline bool np_heap_has(const struct np_heap_node *n) {
  return n->id != NP_HEAP_NOWHERE;
}
/* Adds a node that is in no heap. Returns 0, or NP_E_LIMIT without memory. */
int np_heap_push(struct np_heap *h, struct np_heap_node *n, uint64_t key);
/* Removes n from h; nothing happens when it is in no heap. */
void np_heap_remove(struct np_heap *h, struct np_heap_node *n);
/* The node with the least (key, arrival), or NULL; its key through *key. */
static inline struct np_heap_node *np_heap_min(const struct np_heap *h,
                                               uint64_t *key) {
  if (h->count == 0) return 0;
  *key = h->slots[0].key;
  return h->places[h->slots[0].id].node;
}

/* Maps a double to a key of the same order (NaN excluded by the caller). */
uint64_t np_heap_key_of_double(double d);

#endif
