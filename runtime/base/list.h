/* SPDX-License-Identifier: MIT
 * Intrusive circular doubly linked list. A head is a node; a node that is in
 * no list points to itself, so removing twice is harmless. Owns nothing. */
#ifndef NP_LIST_H
#define NP_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct np_list {
  struct np_list *prev, *next;
};

#define np_container_of(ptr, type, member)                                     \
  ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

static inline void np_list_init(struct np_list *l) {
  l->prev = l->next = l;
}

static inline bool np_list_empty(const struct np_list *l) {
  return l->next == l;
}

/* Inserts node just before pos; with the head as pos that is the tail. */
static inline void np_list_push_tail(struct np_list *pos,
                                     struct np_list *node) {
  node->prev = pos->prev;
  node->next = pos;
  pos->prev->next = node;
  pos->prev = node;
}

static inline void np_list_push_head(struct np_list *head,
                                     struct np_list *node) {
  np_list_push_tail(head->next, node);
}

static inline void np_list_remove(struct np_list *node) {
  node->prev->next = node->next;
  node->next->prev = node->prev;
  np_list_init(node);
}

/* Removes and returns the first node, or NULL when the list is empty. */
static inline struct np_list *np_list_pop(struct np_list *head) {
  struct np_list *node = head->next;
  if (node == head) return NULL;
  np_list_remove(node);
  return node;
}

/* Moves all of src to the (empty) list dst, in order. */
static inline void np_list_take(struct np_list *dst, struct np_list *src) {
  if (np_list_empty(src)) {
    np_list_init(dst);
    return;
  }
  *dst = *src;
  dst->next->prev = dst;
  dst->prev->next = dst;
  np_list_init(src);
}

#endif
