// The bridge between the generated interface (bindings/) and the handler.
#include <stdlib.h>

#include "handler.h"
#include "plugin.h"

// Replaces an object file with the type of the interface, which `trunkline wrap` adds by itself.
void __component_type_object_force_link_plugin(void) {}

static text lift(plugin_string_t from) { return (text){(const char *)from.ptr, from.len}; }

static text lift_option(plugin_option_string_t from) { return from.is_some ? lift(from.val) : (text){0}; }

static plugin_string_t lower(text from) { return (plugin_string_t){(uint8_t *)from.at, from.length}; }

// The generated code frees the parts of an answer, so an answer never points at constants.
static plugin_string_t lower_copy(text from) {
  writer out = {0};
  put(&out, from);
  return lower((text){out.at, out.length});
}

bool exports_trunkline_plugin_handler_handle(
    exports_trunkline_plugin_handler_event_t *from, exports_trunkline_plugin_handler_list_emission_t *emissions,
    exports_trunkline_plugin_handler_failure_t *failure) {
  answer said = handle((event){
      .id = lift(from->id),
      .type = lift(from->type),
      .time = lift_option(from->time),
      .tenant = lift_option(from->tenant),
      .user = lift_option(from->user),
      .data = {(const char *)from->data.ptr, from->data.len},
  });
  if (said.rejected.at != NULL) {
    failure->tag = TRUNKLINE_PLUGIN_TYPES_FAILURE_REJECT;
    failure->val.reject = lower_copy(said.rejected);
    return false;
  }
  *emissions = (exports_trunkline_plugin_handler_list_emission_t){0};
  if (said.type.at == NULL) return true;
  exports_trunkline_plugin_handler_emission_t *emission = calloc(1, sizeof *emission);
  if (emission == NULL) abort();
  plugin_string_t data = lower_copy(said.data);
  emission->type = lower_copy(said.type);
  emission->data.ptr = data.ptr;
  emission->data.len = data.len;
  emission->subject.is_some = said.subject.at != NULL;
  if (emission->subject.is_some) emission->subject.val = lower_copy(said.subject);
  *emissions = (exports_trunkline_plugin_handler_list_emission_t){.ptr = emission, .len = 1};
  return true;
}

static plugin_list_string_t one(const char *from) {
  plugin_list_string_t list = {.ptr = calloc(1, sizeof(plugin_string_t)), .len = 1};
  if (list.ptr == NULL) abort();
  list.ptr[0] = lower_copy(text_of(from));
  return list;
}

void exports_trunkline_plugin_metadata_describe(exports_trunkline_plugin_metadata_descriptor_t *out) {
  out->name = lower_copy(text_of("{{name}}"));
  out->version = lower_copy(text_of("0.1.0"));
  out->description = lower_copy(text_of(ABOUT.description));
  out->takes = one(ABOUT.takes);
  out->emits = one(ABOUT.emits);
}
