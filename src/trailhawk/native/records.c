/* JSON records to columns: where the members of each record stand, and what stands there as text.
 *
 * Records come one after the other in one buffer with KERNEL_PAD zero bytes behind the last. A zero byte stands
 * nowhere in valid JSON, so a walk through damaged text ends at the padding at the latest, and what ends
 * beyond its own record is refused. Whoever calls gives arrays of the sizes that are named here.
 *
 * Only usual JSON is taken: what is damaged, nested deeply, or has a half of a surrogate pair is for the
 * careful road, which says what is wrong with it.
 */

#include "hash.h"

#include <stdlib.h>
#include <string.h>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

typedef const uint8_t *Text;

enum { /* what a member is; 0 where a record does not have it */
    IS_ABSENT = 0,
    IS_NULL,
    IS_FALSE,
    IS_TRUE,
    IS_NUMBER,
    IS_TEXT,
    IS_LIST,
    IS_OBJECT,
    IS_MASK = 0x0f,
};

enum { /* what was met on the way */
    MET_ESCAPE = 0x10,
    MET_UNTIDY = 0x20, /* a blank outside of strings, or an escape that need not be */
    MET_HIGH = 0x40,   /* a byte beyond ASCII */
    MET_CODE = 0x80,   /* an escape by number */
};

enum { /* what a member has to be */
    WANT_TIME,
    WANT_TEXT, /* or null */
    WANT_FLAG, /* or null */
    WANT_ANY,
};

enum { LONG = 32, DEEPEST = 64, MOST_PATHS = 64, MOST_NAMES = 64, LEVELS = 4 };

/* What a double holds for certain: 200 digits and two of an exponent; and what is printed as it stands. */
enum { DIGITS_OF_NUMBER = 200, DIGITS_OF_EXPONENT = 2, DIGITS_OF_WHOLE = 18, DIGITS_OF_REAL = 15 };

/* --- words -----------------------------------------------------------------------------------------------
 *
 * Texts are compared and hashed eight bytes at a time, the last ones with what follows them: a text has
 * KERNEL_PAD bytes behind it. */

static inline uint64_t word_at(Text at)
{
    uint64_t word;
    memcpy(&word, at, sizeof word);
    return word;
}

/* The first `length` bytes of a word, fewer than eight. */
static inline uint64_t start_of(uint64_t word, uint32_t length)
{
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    return word & ((UINT64_C(1) << 8 * length) - 1);
#else
    return length ? word >> (64 - 8 * length) : 0;
#endif
}

/* What stands at a place; 0 is the place of nothing. */
static inline Text text_at(uint64_t place)
{
    static const uint8_t nothing[KERNEL_PAD];
    return place ? (Text)(uintptr_t)place : nothing;
}

static inline int is_same(Text one, Text other, uint32_t length)
{
    if (length > LONG)
        return !memcmp(one, other, length);
    for (; length >= 8; one += 8, other += 8, length -= 8)
        if (word_at(one) != word_at(other))
            return 0;
    return start_of(word_at(one) ^ word_at(other), length) == 0;
}

/* --- walking --------------------------------------------------------------------------------------------- */

static inline Text past_blanks(Text at)
{
    while (*at == ' ' || *at == '\n' || *at == '\r' || *at == '\t')
        at++;
    return at;
}

/* The first byte from `at` on that ends a plain stretch of a string: a quote, a backslash, a control. */
static inline Text past_plain(Text at, unsigned *met)
{
#if defined(__SSE2__)
    const __m128i quote = _mm_set1_epi8('"'), backslash = _mm_set1_epi8('\\'), control = _mm_set1_epi8(0x1f);
    for (;; at += 16) {
        __m128i bytes = _mm_loadu_si128((const __m128i *)at);
        __m128i stops = _mm_or_si128(_mm_cmpeq_epi8(bytes, quote), _mm_cmpeq_epi8(bytes, backslash));
        stops = _mm_or_si128(stops, _mm_cmpeq_epi8(_mm_min_epu8(bytes, control), bytes));
        unsigned high = (unsigned)_mm_movemask_epi8(bytes), found = (unsigned)_mm_movemask_epi8(stops);
        if (found) {
            unsigned plain = (unsigned)__builtin_ctz(found);
            if (high & ((1u << plain) - 1))
                *met |= MET_HIGH;
            return at + plain;
        }
        if (high)
            *met |= MET_HIGH;
    }
#else
    for (; *at != '"' && *at != '\\' && *at >= 0x20; at++)
        if (*at >= 0x80)
            *met |= MET_HIGH;
    return at;
#endif
}

