/* What the played driver (the NVML stub) and the played CUDA runtime know of each other.

   The scenario file, named by NVML_STUB, says which GPUs there are. Beside it lies the ledger, "<scenario>.ledger":
   who of the processes that run for real holds how much of which GPU. Both sides count with it, so that NVML, CUDA
   and a second process tell one story. The rows of a process that has ended count no more. */

#ifndef LEDGER_H
#define LEDGER_H

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <unistd.h>

typedef struct { char uuid[96], name[96]; unsigned long long capacity, taken, context; int parent, gpu, mig; } played_gpu;

/* The row of the scenario at that place, whatever the scenario says of NVML's own calls; 0 where there is none.
   `taken` is what the scenario itself gives away; `context` what a process takes by using the GPU at all. */
int played_row(int place, played_gpu *row);

enum { LEDGER_ROWS = 512 };
typedef struct { unsigned pid, place; unsigned long long born, held; } ledger_row;

/* When a process began, in clock ticks since the machine did; 0 where it has ended, also if nobody has asked for its
   exit status yet. Source: proc(5), /proc/pid/stat: the fields 3 and 22. */
static unsigned long long ledger_born(unsigned pid) {
  char path[64], text[1024];
  unsigned long long born = 0;
  snprintf(path, sizeof path, "/proc/%u/stat", pid);
  int file = open(path, O_RDONLY | O_CLOEXEC);
  ssize_t length = file < 0 ? -1 : read(file, text, sizeof text - 1);
  if (file >= 0) close(file);
  if (length <= 0) return 0;
  text[length] = 0;
  char *rest = strrchr(text, ')'); /* a program's name may hold blanks and brackets */
  if (!rest || rest[2] == 'Z' || rest[2] == 'X') return 0;
  rest += 2;
  for (int field = 3; field < 22 && rest; field++) rest = strchr(rest + 1, ' ');
  if (rest) sscanf(rest, "%llu", &born);
  return born;
}

/* The rows, shared between all processes that play this scenario; NULL where there is no ledger and none is made. */
static ledger_row *ledger_open(int make, int *file) {
  static ledger_row *rows;
  static int opened = -1;
  char path[4096];
  const char *scenario = getenv("NVML_STUB");
  if (!rows && scenario) {
    snprintf(path, sizeof path, "%s.ledger", scenario);
    opened = open(path, O_RDWR | O_CLOEXEC | (make ? O_CREAT : 0), 0600);
    if (opened >= 0 && (!make || !ftruncate(opened, LEDGER_ROWS * sizeof(ledger_row))) &&
        lseek(opened, 0, SEEK_END) >= (off_t)(LEDGER_ROWS * sizeof(ledger_row))) {
      rows = mmap(NULL, LEDGER_ROWS * sizeof(ledger_row), PROT_READ | PROT_WRITE, MAP_SHARED, opened, 0);
      if (rows == MAP_FAILED) rows = NULL;
    }
    if (!rows && opened >= 0) close(opened), opened = -1;
  }
  if (file) *file = opened;
  return rows;
}

static int ledger_counts(const ledger_row *row) { return row->pid && row->born && ledger_born(row->pid) == row->born; }

#endif
