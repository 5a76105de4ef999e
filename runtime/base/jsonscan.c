/* SPDX-License-Identifier: MIT */
#include "base/jsonscan.h"

#include "base/utf8.h"

#include <stdint.h>
#include <string.h>

/* A double's exact integers end here; wider ones would be rounded. */
#define WIDEST "9007199254740992"
/* From these leading digits on, d.ddd e308 is no finite double. */
#define HUGE_DIGITS "17976931348623158"
enum { WIDEST_LEN = 16, HUGE_LEN = 17, HUGE_EXPONENT = 308 };

struct scan {
  struct np_json_scan *out;
  const char *start, *p, *end;
  unsigned depth;
  struct np_json_span member;      /* of the outermost object, being read */
  char nesting[NP_JSON_MAX_DEPTH]; /* '{' or '[' */
};

static bool fail_at(struct scan *s, const char *p, const char *problem) {
  s->out->problem = problem;
  s->out->at = (size_t)(p - s->start);
  return false;
}

static bool fail(struct scan *s, const char *problem) {
  return fail_at(s, s->p, s->p < s->end ? problem : "the text ends too early");
}

static void visit(struct scan *s, enum np_json_event event,
                  const struct np_json_span *span) {
  if (s->out->visit) s->out->visit(s->out->ud, event, span);
}

static void visit_value(struct scan *s, enum np_json_event event,
                        const char *from) {
  struct np_json_span span = {.value = from,
                              .value_len = (size_t)(s->p - from)};
  visit(s, event, &span);
}

static inline void skip_space(struct scan *s) {
  while (s->p < s->end &&
         (*s->p == ' ' || *s->p == '\n' || *s->p == '\r' || *s->p == '\t'))
    s->p++;
}

static inline bool is_digit(const char *p, const char *end) {
  return p < end && *p >= '0' && *p <= '9';
}

static int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

/* The four hex digits at p, or -1. */
static int hex4(const char *p, const char *end) {
  if (end - p < 4) return -1;
  int value = 0;
  for (int i = 0; i < 4; i++) {
    int digit = hex_digit(p[i]);
    if (digit < 0) return -1;
    value = value << 4 | digit;
  }
  return value;
}

static bool is_high(int unit) {
  return unit >= 0xD800 && unit <= 0xDBFF;
}
static bool is_low(int unit) {
  return unit >= 0xDC00 && unit <= 0xDFFF;
}

/* -- Strings --------------------------------------------------------------- */

/* At the backslash. */
static bool scan_escape(struct scan *s) {
  const char *from = s->p++;
  if (s->p == s->end) return fail(s, "");
  char c = *s->p;
  if (c != 'u') {
    if (c == 0 || !strchr("\"\\/bfnrt", c))
      return fail_at(s, from, "an unknown escape in a string");
    s->p++;
    return true;
  }
  int unit = hex4(s->p + 1, s->end);
  if (unit < 0) return fail_at(s, from, "\\u without four hex digits");
  s->p += 5;
  bool lone = is_low(unit);
  if (is_high(unit)) {
    lone = s->end - s->p < 6 || s->p[0] != '\\' || s->p[1] != 'u' ||
           !is_low(hex4(s->p + 2, s->end));
    if (!lone) s->p += 6;
  }
  if (lone && s->out->lone_surrogate == NP_JSON_NOWHERE)
    s->out->lone_surrogate = (size_t)(from - s->start);
  return true;
}

/* Whether one of the eight bytes is below 0x20, '"', '\\' or above 0x7F; may
 * say yes wrongly (a borrow), never no wrongly. */
static inline bool is_special(uint64_t word) {
  const uint64_t ones = UINT64_C(0x0101010101010101);
  uint64_t quote = word ^ (ones * '"'), slash = word ^ (ones * '\\');
  return (((word - ones * 0x20) | (quote - ones) | (slash - ones) | word) &
          (ones * 0x80)) != 0;
}

/* At the opening quote; *escaped tells whether there were escapes. */
static bool scan_string(struct scan *s, bool *escaped) {
  const char *from = s->p++;
  *escaped = false;
  for (;;) {
    uint64_t word;
    while ((size_t)(s->end - s->p) >= sizeof word) {
      memcpy(&word, s->p, sizeof word);
      if (is_special(word)) break;
      s->p += sizeof word;
    }
    if (s->p == s->end) return fail_at(s, from, "a string without its end");
    unsigned char c = (unsigned char)*s->p;
    if (c == '"') {
      s->p++;
      return true;
    }
    if (c == '\\') {
      *escaped = true;
      if (!scan_escape(s)) return false;
    } else if (c < 0x20) {
      return fail(s, "a control character in a string");
    } else if (c < 0x80) {
      s->p++;
    } else {
      unsigned n = np_utf8_char(s->p, (size_t)(s->end - s->p));
      if (n == 0) return fail(s, "a string is not valid UTF-8");
      s->p += n;
    }
  }
}

