// Portable vectors: GCC and Clang lower them to whatever the machine has.
#pragma once
#include <cstdint>
#include <cstring>

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
typedef uint16_t Bfloat16;

constexpr int64_t round_up(int64_t value, int64_t step) { return (value + step - 1) / step * step; }

static inline Vector load(const float* from) {
  Vector value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

static inline void store(float* to, Vector value) { std::memcpy(to, &value, sizeof value); }

static inline Vector splat(float value) { return value - Vector{}; }

static inline Vector maximum(Vector left, Vector right) { return left > right ? left : right; }

static inline float widen(float value) { return value; }

static inline float widen(Bfloat16 value) {
  const uint32_t bits = uint32_t(value) << 16;
  float wide;
  std::memcpy(&wide, &bits, sizeof wide);
  return wide;
}

static inline void narrow(float value, float* to) { *to = value; }

static inline void narrow(float value, Bfloat16* to) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  *to = value != value ? Bfloat16(0x7fc0) : Bfloat16(rounded);
}

// 2^x for x <= 127, relative error 2e-7; below 2^-126 it stays at 2^-126.
static inline Vector exp2(Vector x) {
  const Vector low = splat(-126.f);
  x = x < low ? low : x;
  const Vector shifter = splat(12582912.f);  // 1.5 * 2^23: adding it rounds to an integer
  const Vector whole = (x + shifter) - shifter;
  const Vector part = x - whole;
  Vector power = splat(1.535336188e-4f);
  power = power * part + 1.339887440e-3f;
  power = power * part + 9.618437358e-3f;
  power = power * part + 5.550332471e-2f;
  power = power * part + 2.402264791e-1f;
  power = power * part + 6.931472029e-1f;
  power = power * part + 1.f;
  return (Vector)((Integers)power + (__builtin_convertvector(whole, Integers) << 23));
}

static inline float sum_of(Vector value) {
  float total = 0.f;
  for (int lane = 0; lane < LANES; ++lane) total += value[lane];
  return total;
}

static inline float maximum_of(Vector value) {
  float largest = value[0];
  for (int lane = 1; lane < LANES; ++lane) largest = value[lane] > largest ? value[lane] : largest;
  return largest;
}

static inline Integers lane_numbers() {
  Integers lanes{};
  for (int lane = 0; lane < LANES; ++lane) lanes[lane] = lane;
  return lanes;
}

// The lanes first <= lane < stop of `value`, `other` elsewhere.
static inline Vector within(Vector value, int64_t first, int64_t stop, Vector other) {
  const Integers lanes = lane_numbers();
  return (lanes >= int32_t(first)) & (lanes < int32_t(stop)) ? value : other;
}

template <int STEP>
static inline void exchange(Vector* rows) {
  Integers low{}, high{};
  for (int lane = 0; lane < LANES; ++lane) {
    low[lane] = lane & STEP ? LANES + lane - STEP : lane;
    high[lane] = lane & STEP ? LANES + lane : lane + STEP;
  }
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