/* Four hexadecimal digits as a number, -1 for anything else. */
static int hexadecimal(Text at)
{
    int code = 0;
    for (int place = 0; place < 4; place++) {
        uint8_t digit = at[place];
        if (digit >= '0' && digit <= '9')
            digit -= '0';
        else if ((digit | 0x20) >= 'a' && (digit | 0x20) <= 'f')
            digit = (uint8_t)((digit | 0x20) - 'a' + 10);
        else
            return -1;
        code = code << 4 | digit;
    }
    return code;
}

/* The character of an escape by number, whose four digits start at `*at`, which goes behind it; -1 for what
 * is none. */
static int32_t escaped_code(Text *at)
{
    int code = hexadecimal(*at);
    if (code < 0)
        return -1;
    *at += 4;
    if (code < 0xD800 || code > 0xDFFF)
        return code;
    if (code > 0xDBFF || (*at)[0] != '\\' || (*at)[1] != 'u')
        return -1;
    int low = hexadecimal(*at + 2);
    if (low < 0xDC00 || low > 0xDFFF)
        return -1;
    *at += 6;
    return 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
}

/* The quote that ends a string, of which all before `at` is plain; NULL for no string. */
static Text escaped_end(Text at, unsigned *met)
{
    for (;; at = past_plain(at, met)) {
        if (*at == '"')
            return at;
        if (*at != '\\')
            return NULL;
        *met |= MET_ESCAPE;
        switch (at[1]) {
        case '/':
            *met |= MET_UNTIDY;
            at += 2;
            break;
        case '"':
        case '\\':
        case 'b':
        case 'f':
        case 'n':
        case 'r':
        case 't':
            at += 2;
            break;
        case 'u':
            *met |= MET_UNTIDY | MET_CODE;
            at += 2;
            if (escaped_code(&at) < 0)
                return NULL;
            break;
        default:
            return NULL;
        }
    }
}

/* The quote that ends the string whose text starts at `at`; NULL for no string. */
static inline Text string_end(Text at, unsigned *met)
{
    at = past_plain(at, met);
    return *at == '"' ? at : escaped_end(at, met);
}

static inline int is_digit(uint8_t byte)
{
    return byte >= '0' && byte <= '9';
}

static Text past_digits(Text at)
{
    while (is_digit(*at))
        at++;
    return at;
}

/* Behind the number at `at`; NULL for no number, and for one that may be beyond all doubles. */
static Text number_end(Text at)
{
    Text begin = at;
    at += *at == '-';
    if (!is_digit(*at))
        return NULL;
    at = *at == '0' ? at + 1 : past_digits(at);
    if (*at == '.') {
        if (!is_digit(at[1]))
            return NULL;
        at = past_digits(at + 1);
    }
    if ((*at | 0x20) == 'e') {
        at += 1 + (at[1] == '+' || at[1] == '-');
        Text exponent = at;
        at = past_digits(at);
        if (at == exponent || at - exponent > DIGITS_OF_EXPONENT)
            return NULL;
    }
    return at - begin > DIGITS_OF_NUMBER ? NULL : at;
}

/* Behind the string, number or word at `at`; NULL for anything else. `met` gets what it is. */
static inline Text simple_end(Text at, unsigned *met)
{
    switch (*at) {
    case '"':
        *met |= IS_TEXT;
        at = string_end(at + 1, met);
        return at ? at + 1 : NULL;
    case 't':
        *met |= IS_TRUE;
        return memcmp(at, "true", 4) ? NULL : at + 4;
    case 'f':
        *met |= IS_FALSE;
        return memcmp(at, "false", 5) ? NULL : at + 5;
    case 'n':
        *met |= IS_NULL;
        return memcmp(at, "null", 4) ? NULL : at + 4;
    default:
        *met |= IS_NUMBER;
        return number_end(at);
    }
}

/* Past blanks inside of a value. */
static inline Text past_untidy(Text at, unsigned *met)
{
    if (*at > ' ')
        return at;
    *met |= MET_UNTIDY;
    return past_blanks(at);
}

/* Behind the name and colon of a member inside of a value; NULL where there is none. */
static inline Text name_end(Text at, unsigned *met)
{
    if (*at != '"' || !(at = string_end(at + 1, met)))
        return NULL;
    at = past_untidy(at + 1, met);
    return *at == ':' ? past_untidy(at + 1, met) : NULL;
}

