/* SPDX-License-Identifier: MIT
 * A getaddrinfo for LD_PRELOAD: names that begin with "hang" are looked up for
 * ten seconds, names that begin with "local" are 127.0.0.1. With
 * NEAP_SPEC_LOOKUPS set, every such lookup adds a byte to that file. Built and
 * used by spec/http_dns_spec.lua. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef int lookup_fn(const char *, const char *, const struct addrinfo *,
                      struct addrinfo **);

static void count(void) {
  const char *path = getenv("NEAP_SPEC_LOOKUPS");
  FILE *file = path ? fopen(path, "a") : NULL;
  if (!file) return;
  fputc('x', file);
  fclose(file);
}

int getaddrinfo(const char *node, const char *service,
                const struct addrinfo *hints, struct addrinfo **res) {
  lookup_fn *real = (lookup_fn *)dlsym(RTLD_NEXT, "getaddrinfo");
  if (node && strncmp(node, "hang", 4) == 0) {
    count();
    sleep(10);
    return EAI_AGAIN;
  }
  if (node && strncmp(node, "local", 5) == 0 && strcmp(node, "localhost")) {
    count();
    return real("127.0.0.1", service, hints, res);
  }
  return real(node, service, hints, res);
}
