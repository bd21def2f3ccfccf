// The component that ../wit/greeter.wit describes. wit-bindgen makes greeter_component.h of it. What a
// function is given is its own to free; the bindings free what it returns.
#include "greeter_component.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef greeter_component_string_t string;
typedef exports_sandgrain_examples_greeter_options_t options;
typedef exports_sandgrain_examples_greeter_greet_error_t greet_error;
typedef exports_sandgrain_examples_greeter_summary_t summary;
typedef exports_sandgrain_examples_greeter_item_t item;
typedef exports_sandgrain_examples_greeter_list_item_t items;
typedef exports_sandgrain_examples_greeter_order_t order;

enum { MOST = 5 };

static void *allocate(size_t size) {
  void *memory = malloc(size);
  if (memory == NULL && size != 0) {
    abort();
  }
  return memory;
}

static char *append(char *at, const void *text, size_t length) {
  memcpy(at, text, length);
  return at + length;
}

bool exports_sandgrain_examples_greeter_greet(string *name, options *wanted, string *ret, greet_error *err) {
  uint32_t times = wanted->times.is_some ? wanted->times.val : 1;
  if (name->len == 0) {
    err->tag = EXPORTS_SANDGRAIN_EXAMPLES_GREETER_GREET_ERROR_EMPTY_NAME;
    return false;
  }
  if (times > MOST) {
    err->tag = EXPORTS_SANDGRAIN_EXAMPLES_GREETER_GREET_ERROR_TOO_MANY;
    err->val.too_many = MOST;
    greeter_component_string_free(name);
    return false;
  }

  string key, greeting;
  greeter_component_string_set(&key, "greeting");
  if (!sandgrain_examples_host_lookup(&key, &greeting)) {
    greeter_component_string_dup(&greeting, "Hello");
  }

  size_t once = greeting.len + 2 + name->len + 1;
  ret->len = times == 0 ? 0 : times * (once + 1) - 1;
  ret->ptr = allocate(ret->len);
  char *at = (char *)ret->ptr;
  for (uint32_t i = 0; i < times; i++) {
    if (i != 0) {
      at = append(at, " ", 1);
    }
    at = append(at, greeting.ptr, greeting.len);
    at = append(at, ", ", 2);
    at = append(at, name->ptr, name->len);
    at = append(at, wanted->loud ? "!" : ".", 1);
  }
  for (size_t i = 0; wanted->loud && i < ret->len; i++) {
    // Only ASCII letters: the languages differ in what they know of others.
    if (ret->ptr[i] >= 'a' && ret->ptr[i] <= 'z') {
      ret->ptr[i] -= 'a' - 'A';
    }
  }

  string line = {.len = strlen("greeted ") + name->len};
  line.ptr = allocate(line.len);
  append(append((char *)line.ptr, "greeted ", 8), name->ptr, name->len);
  sandgrain_examples_host_log(&line);
  greeter_component_string_free(&line);
  greeter_component_string_free(&greeting);
  greeter_component_string_free(name);
  return true;
}

bool exports_sandgrain_examples_greeter_statistics(greeter_component_list_f64_t *numbers, summary *ret) {
  if (numbers->len == 0) {
    return false;
  }
  *ret = (summary){.count = numbers->len, .smallest = numbers->ptr[0], .largest = numbers->ptr[0]};
  for (size_t i = 0; i < numbers->len; i++) {
    double number = numbers->ptr[i];
    ret->sum += number;
    ret->smallest = number < ret->smallest ? number : ret->smallest;
    ret->largest = number > ret->largest ? number : ret->largest;
  }
  ret->mean = ret->sum / numbers->len;
  greeter_component_list_f64_free(numbers);
  return true;
}

uint32_t exports_sandgrain_examples_greeter_checksum(greeter_component_list_u8_t *bytes) {
  uint32_t hash = 0x811c9dc5;
  for (size_t i = 0; i < bytes->len; i++) {
    hash = (hash ^ bytes->ptr[i]) * 0x01000193;
  }
  greeter_component_list_u8_free(bytes);
  return hash & 0x7fffffff;
}

static bool is_after(const item *a, const item *b, order by) {
  if (by == EXPORTS_SANDGRAIN_EXAMPLES_GREETER_ORDER_BY_PRICE) {
    return a->price > b->price;
  }
  size_t common = a->name.len < b->name.len ? a->name.len : b->name.len;
  int compared = memcmp(a->name.ptr, b->name.ptr, common);
  return compared > 0 || (compared == 0 && a->name.len > b->name.len);
}

// By insertion: qsort may exchange equals.
void exports_sandgrain_examples_greeter_sort(items *list, order by, items *ret) {
  for (size_t i = 1; i < list->len; i++) {
    item moving = list->ptr[i];
    size_t at = i;
    for (; at > 0 && is_after(&list->ptr[at - 1], &moving, by); at--) {
      list->ptr[at] = list->ptr[at - 1];
    }
    list->ptr[at] = moving;
  }
  *ret = *list;
}

void exports_sandgrain_examples_greeter_total(items *list,
                                              exports_sandgrain_examples_greeter_tuple2_s64_marks_t *ret) {
  uint64_t sum = 0;
  ret->f1 = 0;
  for (size_t i = 0; i < list->len; i++) {
    sum += (uint64_t)list->ptr[i].price;
    ret->f1 |= list->ptr[i].marks;
  }
  ret->f0 = (int64_t)sum;
  exports_sandgrain_examples_greeter_list_item_free(list);
}

bool exports_sandgrain_examples_greeter_divide(int64_t dividend, int64_t divisor,
                                               greeter_component_tuple2_s64_s64_t *ret, string *err) {
  if (divisor == 0) {
    char text[64];
    snprintf(text, sizeof text, "%" PRId64 " divided by zero", dividend);
    greeter_component_string_dup(err, text);
    return false;
  }
  if (divisor == -1) {
    // The smallest number has no positive one to match, and would trap.
    *ret = (greeter_component_tuple2_s64_s64_t){(int64_t)(0 - (uint64_t)dividend), 0};
    return true;
  }
  *ret = (greeter_component_tuple2_s64_s64_t){dividend / divisor, dividend % divisor};
  return true;
}
