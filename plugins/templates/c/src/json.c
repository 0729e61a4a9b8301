#include "json.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

// Deeper nesting is refused, because the stack of a plugin is small.
enum { DEPTH_MAX = 128 };

text text_of(const char *zero_ended) { return (text){zero_ended, strlen(zero_ended)}; }

bool text_is(text left, const char *right) {
  return left.length == strlen(right) && memcmp(left.at, right, left.length) == 0;
}

static void *claim(void *old, size_t bytes) {
  void *room = realloc(old, bytes);
  if (room == NULL) abort();
  return room;
}

// The length of the UTF-8 character at `at`, or 0 when there is none.
static size_t character(const uint8_t *at, size_t left) {
  if (at[0] < 0x80) return 1;
  if (at[0] < 0xc2 || at[0] > 0xf4) return 0;
  size_t length = at[0] < 0xe0 ? 2 : at[0] < 0xf0 ? 3 : 4;
  if (left < length) return 0;
  for (size_t i = 1; i < length; i++)
    if ((at[i] & 0xc0) != 0x80) return 0;
  // Overlong forms, surrogates, and code points beyond Unicode are refused.
  if (at[0] == 0xe0 && at[1] < 0xa0) return 0;
  if (at[0] == 0xed && at[1] > 0x9f) return 0;
  if (at[0] == 0xf0 && at[1] < 0x90) return 0;
  if (at[0] == 0xf4 && at[1] > 0x8f) return 0;
  return length;
}

reader json_read(const uint8_t *bytes, size_t length) {
  reader in = {(const char *)bytes, (const char *)bytes + length, false, false};
  for (size_t i = 0; i < length && !in.failed;) {
    size_t step = character(bytes + i, length - i);
    in.failed = step == 0;
    i += step;
  }
  return in;
}

static bool fail(reader *in) {
  in->failed = true;
  return false;
}

static void spaces(reader *in) {
  while (in->at < in->end && (*in->at == ' ' || *in->at == '\t' || *in->at == '\n' || *in->at == '\r')) in->at++;
}

// Moves past the character `wanted` if it comes next.
static bool take(reader *in, char wanted) {
  if (in->failed) return false;
  spaces(in);
  if (in->at == in->end || *in->at != wanted) return false;
  in->at++;
  return true;
}

static bool word(reader *in, const char *wanted) {
  if (in->failed) return false;
  spaces(in);
  size_t length = strlen(wanted);
  if ((size_t)(in->end - in->at) < length || memcmp(in->at, wanted, length) != 0) return false;
  in->at += length;
  return true;
}

void json_object(reader *in) {
  if (!take(in, '{')) fail(in);
  in->started = false;
}

bool json_key(reader *in, text *key) {
  if (in->failed) return false;
  if (take(in, '}')) {
    // The reader is in the outer object again, whose value this object was.
    in->started = true;
    return false;
  }
  if (in->started && !take(in, ',')) return fail(in);
  in->started = true;
  return json_text(in, key) && (take(in, ':') || fail(in));
}

static int hex4(reader *in) {
  int code = 0;
  if (in->end - in->at < 4) return -1;
  for (int i = 0; i < 4; i++) {
    char digit = *in->at++;
    int value = digit >= '0' && digit <= '9'   ? digit - '0'
                : digit >= 'a' && digit <= 'f' ? digit - 'a' + 10
                : digit >= 'A' && digit <= 'F' ? digit - 'A' + 10
                                               : -1;
    if (value < 0) return -1;
    code = code * 16 + value;
  }
  return code;
}

static char *encode(char *out, uint32_t code) {
  if (code < 0x80) {
    *out++ = (char)code;
  } else if (code < 0x800) {
    *out++ = (char)(0xc0 | code >> 6);
    *out++ = (char)(0x80 | (code & 0x3f));
  } else if (code < 0x10000) {
    *out++ = (char)(0xe0 | code >> 12);
    *out++ = (char)(0x80 | (code >> 6 & 0x3f));
    *out++ = (char)(0x80 | (code & 0x3f));
  } else {
    *out++ = (char)(0xf0 | code >> 18);
    *out++ = (char)(0x80 | (code >> 12 & 0x3f));
    *out++ = (char)(0x80 | (code >> 6 & 0x3f));
    *out++ = (char)(0x80 | (code & 0x3f));
  }
  return out;
}

// Reads a \u escape after its `u`. Both halves of a surrogate pair become one character, and a lone half is refused.
static char *unicode(reader *in, char *out) {
  int high = hex4(in);
  if (high < 0 || (high >= 0xdc00 && high <= 0xdfff)) return NULL;
  if (high < 0xd800 || high > 0xdbff) return encode(out, (uint32_t)high);
  if (in->end - in->at < 2 || in->at[0] != '\\' || in->at[1] != 'u') return NULL;
  in->at += 2;
  int low = hex4(in);
  if (low < 0xdc00 || low > 0xdfff) return NULL;
  return encode(out, 0x10000 + ((uint32_t)(high - 0xd800) << 10) + (uint32_t)(low - 0xdc00));
}

