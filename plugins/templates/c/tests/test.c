// Native tests: `make test`.
#undef NDEBUG
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "../src/handler.h"

static answer said(const char *data) {
  return handle((event){.id = text_of("event-1"), .type = text_of("hello.said"), .data = text_of(data)});
}

static void a_greeting_is_answered(void) {
  answer one = said("{\"name\": \"Ada\", \"more\": [1, {\"a\": null}]}");
  assert(one.rejected.at == NULL);
  assert(text_is(one.type, "hello.answered"));
  assert(text_is(one.data, "{\"text\":\"Hello, Ada!\"}"));
  assert(text_is(one.subject, "Ada"));
}

static void characters_arrive_as_they_were_sent(void) {
  assert(text_is(said("{\"name\":\"Zo\\u00eb \\ud83d\\ude80 \\\"\\n\"}").data, "{\"text\":\"Hello, Zoë 🚀 \\\"\\n!\"}"));
}

static void what_does_not_fit_is_rejected(void) {
  const char *bad[] = {"",        "[]",           "{}",          "{\"name\":1}", "{\"name\":\"a\"",  "{\"name\":\"a\"}x",
                       "{\"a\":01,\"name\":\"a\"}", "{\"name\":\"\\ud800\"}", "{\"name\":\"\xff\"}", "{\"a\" 1}"};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    answer none = said(bad[i]);
    assert(none.rejected.at != NULL && none.type.at == NULL);
    assert(memcmp(none.rejected.at, "hello.said: ", 12) == 0);
  }
}

int main(void) {
  a_greeting_is_answered();
  characters_arrive_as_they_were_sent();
  what_does_not_fit_is_rejected();
  puts("3 passed, 0 failed");
}
