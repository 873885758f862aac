/* The terms of a row group, each once, as hashes; and the pages of a filter that holds them.
 *
 * What a term is, how it is hashed and where its bits lie is said in `lake/terms.py`, whose road in Python
 * gives the same. Here a value is read once: 64 bytes at a time become a mask of what is in a term, the edges
 * of the mask are the edges of terms.
 */
#include "kernel.h"

#include <stdlib.h>
#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#define C1 UINT64_C(0x9E3779B97F4A7C15)
#define C2 UINT64_C(0xBF58476D1CE4E5B9)
#define C3 UINT64_C(0x94D049BB133111EB)
#define LOWER UINT64_C(0x2020202020202020) /* of eight letters and digits; a digit stays the same */

enum { BLOCK = 64, SHORT = 4, NEIGHBOURS = 4, PROBES = 8, CRC_BYTES = 4, WAITING = 64, RECENT = 2048 };
enum { FIRST_SHIFT = 54, LEAST_SHIFT = 42 }; /* of a new table: a thousand slots, four million */

/* An open-addressing table that is never more than half full. */
struct terms {
    uint64_t *slots; /* 0 is a free one */
    size_t capacity; /* 2 to the power of 64 - shift */
    unsigned shift;
    size_t used;
    /* Odd and secret: who writes logs can find terms whose hashes are alike, but not where they will lie. */
    uint64_t multiplier;
    int has_zero; /* the hash 0 is one of them */
    /* Not in their slots yet, which are being fetched: the table does not fit into the processor's cache. */
    uint64_t waiting[WAITING];
    size_t waiting_count;
    /* What was met last, by its lowest bits: most terms come again soon, and the slots are far. */
    uint64_t recent[RECENT];
};

struct text {
    const uint8_t *data;
    size_t size;
};

/* Where a term lies in a text; `end` is behind it. */
struct span {
    size_t start;
    size_t end;
};

/* The last terms of a value, as far as they are short and parted by one byte. */
struct neighbours {
    uint64_t hashes[NEIGHBOURS];
    uint64_t separators[NEIGHBOURS]; /* the byte before each */
    size_t count;
    size_t end; /* of the last one */
};

/* --- the table ------------------------------------------------------------------------------------------ */

static size_t slot_of(const struct terms *set, uint64_t hash)
{
    return (size_t)((hash * set->multiplier) >> set->shift);
}

static void put(struct terms *set, uint64_t hash)
{
    size_t slot = slot_of(set, hash);
    if (hash == 0) {
        set->has_zero = 1;
        return;
    }
    while (set->slots[slot] != 0) {
        if (set->slots[slot] == hash)
            return;
        slot = (slot + 1) & (set->capacity - 1);
    }
    set->slots[slot] = hash;
    set->used++;
}

static int grow(struct terms *set)
{
    struct terms larger = *set;
    if (set->capacity > SIZE_MAX / 2)
        return KERNEL_NO_MEMORY;
    larger.capacity = 2 * set->capacity;
    larger.shift = set->shift - 1;
    larger.used = 0;
    larger.slots = calloc(larger.capacity, sizeof *larger.slots);
    if (larger.slots == NULL)
        return KERNEL_NO_MEMORY;
    for (size_t slot = 0; slot < set->capacity; slot++)
        if (set->slots[slot] != 0)
            put(&larger, set->slots[slot]);
    free(set->slots);
    *set = larger;
    return KERNEL_DONE;
}

static int settle(struct terms *set)
{
    if (set->used + set->waiting_count > set->capacity / 2 && grow(set) != KERNEL_DONE)
        return KERNEL_NO_MEMORY;
    for (size_t place = 0; place < set->waiting_count; place++)
        put(set, set->waiting[place]);
    set->waiting_count = 0;
    return KERNEL_DONE;
}

