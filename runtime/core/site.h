/* SPDX-License-Identifier: MIT
 * Where tasks were spawned, as numbers: equal places share one entry, and an
 * entry knows the place its own spawner was spawned at. So a task remembers its
 * whole ancestry in four bytes. Full or out of memory, places become 0
 * ("unknown"). Owns copies of all names. */
#ifndef NP_SITE_H
#define NP_SITE_H

#include <stdint.h>

struct np_sites;

struct np_site {
  const char *file; /* owned by the table */
  int line;
  uint32_t parent; /* 0: none */
  uint32_t depth;
};

struct np_sites *np_sites_new(void);
void np_sites_free(struct np_sites *s);
/* The number of (file, line, parent); parent may be 0. */
uint32_t np_sites_intern(struct np_sites *s, const char *file, int line,
                         uint32_t parent);
/* The entry of a number, NULL for 0. Valid until the next intern. */
const struct np_site *np_sites_get(const struct np_sites *s, uint32_t id);

#endif
