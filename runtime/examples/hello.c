/* SPDX-License-Identifier: MIT
 * A host with a frame loop: it offers one C function to its scripts, gives them
 * 2 ms of each frame, and draws whatever else it has to draw.
 *
 *   cc hello.c $(pkg-config --cflags --libs neap) -o hello && ./hello
 */
#include <neap.h>

#include <stdio.h>
#include <time.h>

static const char script[] = "local neap = require 'neap'\n"
                             "for i = 1, 3 do\n"
                             "  neap.spawn(function()\n"
                             "    neap.sleep(0.05 * i)\n"
                             "    neap.host.greet('task ' .. i)\n"
                             "  end)\n"
                             "end\n";

static int greet(neap_call *call, void *ud) {
  const char *who = neap_arg_string(call, 1, NULL);
  int *greeted = ud;
  if (!who) return 0; /* the script gets the error */
  printf("hello from %s\n", who);
  neap_return_number(call, ++*greeted);
  return 0;
}

static void print_error(void *ud, const char *text) {
  (void)ud;
  fprintf(stderr, "script error: %s\n", text);
}

int main(void) {
  const struct timespec rest_of_frame = {.tv_nsec = 10000000};
  int greeted = 0, frames = 0;
  neap_options options = {.error = print_error};
  neap_t *rt = neap_new(&options);
  if (!rt) return 1;
  if (neap_register(rt, "greet", greet, &greeted) != 0 ||
      neap_run_string(rt, script, "=hello", 0, NULL) != 0) {
    fprintf(stderr, "%s\n", neap_last_error(rt));
    neap_free(rt);
    return 1;
  }
  while (neap_step(rt, 2000000) != NEAP_DONE) {
    frames++; /* draw_a_frame() */
    (void)nanosleep(&rest_of_frame, NULL);
  }
  printf("%d greetings while %s frames were drawn\n", greeted,
         frames > 3 ? "many" : "few");
  neap_free(rt);
  return greeted == 3 ? 0 : 1;
}
