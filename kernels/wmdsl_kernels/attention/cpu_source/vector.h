// Portable vectors: GCC and Clang lower them to whatever the machine has.
#pragma once
#include <cstdint>
#include <cstring>

#if defined(__AVX512F__) || defined(__F16C__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
constexpr int LANES = 16;
constexpr int MICRO_COLUMNS = 4;
#elif defined(__AVX2__)
constexpr int LANES = 8;
constexpr int MICRO_COLUMNS = 2;
#elif defined(__aarch64__)
constexpr int LANES = 4;
constexpr int MICRO_COLUMNS = 4;
#else
constexpr int LANES = 4;
constexpr int MICRO_COLUMNS = 2;
#endif
constexpr int MICRO_ROWS = 6;

typedef float Vector __attribute__((vector_size(LANES * 4)));
typedef int32_t Integers __attribute__((vector_size(LANES * 4)));
typedef uint32_t Words __attribute__((vector_size(LANES * 4)));
typedef uint16_t Halves __attribute__((vector_size(LANES * 2)));
typedef uint16_t Bfloat16;
struct Float16 {
  uint16_t bits;
};

constexpr int64_t round_up(int64_t value, int64_t step) { return (value + step - 1) / step * step; }

static inline Vector load(const float* from) {
  Vector value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

static inline void store(float* to, Vector value) { std::memcpy(to, &value, sizeof value); }

static inline Vector splat(float value) { return value - Vector{}; }

static inline Vector maximum(Vector left, Vector right) {
#if defined(__AVX512F__)
  return (Vector)_mm512_max_ps((__m512)left, (__m512)right);
#else
  return left > right ? left : right;
#endif
}

// e^x for x <= 88, relative error 2e-7; below -87 it stays at e^-87 = 2e-38.
static inline Vector exponential(Vector x) {
  const Vector log2_e = splat(1.4426950408889634f);
  x = maximum(splat(-87.f), x);
  // Adding 1.5 * 2^23 rounds to an integer and leaves that integer in the lowest bits.
  const Vector shifter = splat(12582912.f), shifted = x * log2_e + shifter;
  const Vector part = x * log2_e - (shifted - shifter);
  Vector power = splat(1.535336188e-4f);
  power = power * part + 1.339887440e-3f;
  power = power * part + 9.618437358e-3f;
  power = power * part + 5.550332471e-2f;
  power = power * part + 2.402264791e-1f;
  power = power * part + 6.931472029e-1f;
  power = power * part + 1.f;
  return (Vector)((Integers)power + ((Integers)shifted << 23));
}

// ln x for normal x > 0, error 2e-7 of the result or 1e-7; NaN stays NaN.
static inline Vector logarithm(Vector x) {
  // x = 2^whole * part, part between sqrt(1/2) and sqrt(2), and ln part = 2 artanh(ratio).
  constexpr int32_t BITS_OF_ROOT_HALF = 0x3f3504f3;
  const Integers bits = (Integers)x, whole = (bits - BITS_OF_ROOT_HALF) >> 23;
  const Vector part = (Vector)(bits - (whole << 23));
  const Vector ratio = (part - 1.f) / (part + 1.f), square = ratio * ratio;
  Vector series = splat(2.f / 9);
  series = series * square + 2.f / 7;
  series = series * square + 2.f / 5;
  series = series * square + 2.f / 3;
  const Vector of_part = ratio * square * series + 2.f * ratio;
  return __builtin_convertvector(whole, Vector) * 0.6931471805599453f + of_part + (x - x);
}

// Lane tables are constants in memory: built in code, GCC would assemble them lane by lane.
struct LaneTable {
  int32_t at[LANES];

  template <class Rule>
  constexpr explicit LaneTable(Rule rule) : at{} {
    for (int lane = 0; lane < LANES; ++lane) at[lane] = rule(lane);
  }

  operator Integers() const {
    Integers lanes;
    std::memcpy(&lanes, at, sizeof lanes);
    return lanes;
  }
};

static constexpr LaneTable LANE_NUMBERS([](int lane) { return lane; });
template <int STEP>
static constexpr LaneTable PARTNER([](int lane) { return lane ^ STEP; });
template <int STEP>
static constexpr LaneTable LOWER([](int lane) { return lane & STEP ? LANES + lane - STEP : lane; });
template <int STEP>
static constexpr LaneTable UPPER([](int lane) { return lane & STEP ? LANES + lane : lane + STEP; });

// Combine the lanes pairwise, halving the distance each time.
template <int STEP = LANES / 2, class Combine>
static inline float reduce(Vector value, Combine combine) {
  value = combine(value, __builtin_shuffle(value, Integers(PARTNER<STEP>)));
  if constexpr (STEP > 1) return reduce<STEP / 2>(value, combine);
  return value[0];
}

static inline float sum_of(Vector value) {
  return reduce(value, [](Vector left, Vector right) { return left + right; });
}

static inline float maximum_of(Vector value) { return reduce(value, maximum); }

// Visit offsets 0, LANES, ... below `count`, four at a time; the visitor gets (offset, 0 to 3) so
// that it can keep four independent accumulators.
template <class Visit>
static inline void in_fours(int64_t count, Visit visit) {
  int64_t at = 0;
  for (; at + 4 * LANES <= count; at += 4 * LANES)
#pragma GCC unroll 4
    for (int way = 0; way < 4; ++way) visit(at + way * LANES, way);
  for (; at < count; at += LANES) visit(at, 0);
}

static inline float dot(const float* left, const float* right, int64_t count) {
  Vector sums[4] = {};
  in_fours(count, [&](int64_t at, int way) { sums[way] += load(left + at) * load(right + at); });
  return sum_of((sums[0] + sums[1]) + (sums[2] + sums[3]));
}

// The lanes first <= lane < stop of `value`, `other` elsewhere.
static inline Vector within(Vector value, int64_t first, int64_t stop, Vector other) {
  const Integers lanes = LANE_NUMBERS;
  return (lanes >= int32_t(first)) & (lanes < int32_t(stop)) ? value : other;
}

template <int STEP>
static inline void exchange(Vector* rows) {
  const Integers low = LOWER<STEP>, high = UPPER<STEP>;
#pragma GCC unroll 16
  for (int row = 0; row < LANES; ++row) {
    if (row & STEP) continue;
    const Vector first = rows[row], second = rows[row + STEP];
    rows[row] = __builtin_shuffle(first, second, low);
    rows[row + STEP] = __builtin_shuffle(first, second, high);
  }
}

// Transpose LANES x LANES words in place.
static inline void transpose(Vector* rows) {
  exchange<1>(rows);
  exchange<2>(rows);
  if constexpr (LANES >= 8) exchange<4>(rows);
  if constexpr (LANES >= 16) exchange<8>(rows);
}
