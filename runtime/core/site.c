/* SPDX-License-Identifier: MIT */
#include "core/site.h"

#include <stdlib.h>
#include <string.h>

/* MAX_DEPTH bounds the ancestry kept of a task that spawns a task that ...;
 * MAX_SITES bounds the table when code is generated at run time. */
enum { BUCKETS = 1024, MAX_SITES = 65536, MAX_DEPTH = 16 };

struct entry {
  struct np_site site;
  uint32_t next; /* in the bucket */
};

struct np_sites {
  struct entry *entries; /* owned; entry 0 is unused */
  uint32_t count, capacity;
  uint32_t buckets[BUCKETS];
};

struct np_sites *np_sites_new(void) {
  struct np_sites *s = calloc(1, sizeof *s);
  if (s) s->count = 1;
  return s;
}

void np_sites_free(struct np_sites *s) {
  if (!s) return;
  for (uint32_t i = 1; i < s->count; i++) free((char *)s->entries[i].site.file);
  free(s->entries);
  free(s);
}

static int grow(struct np_sites *s) {
  uint32_t capacity = s->capacity ? s->capacity * 2 : 64;
  struct entry *entries = realloc(s->entries, capacity * sizeof *entries);
  if (!entries) return 0;
  s->entries = entries;
  s->capacity = capacity;
  return 1;
}

uint32_t np_sites_intern(struct np_sites *s, const char *file, int line,
                         uint32_t parent) {
  const struct np_site *up = np_sites_get(s, parent);
  if (up && up->depth >= MAX_DEPTH) {
    parent = up->parent;
    up = np_sites_get(s, parent);
  }
  uint32_t depth = up ? up->depth + 1 : 0; /* up goes when the table grows */
  uint32_t hash = ((uint32_t)line * 2654435761u) ^ (parent * 40503u) ^
                  ((uint32_t)strlen(file) << 7);
  uint32_t *bucket = &s->buckets[(hash ^ (hash >> 15)) % BUCKETS];
  for (uint32_t id = *bucket; id != 0; id = s->entries[id].next) {
    const struct np_site *e = &s->entries[id].site;
    if (e->line == line && e->parent == parent && strcmp(e->file, file) == 0)
      return id;
  }
  if (s->count >= MAX_SITES) return 0;
  if (s->count >= s->capacity && !grow(s)) return 0;
  char *copy = strdup(file);
  if (!copy) return 0;
  struct entry *e = &s->entries[s->count];
  e->site = (struct np_site){copy, line, parent, depth};
  e->next = *bucket;
  *bucket = s->count;
  return s->count++;
}

const struct np_site *np_sites_get(const struct np_sites *s, uint32_t id) {
  return id == 0 ? NULL : &s->entries[id].site;
}