static int insert(struct terms *set, uint64_t hash)
{
    uint64_t *recent = &set->recent[hash % RECENT];
    if (*recent == hash && hash != 0)
        return KERNEL_DONE;
    *recent = hash;
    if (set->waiting_count == WAITING && settle(set) != KERNEL_DONE)
        return KERNEL_NO_MEMORY;
    __builtin_prefetch(&set->slots[slot_of(set, hash)], 1);
    set->waiting[set->waiting_count++] = hash;
    return KERNEL_DONE;
}

struct terms *terms_new(uint64_t secret, int64_t expected)
{
    unsigned shift = FIRST_SHIFT;
    struct terms *set = calloc(1, sizeof *set);
    if (set == NULL)
        return NULL;
    while (shift > LEAST_SHIFT && expected > (INT64_C(1) << (63 - shift)))
        shift--;
    set->capacity = (size_t)1 << (64 - shift);
    set->shift = shift;
    set->multiplier = secret | 1;
    set->slots = calloc(set->capacity, sizeof *set->slots);
    if (set->slots == NULL) {
        free(set);
        return NULL;
    }
    return set;
}

void terms_free(struct terms *set)
{
    free(set->slots);
    free(set);
}

int64_t terms_count(const struct terms *set)
{
    return (int64_t)set->used + set->has_zero;
}

int terms_take(const struct terms *set, uint64_t *hashes, int64_t count)
{
    size_t taken = 0;
    if (count != terms_count(set))
        return KERNEL_BAD_INPUT;
    if (set->has_zero)
        hashes[taken++] = 0;
    /* Whether a slot is free cannot be foreseen: what stands there is written in any case. */
    for (size_t slot = 0; taken < (size_t)count; slot++) {
        hashes[taken] = set->slots[slot];
        taken += set->slots[slot] != 0;
    }
    return KERNEL_DONE;
}

/* --- hashes --------------------------------------------------------------------------------------------- */

static uint64_t mixed(uint64_t value)
{
    value = (value ^ (value >> 30)) * C2;
    value = (value ^ (value >> 27)) * C3;
    return value ^ (value >> 31);
}

/* Up to eight bytes of a term as a number in lower case, the first one lowest. */
static uint64_t word(const uint8_t *at, size_t count)
{
    uint64_t read = 0;
    memcpy(&read, at, count);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    read = __builtin_bswap64(read);
#endif
    return read | LOWER;
}

static uint64_t read_on(uint64_t key, const uint8_t *at)
{
    return ((key ^ (key >> 29)) * C2) ^ word(at, 8);
}

static uint64_t first_word(const struct text *text, size_t start, size_t length)
{
    const uint8_t *at = text->data + start;
    if (length >= 8)
        return word(at, 8);
    /* What stands behind the term is read with it and taken off: to copy eight bytes is one instruction. */
    uint64_t read = text->size - start >= 8 ? word(at, 8) : word(at, length);
    return read & ((UINT64_C(1) << (8 * length)) - 1);
}

static uint64_t term_hash(const struct text *text, struct span term)
{
    const uint8_t *first = text->data + term.start, *last = text->data + term.end;
    size_t length = term.end - term.start;
    uint64_t key = (length * C1) ^ first_word(text, term.start, length);
    if (length > 8)
        key = read_on(key, last - 8);
    if (length > 16)
        key = read_on(key, first + 8);
    if (length > 24)
        key = read_on(key, first + 16);
    if (length > 32) {
        key = read_on(key, first + 24);
        key = read_on(key, last - 16);
        key = read_on(key, last - 24);
        key = read_on(key, last - 32);
    }
    return mixed(key);
}

/* --- reading a value ------------------------------------------------------------------------------------ */

