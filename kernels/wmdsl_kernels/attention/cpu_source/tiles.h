// Products of 16-row bf16 tiles on AMX, and how matrices are packed for them.
#pragma once
#include "problem.h"

#if defined(__AMX_BF16__) && defined(__AVX512BF16__) && defined(__AVX512BW__) && defined(__linux__)
#define HAS_TILES 1
#include <sys/syscall.h>
#include <unistd.h>

constexpr int64_t SIDE = 16, DEPTH = 32, TILE = SIDE * DEPTH;

// The kernel hands out the tile registers of the process on request.
static inline bool tiles_are_granted() {
  constexpr long REQUEST_PERMISSION = 0x1023, TILE_DATA = 18;
  static const bool granted = syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0;
  return granted;
}

// Configures eight full tiles for a thread, and lets results below the normal numbers be zero: they
// would take a hundred cycles each. At the end the thread gets back what it had, because libraries
// believe in their own configuration.
class TileSession {
 public:
  TileSession() {
    asm volatile("sttilecfg %0" : "=m"(before_));
    Configuration full{};
    full.palette = 1;
    for (int tile = 0; tile < 8; ++tile) full.bytes[tile] = 64, full.rows[tile] = SIDE;
    asm volatile("ldtilecfg %0" ::"m"(full));
    constexpr unsigned SMALL_IS_ZERO = 0x8040;
    _mm_setcsr(modes_ | SMALL_IS_ZERO);
  }

  ~TileSession() {
    _mm_setcsr(modes_);
    if (before_.palette)
      asm volatile("ldtilecfg %0" ::"m"(before_));
    else
      asm volatile("tilerelease");
  }

 private:
  struct Configuration {
    uint8_t palette, start, reserved[14];
    uint16_t bytes[16];
    uint8_t rows[16];
  };
  Configuration before_;
  const unsigned modes_ = _mm_getcsr();
};

// Written as assembly because the compiler's intrinsics do not say that they touch memory.
template <int N>
static inline void tile_load(const void* from, int64_t stride) {
  asm volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(from), "r"(stride), "i"(N) : "memory");
}

template <int N>
static inline void tile_store(void* to, int64_t stride) {
  asm volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(to), "r"(stride), "i"(N) : "memory");
}

template <int N>
static inline void tile_zero() {
  asm volatile("tilezero %%tmm%c0" ::"i"(N));
}

template <int SUM, int LEFT, int RIGHT>
static inline void tile_multiply() {
  asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(SUM), "i"(LEFT), "i"(RIGHT));
}

static inline __m512i line_of(const Bfloat16* from) { return _mm512_load_si512(from); }
static inline void put_line(Bfloat16* to, __m512i line) { _mm512_store_si512(to, line); }

// Blocks of 16 rows (left operand) or columns (right), each cut into tiles of 32 depths.
// A left tile holds rows of 32 depths; a right tile holds 16 lines of depth pairs for 16 columns.
struct Tiles {
  Bfloat16* data;
  int64_t block;  // elements from one block to the next

  Bfloat16* at(int64_t number, int64_t step) const { return data + number * block + step * TILE; }
  Tiles from(int64_t number, int64_t step) const { return {at(number, step), block}; }

  // Of left tiles: 32 depths of one of the 16 rows of a block.
  __m512i line(int64_t block, int64_t row, int64_t step) const {
    return line_of(at(block, step) + row * DEPTH);
  }
  void fetch(int64_t) const {}
};

struct Sums {
  float* data;
  int64_t row;
  bool accumulate;

  float* at(int64_t i, int64_t j) const { return data + SIDE * (i * row + j); }
};

