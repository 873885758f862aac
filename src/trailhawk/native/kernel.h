/* The functions that Python calls, and what they promise.
 *
 * All take hostile input: no length is trusted that was not checked against the buffer it is of, and none
 * keeps a pointer after it returned. They know nothing of Python and may run beside each other in threads.
 * A function that can fail returns one of the codes below; `kernel.py` makes exceptions of them.
 */
#ifndef TRAILHAWK_KERNEL_H
#define TRAILHAWK_KERNEL_H

#include <stddef.h>
#include <stdint.h>

#define KERNEL_API __attribute__((visibility("default")))

enum {
    KERNEL_DONE = 0,
    KERNEL_NO_MEMORY = -1, /* MemoryError */
    KERNEL_BAD_INPUT = -2, /* ValueError: offsets or lengths that cannot be */
};

/* The digest of the sources this object was made of. */
KERNEL_API extern const char kernel_mark[];

/* --- terms.c: the index over the terms of texts, see `lake/terms.py` ------------------------------------ */

enum { TERMS_UNSURE = 1 };

/* The terms of a row group, each once. Not for two threads at once. */
struct terms;

/* An empty set, NULL where there is no memory. `secret` is random, so that nobody can write logs whose terms
 * all come to lie in one place. There may be more terms than are `expected`, which are not moved as they come. */
KERNEL_API struct terms *terms_new(uint64_t secret, int64_t expected);

KERNEL_API void terms_free(struct terms *set);

/* Add the terms of `count` values: value n lies in the `size` bytes of `data` from offsets[n] to
 * offsets[n + 1], so there are count + 1 offsets. It is left out where bit first + n of `valid` is 0, the
 * lowest bit of a byte first; with no byte there all values count. TERMS_UNSURE where a character equals an
 * ASCII letter when case is ignored. After that, and after an error, the set is only to be freed. */
KERNEL_API int terms_add(struct terms *set, const uint8_t *data, int64_t size, const int32_t *offsets,
                         int64_t count, const uint8_t *valid, int64_t valid_bytes, int64_t first);

/* How many hashes there are. */
KERNEL_API int64_t terms_count(const struct terms *set);

/* Write the hashes, in no order; `count` is as many as there are. */
KERNEL_API int terms_take(const struct terms *set, uint64_t *hashes, int64_t count);

/* Set the bits of these hashes in the pages of a filter, page_count * page_bytes zeros. The last four bytes
 * of each page are left for its CRC-32. */
KERNEL_API int terms_fill(const uint64_t *hashes, int64_t count, uint8_t *pages, int64_t page_count,
                          int64_t page_bytes);

/* --- hash.c --------------------------------------------------------------------------------------------- */

/* XXH3 of 64 bits of `rows` texts, which stand between ends[i] and ends[i + 1] of `size` bytes. */
KERNEL_API int text_hashes(const uint8_t *text, int64_t size, const int32_t *ends, int64_t rows, uint64_t *hashes);

/* --- records.c: members of JSON records, and paths in JSON texts, see `native/records.py` --------------- */

/* Zero bytes behind a text: several bytes are read at once, and a walk through damaged text ends there. */
enum { KERNEL_PAD = 64 };

/* What a record is made of. Member i is called by names[name_ends[i]] to names[name_ends[i + 1]], has to be what
 * wants[i] says (see records.c), and is numbered where repeats[i]. The names have KERNEL_PAD bytes behind them;
 * `secret` is random, so that nobody can write logs whose texts all come to lie in one place. */
typedef struct {
    const uint8_t *names;
    const int32_t *name_ends;
    const uint8_t *wants;
    const uint8_t *repeats;
    int32_t members;
    uint64_t secret;
} json_layout;

/* The usual ones of some records, of which there is room for `rows`. Of usual record r: which record it is, its
 * time in microseconds since 1970, the XXH3 of its bytes, and at [member * rows + r] the address of its member and
 * how long it is (0 for none and for null), what it is, and where it repeats the number of its text among those that
 * differ. `firsts` has at [member * rows + number] the first r that has it, and `counts` by member how many differ. */
typedef struct {
    int64_t rows;
    int64_t kept;
    int32_t *records;
    int64_t *times;
    uint64_t *hashes;
    uint64_t *places;
    uint32_t *lengths;
    int32_t *numbers;
    int32_t *firsts;
    uint8_t *forms;
    int32_t *counts;
} json_columns;

/* Reads `rows` records, which stand in `text` between ends[i] and ends[i + 1]. KERNEL_DONE or KERNEL_NO_MEMORY. */
KERNEL_API int json_records(const uint8_t *text, const int64_t *ends, int64_t rows, const json_layout *layout,
                            json_columns *to);

/* Reads a list of records that is the last member of an object; the first record stands at `at`, the object
 * ends `size` bytes into `text`. How many there are, from `starts` to `ends` each; KERNEL_BAD_INPUT where it is
 * anything else, or holds more than there is room for; KERNEL_NO_MEMORY. */
KERNEL_API int64_t json_list(const uint8_t *text, int64_t at, int64_t size, int64_t *starts, int64_t *ends,
                             const json_layout *layout, json_columns *to);

/* Joins what was read of `count` runs of records, of which before[i] come before run i, and numbers anew what
 * repeats. There is room for all rows. KERNEL_DONE, KERNEL_NO_MEMORY, or KERNEL_BAD_INPUT where there is not. */
KERNEL_API int json_joined(const json_layout *layout, const json_columns *parts, const int64_t *before,
                           int64_t count, json_columns *to);

/* What stands at these places, one after the other: what strings stand for, or JSON as it stands there. Bytes
 * written to `bytes`, which has room for all lengths together; the texts' ends in `offsets`, as Arrow has them. */
KERNEL_API int64_t text_gathered(const uint64_t *places, const uint32_t *lengths, const uint8_t *forms,
                                 int64_t rows, int32_t as_json, int32_t *offsets, uint8_t *bytes);

/* Write 1 for each of `values` that one of the codes names. KERNEL_BAD_INPUT for a code beyond them. */
KERNEL_API int codes_used(const int32_t *codes, int64_t rows, int64_t values, uint8_t *used);

/* Whether an object in one of these valid values, nothing for length 0, may have two members of one name. */
KERNEL_API void json_doubled(const uint64_t *places, const uint32_t *lengths, int64_t rows, uint8_t *doubled);

/* Where paths end in valid JSON without blanks outside of strings, between ends[i] and ends[i + 1] of `text`.
 *
 * Path i are the names from path_ends[i] to path_ends[i + 1], each between two of step_ends of `steps`; there
 * are at most 64. Of text r and path i at [i * rows + r]: the address of the value, its length, and what it is
 * (0 for nothing and for null). doubts[r]: a value may be printed otherwise than it stands there. */
KERNEL_API void json_paths(const uint8_t *text, const int32_t *ends, int64_t rows, const uint8_t *steps,
                           const int32_t *step_ends, const int32_t *path_ends, int32_t paths, uint64_t *places,
                           uint32_t *lengths, uint8_t *forms, uint8_t *doubts);

#endif
