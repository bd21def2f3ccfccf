// Sorts the numbers of a file and writes them to another: stdio, files in preopened directories,
// arguments, the environment, malloc and qsort, and an exit code of the caller's choice.
//
//     sortfile INPUT OUTPUT [EXIT-CODE]

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int by_value(const void *left, const void *right) {
  long a = *(const long *)left, b = *(const long *)right;
  return (a > b) - (a < b);
}

int main(int argc, char **argv) {
  if (argc < 3) {
    fprintf(stderr, "usage: sortfile INPUT OUTPUT [EXIT-CODE]\n");
    return 2;
  }
  const char *greeting = getenv("GREETING");
  printf("%s: %d arguments\n", greeting ? greeting : "no GREETING in the environment", argc - 1);

  FILE *in = fopen(argv[1], "r");
  if (!in) {
    fprintf(stderr, "%s: %s\n", argv[1], strerror(errno));
    return 3;
  }
  size_t count = 0, room = 0;
  long *numbers = NULL, number, sum = 0;
  while (fscanf(in, "%ld", &number) == 1) {
    if (count == room) {
      room = room ? room * 2 : 4;
      long *grown = realloc(numbers, room * sizeof *numbers);
      if (!grown) {
        fprintf(stderr, "out of memory after %zu numbers\n", count);
        return 4;
      }
      numbers = grown;
    }
    numbers[count++] = number;
    sum += number;
  }
  fclose(in);

  qsort(numbers, count, sizeof *numbers, by_value);

  FILE *out = fopen(argv[2], "w");
  if (!out) {
    fprintf(stderr, "%s: %s\n", argv[2], strerror(errno));
    return 5;
  }
  for (size_t i = 0; i < count; i++)
    fprintf(out, "%ld\n", numbers[i]);
  if (fclose(out) != 0) {
    fprintf(stderr, "%s: %s\n", argv[2], strerror(errno));
    return 6;
  }

  // Read back what was written, so that the output shows that it got there.
  FILE *again = fopen(argv[2], "r");
  if (!again) {
    fprintf(stderr, "%s: %s\n", argv[2], strerror(errno));
    return 7;
  }
  char line[64];
  while (fgets(line, sizeof line, again))
    printf("%s", line);
  fclose(again);

  printf("%zu numbers, sum %ld, mean %.3f\n", count, sum, count ? (double)sum / (double)count : 0.0);
  free(numbers);
  return argc > 3 ? atoi(argv[3]) : 0;
}