template <int ROWS, int COLUMNS>
static inline void tile_block(Tiles a, Tiles b, int64_t steps, float* c, Sums sums) {
  const int64_t stride = sums.row * int64_t(sizeof(float));
  float* lower = c + SIDE * sums.row;
  if (sums.accumulate) {
    tile_load<0>(c, stride);
    if constexpr (COLUMNS == 2) tile_load<1>(c + SIDE, stride);
    if constexpr (ROWS == 2) tile_load<2>(lower, stride);
    if constexpr (ROWS == 2 && COLUMNS == 2) tile_load<3>(lower + SIDE, stride);
  } else {
    tile_zero<0>(), tile_zero<1>(), tile_zero<2>(), tile_zero<3>();
  }
  for (int64_t step = 0; step < steps; ++step) {
    tile_load<6>(b.at(0, step), 64);
    tile_load<4>(a.at(0, step), 64);
    tile_multiply<0, 4, 6>();
    if constexpr (COLUMNS == 2) {
      tile_load<7>(b.at(1, step), 64);
      tile_multiply<1, 4, 7>();
    }
    if constexpr (ROWS == 2) {
      tile_load<5>(a.at(1, step), 64);
      tile_multiply<2, 5, 6>();
    }
    if constexpr (ROWS == 2 && COLUMNS == 2) tile_multiply<3, 5, 7>();
  }
  tile_store<0>(c, stride);
  if constexpr (COLUMNS == 2) tile_store<1>(c + SIDE, stride);
  if constexpr (ROWS == 2) tile_store<2>(lower, stride);
  if constexpr (ROWS == 2 && COLUMNS == 2) tile_store<3>(lower + SIDE, stride);
}

// C = or += A B over `rows` x `columns` blocks and `steps` tiles of depth.
static inline void tile_product(int64_t rows, int64_t columns, Tiles a, Tiles b, int64_t steps,
                                Sums c) {
  for (int64_t j = 0; j < columns; j += 2) {
    const Tiles right = b.from(j, 0);
    const bool wide = j + 1 < columns;
    for (int64_t i = 0; i < rows; i += 2) {
      const Tiles left = a.from(i, 0);
      float* at = c.at(i, j);
      if (i + 1 < rows)
        wide ? tile_block<2, 2>(left, right, steps, at, c)
             : tile_block<2, 1>(left, right, steps, at, c);
      else
        wide ? tile_block<1, 2>(left, right, steps, at, c)
             : tile_block<1, 1>(left, right, steps, at, c);
    }
  }
}

struct HalfTable {
  alignas(64) uint16_t at[32];

  template <class Rule>
  constexpr explicit HalfTable(Rule rule) : at{} {
    for (int lane = 0; lane < 32; ++lane) at[lane] = uint16_t(rule(lane));
  }
};

// Lanes of two lines, the second one's numbered from 32.
static constexpr HalfTable PAIRS_LOW([](int lane) { return lane / 2 + 32 * (lane % 2); });
static constexpr HalfTable PAIRS_HIGH([](int lane) { return 16 + lane / 2 + 32 * (lane % 2); });
static constexpr HalfTable EVENS([](int lane) { return 2 * lane; });
static constexpr HalfTable ODDS([](int lane) { return 2 * lane + 1; });

static inline __m512i choose(__m512i first, const HalfTable& table, __m512i second) {
  return _mm512_permutex2var_epi16(first, _mm512_load_si512(table.at), second);
}

static inline __m512i narrow_line(Vector low, Vector high) {
  return (__m512i)_mm512_cvtne2ps_pbh((__m512)high, (__m512)low);
}

// Up to 32 values of a row, zero beyond `count`.
static inline __m512i row_line(const Bfloat16* from, int64_t count) {
  const __mmask32 mask = count >= DEPTH ? ~__mmask32(0) : (__mmask32(1) << count) - 1;
  return _mm512_maskz_loadu_epi16(mask, from);
}

// Rows of one head in lines of 32 depths, zero beyond the last row and the head dim.
class Lines {
 public:
  Lines(Tokens<Bfloat16> tokens, Span span, int64_t head_dim)
      : tokens(tokens), start(span.start), stop(span.stop), head_dim(head_dim) {}

  __m512i line(int64_t block, int64_t row, int64_t step) const {
    const int64_t at = start + block * SIDE + row;
    if (at >= stop) return _mm512_setzero_si512();
    return row_line(tokens.at(at) + step * DEPTH, head_dim - step * DEPTH);
  }

  // Start to bring 16 rows nearer: rows lie pages apart, where hardware prefetchers do not follow.
  // Those beyond the last are asked for next.
  void fetch(int64_t block) const {
    const int64_t first = start + block * SIDE, last = std::min(first + SIDE, tokens.count);
    for (int64_t row = first; row < last; ++row)
      for (int64_t k = 0; k < head_dim; k += DEPTH) __builtin_prefetch(tokens.at(row) + k, 0);
  }

