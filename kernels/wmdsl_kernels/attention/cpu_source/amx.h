// Forward and backward in bf16 on AMX tiles; scores, sums and statistics stay in fp32.
#pragma once
#include "tiles.h"

#ifdef HAS_TILES

// Rows of floats, times `factor`, as rows of a bf16 matrix.
static inline void put_rows(const float* from, int64_t row, Span span, int64_t head_dim,
                            const float* factors, float factor, Bfloat16* to, int64_t stride) {
  for (int64_t at = span.start; at < span.stop; ++at, from += row) {
    for (int64_t k = 0; k < head_dim; k += DEPTH)
      __builtin_prefetch(to + (at + SIDE) * stride + k, 1);
    const Vector times = splat(factors ? factor * factors[at - span.start] : factor);
    for (int64_t k = 0; k < head_dim; k += DEPTH) {
      const int64_t left = head_dim - k;
      const __mmask32 mask = left >= DEPTH ? ~__mmask32(0) : (__mmask32(1) << left) - 1;
      const __m512i line = narrow_line(load(from + k) * times, load(from + k + LANES) * times);
      _mm512_mask_storeu_epi16(to + at * stride + k, mask, line);
    }
  }
}

class TileForward {
 public:
  static constexpr int64_t ROWS = 64, MOST_KEYS = 512;

  explicit TileForward(const Problem& problem)
      : p(problem),
        width(round_up(p.head_dim, DEPTH)),
        steps(width / DEPTH),
        padded(round_up(p.keys, DEPTH)),
        visited(std::min(padded, MOST_KEYS)),
        sum_row(width + LANES),
        score_row(visited + LANES) {}

  int64_t scratch_bytes() const {
    return 2 * Scratch::bytes<Bfloat16>(padded * width) + Scratch::bytes<Bfloat16>(ROWS * width) +
           Scratch::bytes<Bfloat16>(ROWS * visited) + Scratch::bytes<float>(ROWS * sum_row) +
           Scratch::bytes<float>(ROWS * score_row) + 3 * Scratch::bytes<float>(ROWS);
  }

  template <class T>
  void run(int64_t b, int64_t g, int64_t part, int64_t parts) {
    TileSession session;
    Scratch& scratch = thread_scratch();
    scratch.reserve(scratch_bytes());
    key_turned = {scratch.take<Bfloat16>(padded * width), SIDE * width};
    value_pairs = {scratch.take<Bfloat16>(padded * width), SIDE * padded};
    query_rows = {scratch.take<Bfloat16>(ROWS * width), SIDE * width};
    weights = {scratch.take<Bfloat16>(ROWS * visited), SIDE * visited};
    sums = scratch.take<float>(ROWS * sum_row);
    scores = scratch.take<float>(ROWS * score_row);
    largest = scratch.take<float>(ROWS);
    total = scratch.take<float>(ROWS);
    inverse = scratch.take<float>(ROWS);
    const Span all{0, p.keys};
    const Lines keys({p.key, b, g, p.keys, p.slots}, all, p.head_dim);
    const Lines values({p.value, b, g, p.keys, p.slots}, all, p.head_dim);
    turn_all(keys, padded / SIDE, steps, key_turned);
    pair_all(values, padded / SIDE, steps, value_pairs);
    for (int64_t h = g * p.group(); h < (g + 1) * p.group(); ++h)
      for_tiles(p, ROWS, SIDE, part, parts,
                [&](Span span, int64_t block) { tile<T>(b, h, span, block); });
  }

 private:
  const Problem& p;
  const int64_t width, steps, padded;
  const int64_t visited;             // as many keys at a time as keep a score row in cache
  const int64_t sum_row, score_row;  // strides beyond a power of two, which caches dislike
  Tiles key_turned, value_pairs, query_rows, weights;
  float *sums, *scores, *largest, *total, *inverse;

  template <class T>
  void tile(int64_t b, int64_t h, Span span, int64_t block) {
    const int64_t count = span.length(), blocks = (count + SIDE - 1) / SIDE;
    pack_left(Lines({p.query, b, h, p.queries}, span, p.head_dim), blocks, steps, query_rows);
    std::fill(largest, largest + count, -std::numeric_limits<float>::infinity());
    std::fill(total, total + count, 0.f);
    bool first = true;
    for_keys(p, block, visited, DEPTH, [&](Span keys) {
      visit(span, blocks, keys, first);
      first = false;
    });
    if (first) std::fill(sums, sums + count * sum_row, 0.f);
    put_lse(largest, LN_2, total, count,
            p.lse + (b * p.query_heads + h) * p.queries + span.start);
    for (int64_t row = 0; row < count; ++row) inverse[row] = first ? 0.f : 1.f / total[row];
    put_rows(sums, sum_row, span, p.head_dim, inverse, 1.f, p.output.at<T>(b, h), p.output.token);
  }