/* -- Numbers --------------------------------------------------------------- */

struct number {
  const char *whole; /* the digits before the point */
  size_t whole_len;
  const char *fraction;
  size_t fraction_len;
  int64_t exponent; /* saturates */
};

static bool is_wide(const struct number *n) {
  if (n->whole_len != WIDEST_LEN) return n->whole_len > WIDEST_LEN;
  return memcmp(n->whole, WIDEST, WIDEST_LEN) > 0;
}

/* Whether the number is beyond what a double holds. */
static bool is_huge(const struct number *n) {
  /* The decimal exponent of the first digit that is not 0. */
  const char *digits = n->whole;
  int64_t exponent = n->exponent + (int64_t)n->whole_len - 1;
  size_t all = n->whole_len + n->fraction_len, first = 0;
#define DIGIT(i)                                                               \
  ((i) < n->whole_len ? digits[i] : n->fraction[(i)-n->whole_len])
  while (first < all && DIGIT(first) == '0') first++;
  exponent -= (int64_t)first;
  if (first == all || exponent != HUGE_EXPONENT)
    return first < all && exponent > HUGE_EXPONENT;
  for (size_t i = 0; i < HUGE_LEN; i++) {
    char have = first + i < all ? DIGIT(first + i) : '0';
    if (have != HUGE_DIGITS[i]) return have > HUGE_DIGITS[i];
  }
#undef DIGIT
  return true;
}

static bool scan_exponent(struct scan *s, struct number *n) {
  s->p++;
  bool negative = s->p < s->end && *s->p == '-';
  if (s->p < s->end && (*s->p == '-' || *s->p == '+')) s->p++;
  if (!is_digit(s->p, s->end)) return fail(s, "an exponent without digits");
  int64_t value = 0;
  for (; is_digit(s->p, s->end); s->p++) {
    if (value < INT64_MAX / 100) value = value * 10 + (*s->p - '0');
  }
  n->exponent = negative ? -value : value;
  return true;
}

static bool scan_number(struct scan *s) {
  const char *from = s->p;
  struct number n = {0};
  if (*s->p == '-') s->p++;
  if (!is_digit(s->p, s->end)) return fail(s, "a number without digits");
  n.whole = s->p;
  if (*s->p == '0') {
    s->p++;
    if (is_digit(s->p, s->end))
      return fail_at(s, from, "a number with a leading zero");
  } else {
    while (is_digit(s->p, s->end)) s->p++;
  }
  n.whole_len = (size_t)(s->p - n.whole);
  bool is_integer = true;
  if (s->p < s->end && *s->p == '.') {
    is_integer = false;
    n.fraction = ++s->p;
    if (!is_digit(s->p, s->end)) return fail(s, "a point without digits");
    while (is_digit(s->p, s->end)) s->p++;
    n.fraction_len = (size_t)(s->p - n.fraction);
  }
  if (s->p < s->end && (*s->p == 'e' || *s->p == 'E')) {
    is_integer = false;
    if (!scan_exponent(s, &n)) return false;
  }
  if (is_integer && is_wide(&n)) {
    s->out->wide_integers++;
    visit_value(s, NP_JSON_WIDE_INTEGER, from);
  } else if (!is_integer && s->out->huge_number == NP_JSON_NOWHERE &&
             is_huge(&n)) {
    s->out->huge_number = (size_t)(from - s->start);
  }
  return true;
}

/* -- Structure ------------------------------------------------------------- */

static bool scan_word(struct scan *s, const char *word, size_t len) {
  if ((size_t)(s->end - s->p) < len || memcmp(s->p, word, len) != 0)
    return fail(s, "not a JSON value");
  s->p += len;
  return true;
}

/* From a key's quote to the first byte of its value. */
static bool scan_key(struct scan *s) {
  if (s->p == s->end || *s->p != '"') return fail(s, "a key must be a string");
  const char *from = s->p;
  bool escaped;
  if (!scan_string(s, &escaped)) return false;
  const char *to = s->p - 1;
  skip_space(s);
  if (s->p == s->end || *s->p != ':') return fail(s, "a key without its ':'");
  s->p++;
  skip_space(s);
  if (s->depth == 1)
    s->member = (struct np_json_span){.key = from + 1,
                                      .key_len = (size_t)(to - from - 1),
                                      .key_escaped = escaped,
                                      .value = s->p};
  return true;
}

/* At '{' or '['. *closed: it was empty, and is done; otherwise a value (in an
 * object its key is read already) comes next. */
static bool scan_open(struct scan *s, bool *closed) {
  char open = *s->p;
  const char *from = s->p;
  if (s->depth == NP_JSON_MAX_DEPTH) return fail(s, "nested too deeply");
  s->p++;
  skip_space(s);
  *closed = s->p < s->end && *s->p == (open == '{' ? '}' : ']');
  if (*closed) {
    s->p++;
    if (open == '[') {
      s->out->empty_arrays++;
      visit_value(s, NP_JSON_EMPTY_ARRAY, from);
    }
    return true;
  }
  s->nesting[s->depth++] = open;
  return open == '[' || scan_key(s);
}

