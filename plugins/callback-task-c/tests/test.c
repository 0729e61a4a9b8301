// Native tests: `make test`.
#undef NDEBUG
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "../src/handler.h"

static answer at(const char *data, const char *time) {
  return handle((event){.id = text_of("event-1"),
                        .type = text_of("call.ended"),
                        .time = time == NULL ? (text){0} : text_of(time),
                        .tenant = text_of("org-1"),
                        .data = text_of(data)});
}

static answer ended(const char *data) { return at(data, "2026-11-21T10:00:00Z"); }

static bool has(text where, const char *what) {
  for (size_t i = 0; i + strlen(what) <= where.length; i++)
    if (memcmp(where.at + i, what, strlen(what)) == 0) return true;
  return false;
}

static void only_a_requested_callback_makes_a_task(void) {
  const char *others[] = {"completed", "voicemail", "failed"};
  for (size_t i = 0; i < 3; i++) {
    char data[128];
    snprintf(data, sizeof data, "{\"call_id\":\"c-1\",\"duration\":1,\"outcome\":\"%s\"}", others[i]);
    answer none = ended(data);
    assert(none.type.at == NULL && none.rejected.at == NULL);
  }
  answer one = ended("{\"call_id\":\"c-1\",\"duration\":1,\"outcome\":\"callback_requested\",\"transcript\":\"\\\"hi\\\"\"}");
  assert(text_is(one.type, "planning.task.created") && text_is(one.subject, "c-1"));
  assert(has(one.data, "\"due_date\":\"2026-11-22\"") && has(one.data, "\"organization_id\":\"org-1\",\"user_id\":null"));
  assert(has(one.data, "back.\\n\\nTranscript:\\n\\\"hi\\\"\""));
}

static void what_does_not_fit_is_rejected_by_name(void) {
  const char *cases[][2] = {
      {"{\"duration\":1,\"outcome\":\"completed\"}", "call_id"},
      {"{\"call_id\":\"c\",\"outcome\":\"completed\"}", "duration"},
      {"{\"call_id\":\"c\",\"duration\":-1,\"outcome\":\"completed\"}", "duration"},
      {"{\"call_id\":\"c\",\"duration\":1e999,\"outcome\":\"completed\"}", "duration"},
      {"{\"call_id\":\"c\",\"duration\":1,\"outcome\":\"lost\"}", "lost"},
      {"{\"call_id\":\"c\",\"call_id\":\"d\",\"duration\":1,\"outcome\":\"completed\"}", "duplicate"},
      {"[]", "object"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) assert(has(ended(cases[i][0]).rejected, cases[i][1]));
}

static void tomorrow_by_the_calendar(void) {
  const char *data = "{\"call_id\":\"c\",\"duration\":1,\"outcome\":\"callback_requested\"}";
  assert(has(at(data, "2026-12-31T12:00:00Z").data, "2027-01-01"));
  assert(has(at(data, "2028-02-28T12:00:00Z").data, "2028-02-29"));
  assert(has(at(data, "2100-02-28T12:00:00Z").data, "2100-03-01"));
  assert(at(data, "2026-02-30T12:00:00Z").rejected.at != NULL);
  assert(at(data, "2026-11-21").rejected.at != NULL);
  assert(at(data, NULL).rejected.at != NULL);
}

int main(void) {
  only_a_requested_callback_makes_a_task();
  what_does_not_fit_is_rejected_by_name();
  tomorrow_by_the_calendar();
  puts("3 passed, 0 failed");
}