/* Which of 64 bytes are in a term, and which are not ASCII; the first byte is the lowest bit. */
#ifdef __SSE2__
static uint64_t quarter(const uint8_t *at, uint64_t *strange)
{
    __m128i bytes = _mm_loadu_si128((const __m128i *)at);
    __m128i letter = _mm_sub_epi8(_mm_or_si128(bytes, _mm_set1_epi8(0x20)), _mm_set1_epi8('a'));
    __m128i digit = _mm_sub_epi8(bytes, _mm_set1_epi8('0'));
    __m128i letters = _mm_cmpeq_epi8(_mm_min_epu8(letter, _mm_set1_epi8(25)), letter);
    __m128i digits = _mm_cmpeq_epi8(_mm_min_epu8(digit, _mm_set1_epi8(9)), digit);
    *strange = (uint64_t)_mm_movemask_epi8(bytes);
    return (uint64_t)_mm_movemask_epi8(_mm_or_si128(letters, digits));
}

static uint64_t in_terms(const uint8_t *block, uint64_t *strange)
{
    uint64_t inside = 0;
    *strange = 0;
    for (int place = 0; place < BLOCK; place += 16) {
        uint64_t more;
        inside |= quarter(block + place, &more) << place;
        *strange |= more << place;
    }
    return inside;
}
#else
static uint64_t in_terms(const uint8_t *block, uint64_t *strange)
{
    uint64_t inside = 0;
    *strange = 0;
    for (int place = 0; place < BLOCK; place++) {
        uint8_t letter = (uint8_t)((block[place] | 0x20) - 'a'), digit = (uint8_t)(block[place] - '0');
        inside |= (uint64_t)(letter < 26 || digit < 10) << place;
        *strange |= (uint64_t)(block[place] >> 7) << place;
    }
    return inside;
}
#endif

/* Is there a character, from `start` on, that equals an ASCII letter when case is ignored? It may go on
 * behind `stop`, where the value does. */
static int folds_to_ascii(const struct text *text, size_t start, size_t stop, size_t end)
{
    for (size_t at = start; at < stop; at++) {
        const uint8_t *bytes = text->data + at;
        size_t left = end - at;
        if (left >= 2 && ((bytes[0] == 0xC4 && bytes[1] == 0xB0) || (bytes[0] == 0xC5 && bytes[1] == 0xBF)))
            return 1;
        if (left >= 3 && bytes[0] == 0xE2 && bytes[1] == 0x84 && bytes[2] == 0xAA)
            return 1;
    }
    return 0;
}

static void remember(struct neighbours *last, const struct text *text, struct span term, uint64_t hash)
{
    if (last->count != 0 && term.start - last->end != 1)
        last->count = 0;
    size_t place = last->count % NEIGHBOURS;
    last->hashes[place] = hash;
    last->separators[place] = last->count != 0 ? text->data[last->end] : 0;
    last->count++;
    last->end = term.end;
}

/* The hash of the last four neighbours, by their hashes and what parts them. */
static uint64_t joined(const struct neighbours *last)
{
    uint64_t hash = last->hashes[last->count % NEIGHBOURS];
    for (size_t next = 1; next < NEIGHBOURS; next++) {
        size_t place = (last->count + next) % NEIGHBOURS;
        hash = mixed(hash * C1 + last->hashes[place] + last->separators[place]);
    }
    return hash;
}

static int add_term(struct terms *set, struct neighbours *last, const struct text *text, struct span term)
{
    uint64_t hash = term_hash(text, term);
    if (term.end - term.start > SHORT) {
        last->count = 0;
        return insert(set, hash);
    }
    remember(last, text, term, hash);
    if (last->count >= NEIGHBOURS && insert(set, joined(last)) != KERNEL_DONE)
        return KERNEL_NO_MEMORY;
    return insert(set, hash);
}

