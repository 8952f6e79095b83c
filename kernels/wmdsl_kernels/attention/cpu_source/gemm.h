// C[M, N] = or += A[M, depth] B[depth, N] in fp32, register-blocked, for operands that sit in cache.
#pragma once
#include <algorithm>

#include "vector.h"

struct Left {
  const float* data;
  int64_t row, column;  // strides; either may be 1, so that A can be read transposed
};

struct Right {
  const float* data;
  int64_t row;    // stride between depths
  int64_t panel;  // stride between groups of LANES columns
};

struct Result {
  float* data;
  int64_t row;
  bool accumulate;
};

// Inlined, because operands handed over on the stack would wait for their own stores.
template <int ROWS, int COLUMNS>
static inline __attribute__((always_inline)) void micro(Left a, Right b, int64_t depth, Result c) {
  Vector sums[ROWS][COLUMNS] = {};
  // What is written comes from a farther cache; it is there when the depths have been summed.
#pragma GCC unroll 8
  for (int i = 0; i < ROWS; ++i)
#pragma GCC unroll 8
    for (int j = 0; j < COLUMNS; ++j) __builtin_prefetch(c.data + i * c.row + j * LANES, 1);
#pragma GCC unroll 2
  for (int64_t k = 0; k < depth; ++k) {
    Vector column[COLUMNS];
#pragma GCC unroll 8
    for (int j = 0; j < COLUMNS; ++j) column[j] = load(b.data + j * b.panel);
#pragma GCC unroll 8
    for (int i = 0; i < ROWS; ++i) {
      const float scalar = a.data[i * a.row];
#pragma GCC unroll 8
      for (int j = 0; j < COLUMNS; ++j) sums[i][j] += scalar * column[j];
    }
    a.data += a.column;
    b.data += b.row;
  }
  // Adding to C last keeps the summation in two levels, which halves its rounding error.
#pragma GCC unroll 8
  for (int i = 0; i < ROWS; ++i)
#pragma GCC unroll 8
    for (int j = 0; j < COLUMNS; ++j) {
      float* cell = c.data + i * c.row + j * LANES;
      store(cell, c.accumulate ? sums[i][j] + load(cell) : sums[i][j]);
    }
}

template <int COLUMNS>
static void gemm_columns(int64_t rows, Left a, Right b, int64_t depth, Result c) {
  for (; rows >= MICRO_ROWS; rows -= MICRO_ROWS) {
    micro<MICRO_ROWS, COLUMNS>(a, b, depth, c);
    a.data += MICRO_ROWS * a.row;
    c.data += MICRO_ROWS * c.row;
  }
  static_assert(MICRO_ROWS == 6, "the remainders below are those of six rows");
  switch (rows) {
    case 5: return micro<5, COLUMNS>(a, b, depth, c);
    case 4: return micro<4, COLUMNS>(a, b, depth, c);
    case 3: return micro<3, COLUMNS>(a, b, depth, c);
    case 2: return micro<2, COLUMNS>(a, b, depth, c);
    case 1: return micro<1, COLUMNS>(a, b, depth, c);
  }
}

// `panels` groups of LANES columns, at most DEEPEST depths of them.
static void gemm_slice(int64_t rows, int64_t panels, Left a, Right b, int64_t depth, Result c) {
  for (; panels >= MICRO_COLUMNS; panels -= MICRO_COLUMNS) {
    gemm_columns<MICRO_COLUMNS>(rows, a, b, depth, c);
    b.data += MICRO_COLUMNS * b.panel;
    c.data += MICRO_COLUMNS * LANES;
  }
  if constexpr (MICRO_COLUMNS == 4) {
    if (panels == 3) return gemm_columns<3>(rows, a, b, depth, c);
    if (panels == 2) return gemm_columns<2>(rows, a, b, depth, c);
  }
  if (panels == 1) gemm_columns<1>(rows, a, b, depth, c);
}

// The columns that a micro kernel takes stay in the nearest cache for all rows.
constexpr int64_t DEEPEST = 128;

static void gemm(int64_t rows, int64_t panels, Left a, Right b, int64_t depth, Result c) {
  const int64_t slices = (depth + DEEPEST - 1) / DEEPEST;
  const int64_t step = (depth + slices - 1) / slices;
  for (int64_t at = 0; at < depth; at += step) {
    gemm_slice(rows, panels, a, b, std::min(step, depth - at), c);
    a.data += step * a.column;
    b.data += step * b.row;
    c.accumulate = true;
  }
}
