/* XXH3 of 64 bits without a seed, as its specification describes it:
 * https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md . Stored hashes are of it, so it stays as it is. */

#include "hash.h"

#include <string.h>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

typedef const uint8_t *Text;

#define PRIME32_1 UINT64_C(0x9E3779B1)
#define PRIME32_2 UINT64_C(0x85EBCA77)
#define PRIME32_3 UINT64_C(0xC2B2AE3D)
#define PRIME64_1 UINT64_C(0x9E3779B185EBCA87)
#define PRIME64_2 UINT64_C(0xC2B2AE3D27D4EB4F)
#define PRIME64_3 UINT64_C(0x165667B19E3779F9)
#define PRIME64_4 UINT64_C(0x85EBCA77C2B2AE63)
#define PRIME64_5 UINT64_C(0x27D4EB2F165667C5)

enum { SECRET = 192, STRIPE = 64, LANES = 8, STRIPES = (SECRET - STRIPE) / 8, BLOCK = STRIPES * STRIPE };

static const uint8_t secret[SECRET] = {
    0xb8, 0xfe, 0x6c, 0x39, 0x23, 0xa4, 0x4b, 0xbe, 0x7c, 0x01, 0x81, 0x2c, 0xf7, 0x21, 0xad, 0x1c, 0xde, 0xd4, 0x6d,
    0xe9, 0x83, 0x90, 0x97, 0xdb, 0x72, 0x40, 0xa4, 0xa4, 0xb7, 0xb3, 0x67, 0x1f, 0xcb, 0x79, 0xe6, 0x4e, 0xcc, 0xc0,
    0xe5, 0x78, 0x82, 0x5a, 0xd0, 0x7d, 0xcc, 0xff, 0x72, 0x21, 0xb8, 0x08, 0x46, 0x74, 0xf7, 0x43, 0x24, 0x8e, 0xe0,
    0x35, 0x90, 0xe6, 0x81, 0x3a, 0x26, 0x4c, 0x3c, 0x28, 0x52, 0xbb, 0x91, 0xc3, 0x00, 0xcb, 0x88, 0xd0, 0x65, 0x8b,
    0x1b, 0x53, 0x2e, 0xa3, 0x71, 0x64, 0x48, 0x97, 0xa2, 0x0d, 0xf9, 0x4e, 0x38, 0x19, 0xef, 0x46, 0xa9, 0xde, 0xac,
    0xd8, 0xa8, 0xfa, 0x76, 0x3f, 0xe3, 0x9c, 0x34, 0x3f, 0xf9, 0xdc, 0xbb, 0xc7, 0xc7, 0x0b, 0x4f, 0x1d, 0x8a, 0x51,
    0xe0, 0x4b, 0xcd, 0xb4, 0x59, 0x31, 0xc8, 0x9f, 0x7e, 0xc9, 0xd9, 0x78, 0x73, 0x64, 0xea, 0xc5, 0xac, 0x83, 0x34,
    0xd3, 0xeb, 0xc3, 0xc5, 0x81, 0xa0, 0xff, 0xfa, 0x13, 0x63, 0xeb, 0x17, 0x0d, 0xdd, 0x51, 0xb7, 0xf0, 0xda, 0x49,
    0xd3, 0x16, 0x55, 0x26, 0x29, 0xd4, 0x68, 0x9e, 0x2b, 0x16, 0xbe, 0x58, 0x7d, 0x47, 0xa1, 0xfc, 0x8f, 0xf8, 0xb8,
    0xd1, 0x7a, 0xd0, 0x31, 0xce, 0x45, 0xcb, 0x3a, 0x8f, 0x95, 0x16, 0x04, 0x28, 0xaf, 0xd7, 0xfb, 0xca, 0xbb, 0x4b,
    0x40, 0x7e,
};