/* Behind the list or object at `at`; NULL for no JSON, or too much of it in itself. */
static Text nested_end(Text at, Text end, unsigned *met)
{
    uint64_t objects = 0; /* a bit for each level, the lowest for the innermost: whether it is an object */
    int depth = 0;
    for (;;) {
        /* Here a value starts. */
        unsigned here = 0;
        if (at >= end)
            return NULL;
        if (*at == '{' || *at == '[') {
            int is_object = *at == '{';
            if (depth++ == DEEPEST)
                return NULL;
            objects = objects << 1 | (unsigned)is_object;
            at = past_untidy(at + 1, met);
            if (*at != (is_object ? '}' : ']')) {
                if (is_object && !(at = name_end(at, met)))
                    return NULL;
                continue;
            }
        } else {
            if (!(at = simple_end(at, &here)))
                return NULL;
            *met |= here & ~(unsigned)IS_MASK;
            at = past_untidy(at, met);
        }
        /* Here one has ended, or an empty one is about to. */
        for (;;) {
            if (*at == ',') {
                at = past_untidy(at + 1, met);
                if (objects & 1 && !(at = name_end(at, met)))
                    return NULL;
                break;
            }
            if (*at != (objects & 1 ? '}' : ']'))
                return NULL;
            at++;
            objects >>= 1;
            if (--depth == 0)
                return at;
            at = past_untidy(at, met);
        }
    }
}

/* Behind the value at `at`, NULL for none; `met` gets what it is and what it holds. */
static inline Text value_end(Text at, Text end, unsigned *met)
{
    if (*at != '{' && *at != '[')
        return simple_end(at, met);
    *met |= *at == '{' ? IS_OBJECT : IS_LIST;
    return nested_end(at, end, met);
}

/* --- what the text says ---------------------------------------------------------------------------------- */

static int is_utf8(Text at, Text end)
{
    while (at < end) {
        uint8_t lead = *at++;
        if (lead < 0x80)
            continue;
        int more = lead >= 0xF0 ? 3 : lead >= 0xE0 ? 2 : 1;
        if (lead < 0xC2 || lead > 0xF4 || end - at < more)
            return 0;
        if ((lead == 0xE0 && at[0] < 0xA0) || (lead == 0xED && at[0] > 0x9F) || (lead == 0xF0 && at[0] < 0x90)
            || (lead == 0xF4 && at[0] > 0x8F))
            return 0;
        for (; more; more--)
            if ((*at++ & 0xC0) != 0x80)
                return 0;
    }
    return 1;
}

/* The number of `digits` digits at `at`, -1 for anything else. */
static int digits_at(Text at, int digits)
{
    int number = 0;
    for (; digits; digits--, at++) {
        if (!is_digit(*at))
            return -1;
        number = 10 * number + (*at - '0');
    }
    return number;
}

/* Days from 1970-01-01 to a day of the Gregorian calendar from then on. */
static int64_t days_before(int year, int month, int day)
{
    static const int before[] = {0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334};
    int past = year - 1;
    int leaps = past / 4 - past / 100 + past / 400;
    int is_leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    return 365 * ((int64_t)year - 1970) + leaps - 477 + before[month - 1] + (is_leap && month > 2) + day - 1;
}

/* A time like 2026-03-01T09:30:00Z of 1970 to 2200 in microseconds since 1970; -1 for anything else. */
static int64_t time_at(Text at, int64_t length)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    if (length != 20 || at[4] != '-' || at[7] != '-' || at[10] != 'T' || at[13] != ':' || at[16] != ':'
        || at[19] != 'Z')
        return -1;
    int year = digits_at(at, 4), month = digits_at(at + 5, 2), day = digits_at(at + 8, 2);
    int hour = digits_at(at + 11, 2), minute = digits_at(at + 14, 2), second = digits_at(at + 17, 2);
    if (year < 1970 || year > 2200 || month < 1 || month > 12 || day < 1)
        return -1;
    int is_leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    if (day > days[month - 1] + (is_leap && month == 2))
        return -1;
    if (hour < 0 || hour > 23 || minute < 0 || minute > 59 || second < 0 || second > 59)
        return -1;
    return (((days_before(year, month, day) * 24 + hour) * 60 + minute) * 60 + second) * 1000000;
}

/* --- numbering ------------------------------------------------------------------------------------------- */

typedef struct {
    uint32_t number; /* and one more; 0 for a free slot */
    uint32_t hash;
} Slot;