  void visit(Span rows, int64_t blocks, Span keys, bool first) {
    const int64_t base = keys.start / DEPTH * DEPTH;
    const int64_t columns = (keys.stop - base + SIDE - 1) / SIDE;
    const int64_t depths = (keys.stop - base + DEPTH - 1) / DEPTH;
    tile_product(blocks, columns, query_rows, key_turned.from(base / SIDE, 0), steps,
                 {scores, score_row, false});
    // All peaks of a block, then all weights: what joins the lanes of a row holds up no other row.
    for (int64_t block = 0; block < blocks; ++block) {
      const Span some{block * SIDE, std::min(block * SIDE + SIDE, rows.length())};
      float peaks[SIDE];
      for (int64_t row = some.start; row < some.stop; ++row) {
        const Span seen = visible(p, rows.start + row, keys);
        peaks[row - some.start] =
            peak(row, {seen.start - base, std::max<int64_t>(seen.stop - base, 0)}, depths);
      }
      for (int64_t row = some.start; row < some.stop; ++row)
        soften(row, peaks[row - some.start], depths, first);
    }
    tile_product(blocks, width / SIDE, weights, value_pairs.from(0, base / DEPTH), depths,
                 {sums, sum_row, !first});
  }

  // The largest score so far of a row, in powers of two. Hides those that the row does not see.
  float peak(int64_t row, Span seen, int64_t depths) {
    float* score = scores + row * score_row;
    hide(score, seen, depths);
    Vector low = load(score), high = load(score + LANES);
    for (int64_t c = DEPTH; c < depths * DEPTH; c += DEPTH) {
      low = maximum(low, load(score + c));
      high = maximum(high, load(score + c + LANES));
    }
    return std::max(largest[row], maximum_of(maximum(low, high)) * p.scale * LOG2_E);
  }

  // Online softmax of one row of scores: weights in bf16, and what was summed is rescaled.
  void soften(int64_t row, float now, int64_t depths, bool first) {
    const float* score = scores + row * score_row;
    Bfloat16* line = weights.at(row / SIDE, 0) + row % SIDE * DEPTH;
    const Vector scale = splat(p.scale * LOG2_E);
    Vector added[2] = {};
    for (int64_t step = 0; step < depths; ++step) {
      const Vector low = power_of_two(load(score + step * DEPTH) * scale - now);
      const Vector high = power_of_two(load(score + step * DEPTH + LANES) * scale - now);
      added[0] += low;
      added[1] += high;
      put_line(line + step * TILE, narrow_line(low, high));
    }
    if (!first && now > largest[row]) {
      const float shrink = std::exp2(largest[row] - now);
      total[row] *= shrink;
      float* sum = sums + row * sum_row;
      for (int64_t k = 0; k < width; k += LANES) store(sum + k, load(sum + k) * shrink);
    }
    total[row] += sum_of(added[0] + added[1]);
    largest[row] = now;
  }

  // Minus infinity for keys outside of those seen; scales are positive.
  static void hide(float* score, Span seen, int64_t depths) {
    const Vector never = splat(-std::numeric_limits<float>::infinity());
    for (int64_t c = 0; c < seen.start; c += LANES)
      store(score + c, within(load(score + c), seen.start - c, LANES, never));
    for (int64_t c = seen.stop / LANES * LANES; c < depths * DEPTH; c += LANES)
      store(score + c, within(load(score + c), 0, seen.stop - c, never));
  }
};

class TileBackward {
 public:
  static constexpr int64_t ROWS = 128, KEYS = 256;

  explicit TileBackward(const Problem& problem)
      : p(problem),
        width(round_up(p.head_dim, DEPTH)),
        steps(width / DEPTH),
        padded(round_up(p.keys, DEPTH)),
        sum_row(width + LANES) {}

  int64_t scratch_bytes() const {
    return 3 * Scratch::bytes<Bfloat16>(padded * width) +
           2 * Scratch::bytes<float>(padded * sum_row) + 6 * Scratch::bytes<Bfloat16>(ROWS * width) +
           3 * Scratch::bytes<Bfloat16>(ROWS * KEYS) +
           Scratch::bytes<float>(width * (ROWS + LANES)) + Scratch::bytes<float>(ROWS * sum_row) +
           2 * Scratch::bytes<float>(DEPTH * DEPTH) + 2 * Scratch::bytes<float>(ROWS) +
           Scratch::bytes<int32_t>(ROWS);
  }