static bool scan_scalar(struct scan *s) {
  bool escaped;
  switch (*s->p) {
  case '"':
    return scan_string(s, &escaped);
  case 't':
    return scan_word(s, "true", 4);
  case 'f':
    return scan_word(s, "false", 5);
  case 'n':
    return scan_word(s, "null", 4);
  case '-':
    return scan_number(s);
  default:
    if (is_digit(s->p, s->end)) return scan_number(s);
    return fail(s, "not a JSON value");
  }
}

/* After a value: closes what ends here. *more: a value comes next. */
static bool scan_after(struct scan *s, bool *more) {
  while (s->depth > 0) {
    bool in_object = s->nesting[s->depth - 1] == '{';
    if (s->depth == 1 && in_object) {
      s->member.value_len = (size_t)(s->p - s->member.value);
      visit(s, NP_JSON_MEMBER, &s->member);
    }
    skip_space(s);
    if (s->p < s->end && *s->p == ',') {
      s->p++;
      skip_space(s);
      *more = true;
      return !in_object || scan_key(s);
    }
    if (s->p == s->end || *s->p != (in_object ? '}' : ']'))
      return fail(s, in_object ? "expected ',' or '}'" : "expected ',' or ']'");
    s->p++;
    s->depth--;
  }
  *more = false;
  return true;
}

static bool scan_text(struct scan *s) {
  if (s->end - s->p >= 3 && memcmp(s->p, "\xEF\xBB\xBF", 3) == 0)
    return fail(s, "the text begins with a byte order mark");
  skip_space(s);
  if (s->p == s->end) return fail_at(s, s->p, "the text is empty");
  for (bool more = true; more;) {
    skip_space(s);
    if (s->p == s->end) return fail(s, "");
    bool whole = true;
    if (*s->p == '{' || *s->p == '[') {
      if (!scan_open(s, &whole)) return false;
    } else if (!scan_scalar(s)) {
      return false;
    }
    if (whole && !scan_after(s, &more)) return false;
  }
  skip_space(s);
  return s->p == s->end || fail(s, "something follows the value");
}

bool np_json_scan(struct np_json_scan *s, const char *text, size_t len) {
  s->problem = NULL;
  s->at = 0;
  s->wide_integers = s->empty_arrays = 0;
  s->huge_number = s->lone_surrogate = NP_JSON_NOWHERE;
  struct scan scan;
  scan.out = s;
  scan.start = scan.p = text;
  scan.end = text + len;
  scan.depth = 0;
  return scan_text(&scan);
}

/* -- Unescaping ------------------------------------------------------------ */

static char *put_utf8(char *out, unsigned c) {
  if (c < 0x80) {
    *out++ = (char)c;
  } else if (c < 0x800) {
    *out++ = (char)(0xC0 | c >> 6);
    *out++ = (char)(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    *out++ = (char)(0xE0 | c >> 12);
    *out++ = (char)(0x80 | (c >> 6 & 0x3F));
    *out++ = (char)(0x80 | (c & 0x3F));
  } else {
    *out++ = (char)(0xF0 | c >> 18);
    *out++ = (char)(0x80 | (c >> 12 & 0x3F));
    *out++ = (char)(0x80 | (c >> 6 & 0x3F));
    *out++ = (char)(0x80 | (c & 0x3F));
  }
  return out;
}

/* p behind "\u"; returns the place behind the escape. */
static const char *unescape_unicode(char **out, const char *p,
                                    const char *end) {
  int unit = hex4(p, end);
  if (unit < 0) return p;
  p += 4;
  unsigned c = (unsigned)unit;
  if (is_high(unit) && end - p >= 6 && p[0] == '\\' && p[1] == 'u' &&
      is_low(hex4(p + 2, end))) {
    c = 0x10000 + ((c - 0xD800) << 10) + (unsigned)hex4(p + 2, end) - 0xDC00;
    p += 6;
  } else if (is_high(unit) || is_low(unit)) {
    c = 0xFFFD;
  }
  *out = put_utf8(*out, c);
  return p;
}

size_t np_json_unescape(char *out, const char *text, size_t len) {
  static const char from[] = "bfnrt", to[] = "\b\f\n\r\t";
  char *start = out;
  const char *end = text + len;
  for (const char *p = text; p < end;) {
    if (*p != '\\' || p + 1 == end) {
      *out++ = *p++;
      continue;
    }
    char c = p[1];
    p += 2;
    const char *named = c ? strchr(from, c) : NULL;
    if (c == 'u')
      p = unescape_unicode(&out, p, end);
    else
      *out++ = named ? to[named - from] : c;
  }
  return (size_t)(out - start);
}
