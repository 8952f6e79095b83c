// Rows of fp32, fp16 or bf16 read and written in fp32 vectors, whatever their length.
#pragma once
#include <algorithm>
#include <cmath>

#include "vector.h"

// A vector of elements as they lie in memory, and what it is in fp32.
template <class T>
struct Element;

template <>
struct Element<float> {
  typedef Vector Lanes;
  static Lanes narrow(Vector wide) { return wide; }
  static Vector widen(Lanes lanes) { return lanes; }
};

template <>
struct Element<Bfloat16> {
  typedef Halves Lanes;

  static Lanes narrow(Vector wide) {
    const Words bits = (Words)wide, quiet = bits - bits + 0x7fc0u;
    const Words rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    return __builtin_convertvector(wide == wide ? rounded : quiet, Lanes);
  }

  static Vector widen(Lanes lanes) {
    return (Vector)(__builtin_convertvector(lanes, Words) << 16);
  }
};

template <>
struct Element<Float16> {
  typedef Halves Lanes;

#if defined(__AVX512F__)
  static Lanes narrow(Vector wide) {
    return (Lanes)_mm512_cvtps_ph((__m512)wide, _MM_FROUND_TO_NEAREST_INT);
  }
  static Vector widen(Lanes lanes) { return (Vector)_mm512_cvtph_ps((__m256i)lanes); }
#elif defined(__AVX2__) && defined(__F16C__)
  static Lanes narrow(Vector wide) {
    return (Lanes)_mm256_cvtps_ph((__m256)wide, _MM_FROUND_TO_NEAREST_INT);
  }
  static Vector widen(Lanes lanes) { return (Vector)_mm256_cvtph_ps((__m128i)lanes); }
#else
  static Lanes narrow(Vector wide) {
    const Words bits = (Words)wide, size = bits & 0x7fffffffu, none = bits - bits;
    // From 2^-14 on the exponent moves by 112; below, a sum with 1/2 rounds to units of 2^-24.
    const Words normal = (size - (112u << 23) + 0xfffu + ((size >> 13) & 1u)) >> 13;
    const Words small = (Words)((Vector)size + 0.5f) - 0x3f000000u;
    const Words finite = size < (113u << 23) ? small : normal;
    const Words large = size > 0x7f800000u ? none + 0x7e00u : none + 0x7c00u;
    const Words half = size < (143u << 23) ? finite : large;
    return __builtin_convertvector(half | ((bits >> 16) & 0x8000u), Lanes);
  }

  static Vector widen(Lanes lanes) {
    const Words bits = __builtin_convertvector(lanes, Words), size = (bits & 0x7fffu) << 13;
    // A product moves the exponent by 112 and normalises what is small.
    const Words finite = (Words)((Vector)size * 0x1p112f);
    const Words wide = size < (31u << 23) ? finite : size | 0x7f800000u;
    return (Vector)(wide | (bits & 0x8000u) << 16);
  }
#endif
};

template <class T>
static inline Vector read(const T* from, int64_t left) {
  typename Element<T>::Lanes lanes = {};
  if (left >= LANES)
    std::memcpy(&lanes, from, sizeof lanes);  // of constant size: no call
  else
    std::memcpy(&lanes, from, left * sizeof(T));
  return Element<T>::widen(lanes);
}

template <class T>
static inline void write(T* to, Vector value, int64_t left) {
  const typename Element<T>::Lanes lanes = Element<T>::narrow(value);
  if (left >= LANES)
    std::memcpy(to, &lanes, sizeof lanes);
  else
    std::memcpy(to, &lanes, left * sizeof(T));
}

// Visit the vectors of a row: visit(offset, elements left). That whole vectors are whole is known
// when the visitor is compiled, which took 3 % off attention.
template <class Visit>
static inline void for_vectors(int64_t width, Visit visit) {
  int64_t at = 0;
  for (; at + LANES <= width; at += LANES) visit(at, int64_t(LANES));
  if (at < width) visit(at, width - at);
}

// The lanes below `left` of `value`, zero elsewhere.
static inline Vector kept(Vector value, int64_t left) {
  return left >= LANES ? value : within(value, 0, left, Vector{});
}