typedef struct { /* the stretches that differ among those of one member, by an open table of their hashes */
    Slot *slots;
    size_t mask;
    uint64_t secret;
    uint32_t count;
} Table;

static uint64_t hash_of(Text at, uint32_t length, uint64_t secret)
{
    uint64_t hash = secret ^ length * UINT64_C(0x9E3779B97F4A7C15);
    if (length > LONG) { /* four sums beside each other, since each step waits for a product */
        uint64_t lanes[4] = {hash, hash + 1, hash + 2, hash + 3};
        for (; length >= LONG; at += LONG, length -= LONG)
            for (int lane = 0; lane < 4; lane++) {
                lanes[lane] = (lanes[lane] ^ word_at(at + 8 * lane)) * UINT64_C(0xBF58476D1CE4E5B9);
                lanes[lane] ^= lanes[lane] >> 29;
            }
        for (int lane = 0; lane < 4; lane++)
            hash = (hash ^ lanes[lane]) * UINT64_C(0x9E3779B97F4A7C15);
        hash ^= hash >> 29;
    }
    for (; length >= 8; at += 8, length -= 8) {
        hash = (hash ^ word_at(at)) * UINT64_C(0xBF58476D1CE4E5B9);
        hash ^= hash >> 29;
    }
    hash = (hash ^ start_of(word_at(at), length)) * UINT64_C(0x94D049BB133111EB);
    return hash ^ hash >> 32;
}

/* Twice the slots, or the first ones; whether there was memory for them. Slots keep the lower half of a hash,
 * so a table has at most 2^32 of them; rows are fewer. */
static int widen(Table *table)
{
    size_t mask = table->slots ? 2 * table->mask + 1 : 255;
    Slot *slots = calloc(mask + 1, sizeof *slots);
    if (!slots)
        return 0;
    for (size_t at = 0; table->slots && at <= table->mask; at++) {
        if (!table->slots[at].number)
            continue;
        size_t to = table->slots[at].hash & mask;
        while (slots[to].number)
            to = (to + 1) & mask;
        slots[to] = table->slots[at];
    }
    free(table->slots);
    table->slots = slots;
    table->mask = mask;
    return 1;
}

/* The number of the stretch at `row` among those of its column that differ; -1 without memory. */
static int32_t number_of(Table *table, const uint64_t *places, const uint32_t *lengths, int32_t *firsts,
                         int64_t row)
{
    if (2 * (size_t)table->count >= table->mask && !widen(table))
        return -1;
    uint32_t length = lengths[row];
    Text from = text_at(places[row]);
    uint32_t hash = (uint32_t)hash_of(from, length, table->secret);
    size_t at = hash & table->mask;
    for (; table->slots[at].number; at = (at + 1) & table->mask) {
        int32_t first = firsts[table->slots[at].number - 1];
        if (table->slots[at].hash == hash && lengths[first] == length
            && is_same(text_at(places[first]), from, length))
            return (int32_t)table->slots[at].number - 1;
    }
    firsts[table->count] = (int32_t)row;
    table->slots[at] = (Slot){++table->count, hash};
    return (int32_t)table->count - 1;
}

/* --- members --------------------------------------------------------------------------------------------- */

/* The member whose name and closing quote stand at `*name`, which goes behind them; sought from `from` on, where
 * it usually is. -1 for none. */
static int member_at(const json_layout *layout, Text *name, int from)
{
    for (int step = 0; step < layout->members; step++) {
        int member = from + step < layout->members ? from + step : from + step - layout->members;
        int32_t start = layout->name_ends[member];
        uint32_t length = (uint32_t)(layout->name_ends[member + 1] - start);
        if (is_same(layout->names + start, *name, length) && (*name)[length] == '"') {
            *name += length + 1;
            return member;
        }
    }
    return -1;
}

static int is_wanted(unsigned kind, uint8_t want)
{
    switch (want) {
    case WANT_TIME:
        return kind == IS_TEXT;
    case WANT_TEXT:
        return kind == IS_TEXT || kind == IS_NULL;
    case WANT_FLAG:
        return kind == IS_TRUE || kind == IS_FALSE || kind == IS_NULL;
    default:
        return 1;
    }
}