/* Values are apart: neither a term nor neighbours go on from one into the next. */
static int add_value(struct terms *set, const struct text *text, size_t from, size_t end)
{
    struct neighbours last = {.count = 0};
    struct span term = {from, from};
    uint64_t open = 0; /* 1 while the end of the term is to be found */
    for (size_t at = from; at < end; at += BLOCK) {
        uint8_t copied[BLOCK];
        const uint8_t *block = text->data + at;
        if (text->size - at < BLOCK) {
            memset(copied, 0, BLOCK);
            block = memcpy(copied, block, text->size - at);
        }
        size_t count = end - at < BLOCK ? end - at : BLOCK;
        uint64_t here = count < BLOCK ? (UINT64_C(1) << count) - 1 : UINT64_MAX;
        uint64_t strange;
        uint64_t inside = in_terms(block, &strange) & here;
        if ((strange & here) != 0 && folds_to_ascii(text, at, at + count, end))
            return TERMS_UNSURE;
        for (uint64_t edges = inside ^ (inside << 1 | open); edges != 0; edges &= edges - 1) {
            size_t edge = at + (size_t)__builtin_ctzll(edges);
            if (!open) {
                term.start = edge;
            } else {
                term.end = edge;
                if (add_term(set, &last, text, term) != KERNEL_DONE)
                    return KERNEL_NO_MEMORY;
            }
            open = !open;
        }
    }
    term.end = end;
    return open ? add_term(set, &last, text, term) : KERNEL_DONE;
}

int terms_add(struct terms *set, const uint8_t *data, int64_t size, const int32_t *offsets, int64_t count,
              const uint8_t *valid, int64_t valid_bytes, int64_t first)
{
    if (size < 0 || count < 0 || first < 0 || valid_bytes < 0)
        return KERNEL_BAD_INPUT;
    if (valid_bytes > INT64_MAX / 8 || (valid_bytes != 0 && first > 8 * valid_bytes - count))
        return KERNEL_BAD_INPUT;
    const struct text text = {data, (size_t)size};
    for (int64_t place = 0; place < count; place++) {
        int32_t start = offsets[place], end = offsets[place + 1];
        if (start < 0 || end < start || end > size)
            return KERNEL_BAD_INPUT;
        if (valid_bytes != 0 && !(valid[(first + place) / 8] >> ((first + place) % 8) & 1))
            continue;
        int status = add_value(set, &text, (size_t)start, (size_t)end);
        if (status != KERNEL_DONE)
            return status;
    }
    return settle(set);
}

/* --- filters -------------------------------------------------------------------------------------------- */

/* A number that others are divided by, and 2^64 through it: a division takes as long as ten products. */
struct divisor {
    uint64_t by;
    uint64_t inverse;
};

static struct divisor divisor_of(uint64_t by)
{
    return (struct divisor){by, UINT64_MAX / by};
}

static uint64_t remainder_of(uint64_t value, const struct divisor *divisor)
{
#ifdef __SIZEOF_INT128__
    /* The quotient is right or one too small, since `inverse` is at most one below 2^64 / by. */
    uint64_t quotient = (uint64_t)(((unsigned __int128)value * divisor->inverse) >> 64);
    uint64_t left = value - quotient * divisor->by;
    return left >= divisor->by ? left - divisor->by : left;
#else
    return value % divisor->by;
#endif
}

int terms_fill(const uint64_t *hashes, int64_t count, uint8_t *pages, int64_t page_count, int64_t page_bytes)
{
    if (count < 0 || page_count < 1 || page_bytes <= CRC_BYTES || page_bytes > INT64_MAX / 8)
        return KERNEL_BAD_INPUT;
    const struct divisor width = divisor_of(8 * (uint64_t)(page_bytes - CRC_BYTES));
    const struct divisor places = divisor_of((uint64_t)page_count);
    for (int64_t term = 0; term < count; term++) {
        uint64_t hash = hashes[term], step = (hash >> 20) | 1;
        uint64_t bit = remainder_of(hash, &width), bits = remainder_of(step, &width);
        uint8_t *page = pages + remainder_of(hash >> 40, &places) * (uint64_t)page_bytes;
        for (uint64_t probe = 1;; probe++) {
            page[bit >> 3] |= (uint8_t)(128 >> (bit & 7));
            if (probe == PROBES)
                break;
            if (hash + probe * step < hash) /* beyond 64 bits a sum begins at 0 again, as everywhere */
                bit = remainder_of(hash + probe * step, &width);
            else
                bit = bit + bits < width.by ? bit + bits : bit + bits - width.by;
        }
    }
    return KERNEL_DONE;
}
