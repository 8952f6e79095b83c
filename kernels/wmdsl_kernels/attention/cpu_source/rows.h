// Rows of fp32 or bf16 read and written in fp32 vectors, whatever their length.
#pragma once
#include <algorithm>
#include <cmath>

#include "vector.h"

typedef uint32_t Words __attribute__((vector_size(LANES * 4)));
typedef uint16_t Halves __attribute__((vector_size(LANES * 2)));

static inline Vector read(const float* from, int64_t left) {
  if (left >= LANES) return load(from);
  Vector value = {};
  std::memcpy(&value, from, left * sizeof(float));
  return value;
}

static inline Vector read(const Bfloat16* from, int64_t left) {
  Halves bits = {};
  if (left >= LANES)
    std::memcpy(&bits, from, sizeof bits);  // of constant size: no call
  else
    std::memcpy(&bits, from, left * sizeof(Bfloat16));
  return (Vector)(__builtin_convertvector(bits, Words) << 16);
}

static inline void write(float* to, Vector value, int64_t left) {
  if (left >= LANES) return store(to, value);
  std::memcpy(to, &value, left * sizeof(float));
}

static inline void write(Bfloat16* to, Vector value, int64_t left) {
  const Words bits = (Words)value;
  const Words rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  const Words quiet = bits - bits + 0x7fc0u;
  const Halves narrow = __builtin_convertvector(value == value ? rounded : quiet, Halves);
  if (left >= LANES)
    std::memcpy(to, &narrow, sizeof narrow);
  else
    std::memcpy(to, &narrow, left * sizeof(Bfloat16));
}

// Visit the vectors of a row: visit(offset, elements left).
template <class Visit>
static inline void for_vectors(int64_t width, Visit visit) {
  for (int64_t at = 0; at < width; at += LANES) visit(at, width - at);
}

// The lanes below `left` of `value`, zero elsewhere.
static inline Vector kept(Vector value, int64_t left) {
  return left >= LANES ? value : within(value, 0, left, Vector{});
}