/* Reads the record at `at` into a row; behind it, NULL where it is not a usual one. */
static Text record_end(Text at, Text end, const json_layout *layout, const json_columns *to, int64_t row)
{
    Text begin = at;
    unsigned all = 0;
    int next = 0, has_time = 0;
    for (int64_t member = 0, cell = row; member < layout->members; member++, cell += to->rows) {
        to->forms[cell] = IS_ABSENT;
        to->places[cell] = to->lengths[cell] = 0;
    }
    if (at >= end || *at != '{')
        return NULL;
    do {
        unsigned met = 0;
        at = past_blanks(at + 1);
        if (*at++ != '"')
            return NULL;
        int member = member_at(layout, &at, next);
        int64_t cell = member * to->rows + row;
        if (member < 0 || to->forms[cell] != IS_ABSENT)
            return NULL;
        next = member + 1;
        at = past_blanks(at);
        if (*at != ':')
            return NULL;
        Text value = past_blanks(at + 1);
        uint8_t want = layout->wants[member];
        at = value_end(value, end, &met);
        if (!at || at > end || !is_wanted(met & IS_MASK, want))
            return NULL;
        int in_quotes = want != WANT_ANY && (met & IS_MASK) == IS_TEXT;
        to->forms[cell] = (uint8_t)met;
        if ((met & IS_MASK) != IS_NULL) {
            to->places[cell] = (uintptr_t)(value + in_quotes);
            to->lengths[cell] = (uint32_t)(at - value - 2 * in_quotes);
        }
        if (want == WANT_TIME) {
            has_time = 1;
            to->times[row] = time_at(value + 1, to->lengths[cell]);
            if (to->times[row] < 0)
                return NULL;
        }
        all |= met;
        at = past_blanks(at);
    } while (*at == ',');
    if (*at++ != '}' || at > end || !has_time)
        return NULL;
    return !(all & MET_HIGH) || is_utf8(begin, at) ? at : NULL;
}

/* Numbers what repeats in a row that was read; whether there was memory for it. */
static int number_row(Table *tables, const json_layout *layout, const json_columns *to, int64_t row)
{
    for (int64_t member = 0, column = 0; member < layout->members; member++, column += to->rows) {
        if (!layout->repeats[member])
            continue;
        const uint64_t *places = to->places + column;
        const uint32_t *lengths = to->lengths + column;
        int32_t *numbers = to->numbers + column;
        /* Most often it is the one of the record before. */
        if (row && lengths[row - 1] == lengths[row]
            && is_same(text_at(places[row - 1]), text_at(places[row]), lengths[row]))
            numbers[row] = numbers[row - 1];
        else
            numbers[row] = number_of(&tables[member], places, lengths, to->firsts + column, row);
        if (numbers[row] < 0)
            return 0;
    }
    return 1;
}

/* A table for each member, NULL without memory. */
static Table *begin(const json_layout *layout)
{
    Table *tables = calloc((size_t)layout->members, sizeof *tables);
    for (int member = 0; tables && member < layout->members; member++)
        tables[member].secret = layout->secret;
    return tables;
}

/* The tables' counts, and the tables back. */
static void finish(Table *tables, const json_layout *layout, const json_columns *to)
{
    for (int member = 0; member < layout->members; member++) {
        to->counts[member] = (int32_t)tables[member].count;
        free(tables[member].slots);
    }
    free(tables);
}

int json_records(const uint8_t *text, const int64_t *ends, int64_t rows, const json_layout *layout,
                 json_columns *to)
{
    int status = KERNEL_DONE;
    Table *tables = begin(layout);
    if (!tables)
        return KERNEL_NO_MEMORY;
    to->kept = 0;
    for (int64_t row = 0; row < rows && !status; row++) {
        Text end = text + ends[row + 1];
        Text after = record_end(text + ends[row], end, layout, to, to->kept);
        if (!after || past_blanks(after) != end)
            continue;
        to->records[to->kept] = (int32_t)row;
        to->hashes[to->kept] = xxh3(text + ends[row], (size_t)(ends[row + 1] - ends[row]));
        if (!number_row(tables, layout, to, to->kept))
            status = KERNEL_NO_MEMORY;
        to->kept++;
    }
    finish(tables, layout, to);
    return status;
}

/* Behind the record at `at`, read into a row where it is a usual one; NULL for no JSON object. */
static Text listed_end(Text at, Text end, const json_layout *layout, json_columns *to, int64_t record)
{
    unsigned met = 0;
    Text after = record_end(at, end, layout, to, to->kept);
    if (after) {
        to->hashes[to->kept] = xxh3(at, (size_t)(after - at));
        to->records[to->kept++] = (int32_t)record;
        return after;
    }
    if (*at != '{' || !(after = nested_end(at, end, &met)) || after > end)
        return NULL;
    return after;
}