static inline uint32_t read32(Text at)
{
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static inline uint64_t read64(Text at)
{
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    uint64_t word;
    memcpy(&word, at, sizeof word);
    return word;
#else
    return read32(at) | (uint64_t)read32(at + 4) << 32;
#endif
}

/* The two halves of a product of 128 bits, one over the other. */
static inline uint64_t folded(uint64_t one, uint64_t other)
{
#ifdef __SIZEOF_INT128__
    __extension__ unsigned __int128 product = (unsigned __int128)one * other;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
#else
    uint64_t low = (one & 0xFFFFFFFF) * (other & 0xFFFFFFFF), high = (one >> 32) * (other >> 32);
    uint64_t first = (one >> 32) * (other & 0xFFFFFFFF), second = (one & 0xFFFFFFFF) * (other >> 32);
    uint64_t middle = (low >> 32) + (first & 0xFFFFFFFF) + second;
    return ((middle << 32) | (low & 0xFFFFFFFF)) ^ (high + (first >> 32) + (middle >> 32));
#endif
}

static inline uint64_t turned(uint64_t word, int bits)
{
    return word << bits | word >> (64 - bits);
}

static inline uint64_t settled(uint64_t hash)
{
    hash = (hash ^ hash >> 37) * UINT64_C(0x165667919E3779F9);
    return hash ^ hash >> 32;
}

static inline uint64_t settled_short(uint64_t hash)
{
    hash = (hash ^ hash >> 33) * PRIME64_2;
    hash = (hash ^ hash >> 29) * PRIME64_3;
    return hash ^ hash >> 32;
}

static inline uint64_t mixed(Text at, Text key)
{
    return folded(read64(at) ^ read64(key), read64(at + 8) ^ read64(key + 8));
}

static uint64_t of_16(Text at, size_t length)
{
    if (length > 8) {
        uint64_t low = read64(at) ^ read64(secret + 24) ^ read64(secret + 32);
        uint64_t high = read64(at + length - 8) ^ read64(secret + 40) ^ read64(secret + 48);
        uint64_t swapped = 0;
        for (int byte = 0; byte < 8; byte++)
            swapped = swapped << 8 | (low >> 8 * byte & 0xFF);
        return settled(length + swapped + high + folded(low, high));
    }
    if (length > 3) {
        uint64_t hash = (read32(at + length - 4) + ((uint64_t)read32(at) << 32)) ^ read64(secret + 8) ^ read64(secret + 16);
        hash ^= turned(hash, 49) ^ turned(hash, 24);
        hash *= UINT64_C(0x9FB21C651E98DF25);
        hash ^= (hash >> 35) + length;
        hash *= UINT64_C(0x9FB21C651E98DF25);
        return hash ^ hash >> 28;
    }
    if (length) {
        uint32_t word = (uint32_t)at[0] << 16 | (uint32_t)at[length >> 1] << 24 | at[length - 1] | (uint32_t)length << 8;
        return settled_short(word ^ read32(secret) ^ read32(secret + 4));
    }
    return settled_short(read64(secret + 56) ^ read64(secret + 64));
}

static uint64_t of_240(Text at, size_t length)
{
    uint64_t hash = length * PRIME64_1;
    if (length <= 128) {
        for (size_t place = (length - 1) / 32 * 16, key = 2 * place;; place -= 16, key -= 32) {
            hash += mixed(at + place, secret + key);
            hash += mixed(at + length - 16 - place, secret + key + 16);
            if (!place)
                return settled(hash);
        }
    }
    for (size_t place = 0; place < 128; place += 16)
        hash += mixed(at + place, secret + place);
    hash = settled(hash);
    for (size_t place = 128; place + 16 <= length; place += 16)
        hash += mixed(at + place, secret + place - 128 + 3);
    return settled(hash + mixed(at + length - 16, secret + 136 - 17));
}

static inline void add_stripe(uint64_t *sums, Text at, Text key)
{
#if defined(__SSE2__) /* what compilers do not find by themselves: four times as fast */
    for (int lane = 0; lane < LANES; lane += 2) {
        __m128i words = _mm_loadu_si128((const __m128i *)(at + 8 * lane));
        __m128i keyed = _mm_xor_si128(words, _mm_loadu_si128((const __m128i *)(key + 8 * lane)));
        __m128i sum = _mm_loadu_si128((const __m128i *)(sums + lane));
        sum = _mm_add_epi64(sum, _mm_shuffle_epi32(words, 0x4E));
        sum = _mm_add_epi64(sum, _mm_mul_epu32(keyed, _mm_srli_epi64(keyed, 32)));
        _mm_storeu_si128((__m128i *)(sums + lane), sum);
    }
#else
    for (int lane = 0; lane < LANES; lane++) {
        uint64_t word = read64(at + 8 * lane), keyed = word ^ read64(key + 8 * lane);
        sums[lane ^ 1] += word;
        sums[lane] += (keyed & 0xFFFFFFFF) * (keyed >> 32);
    }
#endif
}

static uint64_t of_many(Text at, size_t length)
{
    uint64_t sums[LANES] = {PRIME32_3, PRIME64_1, PRIME64_2, PRIME64_3, PRIME64_4, PRIME32_2, PRIME64_5, PRIME32_1};
    uint64_t hash = length * PRIME64_1;
    Text last = at + length - STRIPE;
    size_t left = length - 1; /* the last stripe comes by itself, whole */
    for (; left >= BLOCK; left -= BLOCK) {
        for (int stripe = 0; stripe < STRIPES; stripe++, at += STRIPE)
            add_stripe(sums, at, secret + 8 * stripe);
        for (int lane = 0; lane < LANES; lane++) {
            uint64_t key = read64(secret + SECRET - STRIPE + 8 * lane);
            sums[lane] = (sums[lane] ^ sums[lane] >> 47 ^ key) * PRIME32_1;
        }
    }
    for (Text key = secret; left >= STRIPE; left -= STRIPE, at += STRIPE, key += 8)
        add_stripe(sums, at, key);
    add_stripe(sums, last, secret + SECRET - STRIPE - 7);
    for (int lane = 0; lane < LANES; lane += 2) {
        Text key = secret + 11 + 8 * lane;
        hash += folded(sums[lane] ^ read64(key), sums[lane + 1] ^ read64(key + 8));
    }
    return settled(hash);
}

uint64_t xxh3(const uint8_t *text, size_t length)
{
    if (length <= 16)
        return of_16(text, length);
    return length <= 240 ? of_240(text, length) : of_many(text, length);
}

int text_hashes(const uint8_t *text, int64_t size, const int32_t *ends, int64_t rows, uint64_t *hashes)
{
    for (int64_t row = 0; row < rows; row++) {
        if (ends[row] < 0 || ends[row + 1] < ends[row] || ends[row + 1] > size)
            return KERNEL_BAD_INPUT;
        hashes[row] = xxh3(text + ends[row], (size_t)(ends[row + 1] - ends[row]));
    }
    return KERNEL_DONE;
}