bool json_text(reader *in, text *value) {
  if (!take(in, '"')) return fail(in);
  // An escape is never shorter than its character in UTF-8.
  char *start = claim(NULL, (size_t)(in->end - in->at) + 1), *out = start;
  while (in->at < in->end && *in->at != '"') {
    char next = *in->at++;
    if ((uint8_t)next < 0x20) return fail(in);
    if (next != '\\') {
      *out++ = next;
      continue;
    }
    if (in->at == in->end) return fail(in);
    static const char names[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
    char escape = *in->at++;
    const char *known = escape == '\0' ? NULL : strchr(names, escape);
    if (known != NULL) {
      *out++ = meant[known - names];
    } else if (escape != 'u' || (out = unicode(in, out)) == NULL) {
      return fail(in);
    }
  }
  if (in->at == in->end) return fail(in);
  in->at++;
  *value = (text){start, (size_t)(out - start)};
  return true;
}

static size_t digits(reader *in) {
  const char *start = in->at;
  while (in->at < in->end && *in->at >= '0' && *in->at <= '9') in->at++;
  return (size_t)(in->at - start);
}

// Moves past a number; false when there is none.
static bool number(reader *in) {
  if (in->failed) return false;
  if (in->at < in->end && *in->at == '-') in->at++;
  bool zero = in->at < in->end && *in->at == '0';
  size_t whole = digits(in);
  if (whole == 0 || (zero && whole > 1)) return fail(in);
  if (in->at < in->end && *in->at == '.') {
    in->at++;
    if (digits(in) == 0) return fail(in);
  }
  if (in->at < in->end && (*in->at == 'e' || *in->at == 'E')) {
    in->at++;
    if (in->at < in->end && (*in->at == '+' || *in->at == '-')) in->at++;
    if (digits(in) == 0) return fail(in);
  }
  return true;
}

bool json_number(reader *in, double *value) {
  if (in->failed) return false;
  spaces(in);
  const char *start = in->at;
  if (!number(in)) return false;
  size_t length = (size_t)(in->at - start);
  char *copy = claim(NULL, length + 1);
  memcpy(copy, start, length);
  copy[length] = '\0';
  *value = strtod(copy, NULL);
  return isfinite(*value) || fail(in);
}

bool json_null(reader *in) { return word(in, "null"); }

// Moves past a string. Escapes are checked, surrogate pairs are not.
static bool skip_text(reader *in) {
  while (in->at < in->end && *in->at != '"') {
    char next = *in->at++;
    if ((uint8_t)next < 0x20) return fail(in);
    if (next != '\\') continue;
    if (in->at == in->end) return fail(in);
    char escape = *in->at++;
    if (escape == 'u' ? hex4(in) < 0 : escape == '\0' || strchr("\"\\/bfnrt", escape) == NULL) return fail(in);
  }
  if (in->at == in->end) return fail(in);
  in->at++;
  return true;
}

static bool skip(reader *in, int depth) {
  if (in->failed || depth > DEPTH_MAX) return fail(in);
  if (take(in, '"')) return skip_text(in);
  if (take(in, '[')) {
    if (take(in, ']')) return true;
    do {
      if (!skip(in, depth + 1)) return false;
    } while (take(in, ','));
    return take(in, ']') || fail(in);
  }
  if (take(in, '{')) {
    if (take(in, '}')) return true;
    do {
      if (!take(in, '"') || !skip_text(in) || !take(in, ':')) return fail(in);
      if (!skip(in, depth + 1)) return false;
    } while (take(in, ','));
    return take(in, '}') || fail(in);
  }
  if (word(in, "null") || word(in, "true") || word(in, "false")) return true;
  return number(in);
}

void json_skip(reader *in) { skip(in, 0); }

bool json_done(reader *in) {
  if (in->failed) return false;
  spaces(in);
  return in->at == in->end;
}

void put(writer *out, text value) {
  if (out->room - out->length < value.length) {
    out->room = (out->length + value.length) * 2;
    out->at = claim(out->at, out->room);
  }
  if (value.length > 0) memcpy(out->at + out->length, value.at, value.length);
  out->length += value.length;
}

void put_string(writer *out, text value) {
  put(out, text_of("\""));
  for (size_t i = 0; i < value.length; i++) {
    static const char hex[] = "0123456789abcdef", names[] = "\"\\\b\f\n\r\t", letters[] = "\"\\bfnrt";
    char next = value.at[i];
    const char *known = next == '\0' ? NULL : strchr(names, next);
    if (known != NULL) {
      put(out, (text){(char[]){'\\', letters[known - names]}, 2});
    } else if ((uint8_t)next < 0x20) {
      put(out, (text){(char[]){'\\', 'u', '0', '0', hex[next >> 4 & 15], hex[next & 15]}, 6});
    } else {
      put(out, (text){&next, 1});
    }
  }
  put(out, text_of("\""));
}