int64_t json_list(const uint8_t *text, int64_t at, int64_t size, int64_t *starts, int64_t *ends,
                  const json_layout *layout, json_columns *to)
{
    Text here = text + at, end = text + size;
    int64_t found = KERNEL_BAD_INPUT;
    Table *tables = begin(layout);
    if (!tables)
        return KERNEL_NO_MEMORY;
    to->kept = 0;
    for (int64_t record = 0; record < to->rows; record++) {
        int64_t kept = to->kept;
        here = past_blanks(here);
        starts[record] = here - text;
        if (!(here = listed_end(here, end, layout, to, record)))
            break;
        ends[record] = here - text;
        if (to->kept > kept && !number_row(tables, layout, to, kept)) {
            found = KERNEL_NO_MEMORY;
            break;
        }
        here = past_blanks(here);
        if (*here == ']') { /* is the list all there is? */
            here = past_blanks(here + 1);
            if (*here == '}' && past_blanks(here + 1) == end)
                found = record + 1;
            break;
        }
        if (*here++ != ',')
            break;
    }
    finish(tables, layout, to);
    return found;
}

/* Appends a member of one part to the column of all; whether there was memory for its numbers, which become
 * those of the column. `fresh` has room for as many numbers as the part has. */
static int join_member(Table *table, const json_columns *part, int64_t member, int repeats, int32_t *fresh,
                       json_columns *to)
{
    int64_t from = member * part->rows, column = member * to->rows, at = column + to->kept;
    size_t kept = (size_t)part->kept;
    memcpy(to->places + at, part->places + from, kept * sizeof *to->places);
    memcpy(to->lengths + at, part->lengths + from, kept * sizeof *to->lengths);
    memcpy(to->forms + at, part->forms + from, kept);
    if (!repeats)
        return 1;
    for (int32_t number = 0; number < part->counts[member]; number++) {
        int64_t first = to->kept + part->firsts[from + number];
        fresh[number] = number_of(table, to->places + column, to->lengths + column, to->firsts + column, first);
        if (fresh[number] < 0)
            return 0;
    }
    for (size_t row = 0; row < kept; row++)
        to->numbers[at + (int64_t)row] = fresh[part->numbers[from + (int64_t)row]];
    return 1;
}

int json_joined(const json_layout *layout, const json_columns *parts, const int64_t *before, int64_t count,
                json_columns *to)
{
    int status = KERNEL_DONE;
    Table *tables = begin(layout);
    int32_t *fresh = malloc(((size_t)to->rows + 1) * sizeof *fresh);
    to->kept = 0;
    for (int64_t number = 0; number < count && !status; number++) {
        const json_columns *part = &parts[number];
        if (part->kept > to->rows - to->kept)
            status = KERNEL_BAD_INPUT;
        for (int64_t member = 0; member < layout->members && !status; member++)
            if (!tables || !fresh || !join_member(&tables[member], part, member, layout->repeats[member], fresh, to))
                status = KERNEL_NO_MEMORY;
        for (int64_t row = 0; row < part->kept && !status; row++) {
            to->records[to->kept + row] = (int32_t)(before[number] + part->records[row]);
            to->times[to->kept + row] = part->times[row];
            to->hashes[to->kept + row] = part->hashes[row];
        }
        to->kept += status ? 0 : part->kept;
    }
    free(fresh);
    if (tables)
        finish(tables, layout, to);
    return status;
}

/* --- columns --------------------------------------------------------------------------------------------- */

static uint8_t *put_character(uint8_t *to, int32_t code)
{
    if (code < 0x80) {
        *to++ = (uint8_t)code;
    } else if (code < 0x800) {
        *to++ = (uint8_t)(0xC0 | code >> 6);
        *to++ = (uint8_t)(0x80 | (code & 0x3F));
    } else if (code < 0x10000) {
        *to++ = (uint8_t)(0xE0 | code >> 12);
        *to++ = (uint8_t)(0x80 | (code >> 6 & 0x3F));
        *to++ = (uint8_t)(0x80 | (code & 0x3F));
    } else {
        *to++ = (uint8_t)(0xF0 | code >> 18);
        *to++ = (uint8_t)(0x80 | (code >> 12 & 0x3F));
        *to++ = (uint8_t)(0x80 | (code >> 6 & 0x3F));
        *to++ = (uint8_t)(0x80 | (code & 0x3F));
    }
    return to;
}

