/* SPDX-License-Identifier: MIT */
#include "base/heap.h"

#include "base/err.h"

#include <stdlib.h>
#include <string.h>

enum { ARITY = 4, FIRST_CAPACITY = 64 };

void np_heap_init(struct np_heap *h) {
  memset(h, 0, sizeof *h);
}

void np_heap_fini(struct np_heap *h) {
  free(h->slots);
  np_heap_init(h);
}

static inline bool before(const struct np_heap_slot *a,
                          const struct np_heap_slot *b) {
  if (a->key != b->key) return a->key < b->key;
  return a->node->seq < b->node->seq;
}

static inline void place(struct np_heap *h, uint32_t i,
                         struct np_heap_slot slot) {
  h->slots[i] = slot;
  slot.node->index = i;
}

static void sift_up(struct np_heap *h, uint32_t i, struct np_heap_slot slot) {
  while (i > 0) {
    uint32_t parent = (i - 1) / ARITY;
    if (!before(&slot, &h->slots[parent])) break;
    place(h, i, h->slots[parent]);
    i = parent;
  }
  place(h, i, slot);
}

static void sift_down(struct np_heap *h, uint32_t i, struct np_heap_slot slot) {
  for (;;) {
    uint32_t first = i * ARITY + 1, least = i;
    struct np_heap_slot *best = &slot;
    for (uint32_t c = first; c < first + ARITY && c < h->count; c++) {
      if (before(&h->slots[c], best)) {
        best = &h->slots[c];
        least = c;
      }
    }
    if (least == i) break;
    place(h, i, *best);
    i = least;
  }
  place(h, i, slot);
}

int np_heap_push(struct np_heap *h, struct np_heap_node *n, uint64_t key) {
  if (h->count == h->capacity) {
    uint32_t capacity = h->capacity ? h->capacity * 2 : FIRST_CAPACITY;
    struct np_heap_slot *slots =
        realloc(h->slots, (size_t)capacity * sizeof *slots);
    if (!slots) return NP_E_LIMIT;
    h->slots = slots;
    h->capacity = capacity;
  }
  n->seq = h->next_seq++;
  sift_up(h, h->count++, (struct np_heap_slot){key, n});
  return NP_OK;
}

void np_heap_remove(struct np_heap *h, struct np_heap_node *n) {
  uint32_t i = n->index;
  if (i == NP_HEAP_NOWHERE) return;
  n->index = NP_HEAP_NOWHERE;
  struct np_heap_slot last = h->slots[--h->count];
  if (i == h->count) return;
  if (i > 0 && before(&last, &h->slots[(i - 1) / ARITY]))
    sift_up(h, i, last);
  else
    sift_down(h, i, last);
}

uint64_t np_heap_key_of_double(double d) {
  uint64_t bits;
  if (d == 0) d = 0; /* -0.0 and 0.0 are one priority */
  memcpy(&bits, &d, sizeof bits);
  const uint64_t sign = UINT64_C(1) << 63;
  return bits & sign ? ~bits : bits | sign;
}