 private:
  Tokens<Bfloat16> tokens;
  int64_t start, stop, head_dim;
};

// `blocks` of 16 rows as left tiles.
static inline void pack_left(Lines from, int64_t blocks, int64_t steps, Tiles to) {
  for (int64_t block = 0; block < blocks; ++block) {
    from.fetch(block + 1);
    for (int64_t row = 0; row < SIDE; ++row)
      for (int64_t step = 0; step < steps; ++step)
        put_line(to.at(block, step) + row * DEPTH, from.line(block, row, step));
  }
}

// A block of 16 rows, `Lines` or left tiles, becomes a right tile of the transposed matrix: rows turn
// into columns, depths stay.
template <class Source>
static inline void turn(Source from, int64_t block, int64_t step, Bfloat16* right) {
  Vector words[LANES];
  for (int row = 0; row < SIDE; ++row) words[row] = (Vector)from.line(block, row, step);
  transpose(words);
  for (int row = 0; row < SIDE; ++row) store((float*)(right + row * DEPTH), words[row]);
}

template <class Source>
static inline void turn_all(Source from, int64_t blocks, int64_t steps, Tiles right) {
  for (int64_t block = 0; block < blocks; ++block) {
    from.fetch(block + 1);
    for (int64_t step = 0; step < steps; ++step) turn(from, block, step, right.at(block, step));
  }
}

// Rows in [width steps] become right tiles [width blocks][row steps]: rows turn into depths. An even
// number of row blocks.
template <class Source>
static inline void pair_all(Source from, int64_t blocks, int64_t steps, Tiles right) {
  for (int64_t block = 0; block < blocks; ++block) {
    from.fetch(block + 1);
    for (int64_t step = 0; step < steps; ++step)
      for (int64_t pair = 0; pair < SIDE / 2; ++pair) {
        const __m512i first = from.line(block, 2 * pair, step);
        const __m512i second = from.line(block, 2 * pair + 1, step);
        const int64_t line = (block % 2 * SIDE / 2 + pair) * DEPTH;
        put_line(right.at(2 * step, block / 2) + line, choose(first, PAIRS_LOW, second));
        put_line(right.at(2 * step + 1, block / 2) + line, choose(first, PAIRS_HIGH, second));
      }
  }
}

// Left tiles [row blocks][width steps] become left tiles [width blocks][row steps] of the transposed
// matrix. An even number of row blocks.
static inline void transpose_all(Tiles left, int64_t blocks, int64_t steps, Tiles to) {
  alignas(64) Bfloat16 halves[2][TILE];
  for (int64_t block = 0; block < blocks; block += 2)
    for (int64_t step = 0; step < steps; ++step) {
      turn(left, block, step, halves[0]);
      turn(left, block + 1, step, halves[1]);
      for (int64_t word = 0; word < SIDE; ++word) {
        const __m512i first = line_of(halves[0] + word * DEPTH);
        const __m512i second = line_of(halves[1] + word * DEPTH);
        Bfloat16* target = to.at(2 * step + word / 8, block / 2) + word % 8 * 2 * DEPTH;
        put_line(target, choose(first, EVENS, second));
        put_line(target + DEPTH, choose(first, ODDS, second));
      }
    }
}

// 2^x, relative error 3e-6, without a test for small results: they vanish in a `TileSession`.
static inline Vector power_of_two(Vector x) {
  constexpr int ROUND_DOWN = 1;
  const Vector part = (Vector)_mm512_reduce_ps((__m512)x, ROUND_DOWN);
  Vector power = splat(1.35341678e-2f);
  power = power * part + 5.20114601e-2f;
  power = power * part + 2.41442755e-1f;
  power = power * part + 6.93003833e-1f;
  power = power * part + 1.00000262f;
  return (Vector)_mm512_scalef_ps((__m512)power, (__m512)x);
}

constexpr float LOG2_E = 1.4426950408889634f, LN_2 = 0.6931471805599453f;
#endif