  // Owns the keys of one key head: all query heads of its group add to them, in order.
  template <class T>
  void run(int64_t b, int64_t g) {
    TileSession session;
    Scratch& scratch = thread_scratch();
    scratch.reserve(scratch_bytes());
    const auto operand = [&](int64_t rows, int64_t columns) {
      return Tiles{scratch.take<Bfloat16>(rows * columns), SIDE * columns};
    };
    key_rows = operand(padded, width);
    value_rows = operand(padded, width);
    key_across = operand(width, padded);
    query_rows = operand(ROWS, width);
    query_turned = operand(ROWS, width);
    query_pairs = operand(width, ROWS);
    gradient_rows = operand(ROWS, width);
    gradient_turned = operand(ROWS, width);
    gradient_pairs = operand(width, ROWS);
    weights = operand(KEYS, ROWS);
    slopes = operand(KEYS, ROWS);
    slope_pairs = operand(ROWS, KEYS);
    key_sums = scratch.take<float>(padded * sum_row);
    value_sums = scratch.take<float>(padded * sum_row);
    query_sums = scratch.take<float>(width * (ROWS + LANES));
    turned_sums = scratch.take<float>(ROWS * sum_row);
    scores = scratch.take<float>(DEPTH * DEPTH);
    changes = scratch.take<float>(DEPTH * DEPTH);
    shift = scratch.take<float>(ROWS);
    delta = scratch.take<float>(ROWS);
    limits = scratch.take<int32_t>(ROWS);
    const Span all{0, p.keys};
    const int64_t blocks = padded / SIDE;
    pack_left(Lines({p.key, b, g, p.keys}, all, p.head_dim), blocks, steps, key_rows);
    pack_left(Lines({p.value, b, g, p.keys}, all, p.head_dim), blocks, steps, value_rows);
    transpose_all(key_rows, blocks, steps, key_across);
    std::fill(key_sums, key_sums + padded * sum_row, 0.f);
    std::fill(value_sums, value_sums + padded * sum_row, 0.f);
    for (int64_t h = g * p.group(); h < (g + 1) * p.group(); ++h)
      for_tiles(p, ROWS, DEPTH, 0, 1,
                [&](Span span, int64_t block) { tile<T>(b, h, span, block); });
    put_rows(key_sums, sum_row, all, p.head_dim, nullptr, p.scale, p.grad_key.at<T>(b, g),
             p.grad_key.token);
    put_rows(value_sums, sum_row, all, p.head_dim, nullptr, 1.f, p.grad_value.at<T>(b, g),
             p.grad_value.token);
  }

 private:
  const Problem& p;
  const int64_t width, steps, padded, sum_row;
  Tiles key_rows, value_rows, key_across, query_rows, query_turned, query_pairs;
  Tiles gradient_rows, gradient_turned, gradient_pairs, weights, slopes, slope_pairs;
  float *key_sums, *value_sums, *query_sums, *turned_sums, *scores, *changes, *shift, *delta;
  int32_t* limits;

  template <class T>
  void tile(int64_t b, int64_t h, Span span, int64_t block) {
    const int64_t count = span.length(), depths = (count + DEPTH - 1) / DEPTH, blocks = 2 * depths;
    pack_left(Lines({p.query, b, h, p.queries}, span, p.head_dim), blocks, steps, query_rows);
    turn_all(query_rows, blocks, steps, query_turned);
    pair_all(query_rows, blocks, steps, query_pairs);
    const Lines gradients({p.grad_output, b, h, p.queries}, span, p.head_dim);
    pack_left(gradients, blocks, steps, gradient_rows);
    turn_all(gradient_rows, blocks, steps, gradient_turned);
    pair_all(gradient_rows, blocks, steps, gradient_pairs);
    row_constants<T>(b, h, span, blocks);
    bool first = true;
    for_keys(p, block, KEYS, DEPTH, [&](Span keys) {
      visit(depths, keys, first);
      first = false;
    });
    if (first) std::fill(query_sums, query_sums + width * (ROWS + LANES), 0.f);
    turn_sums(blocks);
    put_rows(turned_sums, sum_row, span, p.head_dim, nullptr, p.scale, p.grad_query.at<T>(b, h),
             p.grad_query.token);
  }

  // Per row: the LSE in powers of two, and output . grad_output - grad_lse. Rows that pad a tile get
  // weight 0.
  template <class T>
  void row_constants(int64_t b, int64_t h, Span span, int64_t blocks) {
    const int64_t line = (b * p.query_heads + h) * p.queries + span.start;
    const T* output = p.output.at<T>(b, h);
    for (int64_t row = 0; row < span.length(); ++row) {
      __m512 sum = _mm512_setzero_ps();
      const T* source = output + (span.start + row) * p.output.token;
      for (int64_t step = 0; step < steps; ++step) {
        const __m512i ours = row_line(source + step * DEPTH, p.head_dim - step * DEPTH);
        const __m512i theirs = gradient_rows.line(row / SIDE, row % SIDE, step);
        sum = _mm512_dpbf16_ps(sum, (__m512bh)ours, (__m512bh)theirs);
      }
      delta[row] = sum_of((Vector)sum) - (p.grad_lse ? p.grad_lse[line + row] : 0.f);
      shift[row] = p.lse[line + row] * LOG2_E;
      if (p.limits) limits[row] = p.limits[span.start + row];
    }
    for (int64_t row = span.length(); row < blocks * SIDE; ++row) {
      delta[row] = 0.f;
      shift[row] = std::numeric_limits<float>::infinity();
    }
  }