/* What a valid string stands for, which is never longer than it. */
static uint8_t *put_unescaped(uint8_t *to, Text at, Text end)
{
    while (at < end) {
        if (*at != '\\') {
            *to++ = *at++;
            continue;
        }
        uint8_t letter = at[1];
        at += 2;
        switch (letter) {
        case 'b':
            *to++ = '\b';
            break;
        case 'f':
            *to++ = '\f';
            break;
        case 'n':
            *to++ = '\n';
            break;
        case 'r':
            *to++ = '\r';
            break;
        case 't':
            *to++ = '\t';
            break;
        case 'u':
            to = put_character(to, escaped_code(&at));
            break;
        default:
            *to++ = letter;
        }
    }
    return to;
}

int64_t text_gathered(const uint64_t *places, const uint32_t *lengths, const uint8_t *forms, int64_t rows,
                      int32_t as_json, int32_t *offsets, uint8_t *bytes)
{
    uint8_t *to = bytes;
    offsets[0] = 0;
    for (int64_t row = 0; row < rows; row++) {
        Text from = text_at(places[row]);
        if (forms[row] & MET_ESCAPE && !as_json) {
            to = put_unescaped(to, from, from + lengths[row]);
        } else {
            memcpy(to, from, lengths[row]);
            to += lengths[row];
        }
        offsets[row + 1] = (int32_t)(to - bytes);
    }
    return to - bytes;
}

int codes_used(const int32_t *codes, int64_t rows, int64_t values, uint8_t *used)
{
    for (int64_t row = 0; row < rows; row++) {
        if (codes[row] < 0 || codes[row] >= values)
            return KERNEL_BAD_INPUT;
        used[codes[row]] = 1;
    }
    return KERNEL_DONE;
}

/* --- doubled names --------------------------------------------------------------------------------------- */

/* Behind the valid value at `at`, NULL where an object in it has two members of one name, as far as can be told:
 * names with escapes and very many names count as doubled. */
static Text single_end(Text at, Text end, int depth)
{
    struct {
        Text text;
        uint32_t length;
    } names[MOST_NAMES];
    int count = 0, is_object = *at == '{';
    unsigned met = 0;
    if (!is_object && *at != '[')
        return simple_end(at, &met);
    if (depth == DEEPEST)
        return NULL;
    at = past_blanks(at + 1);
    if (*at == (is_object ? '}' : ']'))
        return at + 1;
    for (;; at = past_blanks(at + 1)) {
        if (is_object) {
            Text name = at + 1;
            if (*at != '"' || count == MOST_NAMES || !(at = string_end(name, &met)) || met & MET_ESCAPE)
                return NULL;
            uint32_t length = (uint32_t)(at - name);
            for (int other = 0; other < count; other++)
                if (names[other].length == length && is_same(names[other].text, name, length))
                    return NULL;
            names[count].text = name;
            names[count++].length = length;
            at = past_blanks(at + 1);
            if (*at != ':')
                return NULL;
            at = past_blanks(at + 1);
        }
        if (at >= end || !(at = single_end(at, end, depth + 1)))
            return NULL;
        at = past_blanks(at);
        if (*at != ',')
            return *at == (is_object ? '}' : ']') ? at + 1 : NULL;
    }
}

void json_doubled(const uint64_t *places, const uint32_t *lengths, int64_t rows, uint8_t *doubled)
{
    for (int64_t row = 0; row < rows; row++) {
        Text at = text_at(places[row]), end = at + lengths[row];
        doubled[row] = lengths[row] && single_end(at, end, 0) != end;
    }
}

/* --- paths ----------------------------------------------------------------------------------------------- */

typedef struct {
    Text end; /* of the text */
    const uint8_t *steps; /* the names of all paths */
    const int32_t *step_ends;
    const int32_t *path_ends; /* path i has the steps from path_ends[i] on */
    uint64_t (*of_length)[LONG]; /* the paths whose step at a level is that long: most names are no step */
    int64_t row, rows;
    uint64_t *places;
    uint32_t *lengths;
    uint8_t *forms;
    int is_doubtful;
} Walk;

/* Whether a number is printed as it stands here: whole ones of up to 18 digits, and reals of up to 15 without
 * zeros at their ends, which are the shortest text for their double. */
static int is_plain_number(Text at, Text end)
{
    Text whole = at + (*at == '-'), point = past_digits(whole), last = end - 1;
    if (*at == '-' && *whole == '0')
        return 0;
    if (point == end)
        return end - whole <= DIGITS_OF_WHOLE;
    if (*point != '.' || past_digits(point + 1) != end || end - whole > DIGITS_OF_REAL + 1)
        return 0;
    if (last == point + 1)
        return 1;
    return *last != '0' && (*whole != '0' || point[1] != '0');
}