  void visit(int64_t depths, Span keys, bool first) {
    const int64_t base = keys.start / DEPTH * DEPTH;
    const int64_t key_depths = (keys.stop - base + DEPTH - 1) / DEPTH;
    const Span seen{keys.start - base, keys.stop - base};
    for (int64_t i = 0; i < key_depths; ++i)
      for (int64_t j = 0; j < depths; ++j) {
        const int64_t block = base / SIDE + 2 * i;
        tile_product(2, 2, key_rows.from(block, 0), query_turned.from(2 * j, 0), steps,
                     {scores, DEPTH, false});
        tile_product(2, 2, value_rows.from(block, 0), gradient_turned.from(2 * j, 0), steps,
                     {changes, DEPTH, false});
        differentiate(i, j, base, seen);
      }
    tile_product(2 * key_depths, width / SIDE, weights, gradient_pairs, depths,
                 {value_sums + base * sum_row, sum_row, true});
    tile_product(2 * key_depths, width / SIDE, slopes, query_pairs, depths,
                 {key_sums + base * sum_row, sum_row, true});
    tile_product(width / SIDE, 2 * depths, key_across.from(0, base / DEPTH), slope_pairs,
                 key_depths, {query_sums, ROWS + LANES, !first});
  }

  // A block of 32 keys x 32 queries: scores become weights, changes of weights those of scores.
  void differentiate(int64_t i, int64_t j, int64_t base, Span seen) {
    const Vector scale = splat(p.scale * LOG2_E);
    const float *shifts = shift + j * DEPTH, *deltas = delta + j * DEPTH;
    const Vector shift_low = load(shifts), shift_high = load(shifts + LANES);
    const Vector delta_low = load(deltas), delta_high = load(deltas + LANES);
    for (int64_t key = 0; key < DEPTH; ++key) {
      const int64_t at = i * DEPTH + key;
      __m512i weight = _mm512_setzero_si512(), slope = _mm512_setzero_si512();
      if (seen.start <= at && at < seen.stop) {
        const float *score = scores + key * DEPTH, *change = changes + key * DEPTH;
        Vector low = power_of_two(load(score) * scale - shift_low);
        Vector high = power_of_two(load(score + LANES) * scale - shift_high);
        if (p.limits) {
          const int32_t* stops = limits + j * DEPTH;
          low = below(base + at, stops) ? low : Vector{};
          high = below(base + at, stops + LANES) ? high : Vector{};
        }
        weight = narrow_line(low, high);
        slope = narrow_line(low * (load(change) - delta_low),
                            high * (load(change + LANES) - delta_high));
      }
      put_line(weights.at(at / SIDE, j) + at % SIDE * DEPTH, weight);
      put_line(slopes.at(at / SIDE, j) + at % SIDE * DEPTH, slope);
    }
    for (int64_t pair = 0; pair < DEPTH / 2; ++pair) {
      const Bfloat16* rows = slopes.at(2 * i + pair / 8, j) + pair % 8 * 2 * DEPTH;
      const __m512i even = line_of(rows), odd = line_of(rows + DEPTH);
      put_line(slope_pairs.at(2 * j, i) + pair * DEPTH, choose(even, PAIRS_LOW, odd));
      put_line(slope_pairs.at(2 * j + 1, i) + pair * DEPTH, choose(even, PAIRS_HIGH, odd));
    }
  }

  // The lanes whose limit lies beyond a key.
  static Integers below(int64_t key, const int32_t* stops) {
    Integers limit;
    std::memcpy(&limit, stops, sizeof limit);
    return limit > int32_t(key);
  }

  // The sums of the query gradient lie [width][rows]; turn them into rows.
  void turn_sums(int64_t blocks) {
    for (int64_t k = 0; k < width; k += LANES)
      for (int64_t row = 0; row < blocks * SIDE; row += LANES) {
        Vector square[LANES];
        for (int i = 0; i < LANES; ++i)
          square[i] = load(query_sums + (k + i) * (ROWS + LANES) + row);
        transpose(square);
        for (int i = 0; i < LANES; ++i) store(turned_sums + (row + i) * sum_row + k, square[i]);
      }
  }
};
#endif