/* Whether a value is printed as it stands here. */
static int is_plain(Text at, Text end, unsigned met)
{
    switch (met & IS_MASK) {
    case IS_LIST:
    case IS_OBJECT:
        return 0;
    case IS_TEXT:
        return !(met & MET_CODE);
    case IS_NUMBER:
        return is_plain_number(at, end);
    default:
        return 1;
    }
}

/* Notes the values of the paths of `among` (a bit each), which have come to this object with `level` steps;
 * behind the object. As in DuckDB, the first of members with the same name counts. */
static Text object_paths(Walk *walk, Text at, uint64_t among, int level)
{
    if (at[1] == '}')
        return at + 2;
    do {
        unsigned met = 0, in_name = 0;
        Text name = at + 2, value;
        uint64_t here = 0;
        if (at[1] != '"' || !(at = string_end(name, &in_name)) || at[1] != ':')
            return NULL;
        value = at + 2;
        uint64_t alike = level < LEVELS && at - name < LONG ? walk->of_length[level][at - name] : ~UINT64_C(0);
        for (uint64_t rest = among & alike; rest; rest &= rest - 1) {
            int path = __builtin_ctzll(rest);
            int32_t step = walk->path_ends[path] + level;
            int64_t start = walk->step_ends[step], length = walk->step_ends[step + 1] - start;
            if (length == at - name && is_same(walk->steps + start, name, (uint32_t)length))
                here |= UINT64_C(1) << path;
        }
        among &= ~here;
        uint64_t below = 0;
        for (uint64_t rest = here; rest; rest &= rest - 1) {
            int path = __builtin_ctzll(rest);
            if (walk->path_ends[path] + level + 1 < walk->path_ends[path + 1])
                below |= UINT64_C(1) << path;
        }
        here &= ~below;
        if (below && *value == '{' && !here) {
            at = object_paths(walk, value, below, level + 1);
        } else {
            if (below && here && *value == '{')
                walk->is_doubtful = 1; /* a path that goes on where another one ends */
            at = value_end(value, walk->end, &met);
        }
        if (!at || at > walk->end)
            return NULL;
        for (; here; here &= here - 1) {
            int64_t cell = __builtin_ctzll(here) * walk->rows + walk->row;
            int is_text = (met & IS_MASK) == IS_TEXT;
            if ((met & IS_MASK) == IS_NULL)
                continue;
            walk->is_doubtful |= !is_plain(value, at, met);
            walk->places[cell] = (uintptr_t)(value + is_text);
            walk->lengths[cell] = (uint32_t)(at - value - 2 * is_text);
            walk->forms[cell] = (uint8_t)met;
        }
    } while (*at == ',');
    return *at == '}' ? at + 1 : NULL;
}

void json_paths(const uint8_t *text, const int32_t *ends, int64_t rows, const uint8_t *steps,
                const int32_t *step_ends, const int32_t *path_ends, int32_t paths, uint64_t *places,
                uint32_t *lengths, uint8_t *forms, uint8_t *doubts)
{
    uint64_t all = paths < MOST_PATHS ? (UINT64_C(1) << paths) - 1 : ~UINT64_C(0);
    uint64_t of_length[LEVELS][LONG] = {{0}};
    size_t cells = (size_t)paths * (size_t)rows;
    for (int32_t path = 0; path < paths; path++)
        for (int32_t level = 0; level < LEVELS && path_ends[path] + level < path_ends[path + 1]; level++) {
            int32_t step = path_ends[path] + level, length = step_ends[step + 1] - step_ends[step];
            if (length < LONG)
                of_length[level][length] |= UINT64_C(1) << path;
        }
    memset(places, 0, cells * sizeof *places);
    memset(lengths, 0, cells * sizeof *lengths);
    memset(forms, IS_ABSENT, cells);
    for (int64_t row = 0; row < rows; row++) {
        Text end = text + ends[row + 1];
        Walk walk = {end, steps, step_ends, path_ends, of_length, row, rows, places, lengths, forms, 0};
        if (ends[row] < ends[row + 1] && text[ends[row]] == '{')
            walk.is_doubtful |= object_paths(&walk, text + ends[row], all, 0) != walk.end;
        doubts[row] = (uint8_t)walk.is_doubtful;
    }
}
