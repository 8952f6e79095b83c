// Forward and backward in fp32 vectors; halves are widened while they are packed.
#pragma once
#include "gemm.h"
#include "problem.h"
#include "rows.h"

// Rows of one head are pages apart, where hardware prefetchers do not follow.
constexpr int64_t ROWS_AHEAD = 6;

// From one row of a buffer to the next: rows a large power of two apart would crowd into a few sets
// of the nearest cache when some columns of many rows are read.
static inline int64_t spaced(int64_t width) { return width % 128 ? width : width + LANES; }

// Rows of floats in a buffer, and what they are to a product.
struct Rows {
  float* data;
  int64_t step;

  float* at(int64_t row) const { return data + row * step; }
  Rows from(int64_t row, int64_t column = 0) const { return {at(row) + column, step}; }

  Left left() const { return {data, step, 1}; }
  Left turned() const { return {data, 1, step}; }
  Right right() const { return {data, step, LANES}; }
  Result set() const { return {data, step, false}; }
  Result add() const { return {data, step, true}; }
};

template <int WRITE, class T>
static inline void prefetch_row(const T* row, int64_t head_dim) {
  for (int64_t k = 0; k < head_dim; k += 64 / int64_t(sizeof(T))) __builtin_prefetch(row + k, WRITE);
}

// Rows `span` of a matrix as rows of floats, times `factor`, zero from head_dim to a whole vector.
template <class T>
static void pack_rows(Tokens<T> from, Span span, int64_t head_dim, float factor, Rows rows) {
  float* to = rows.data;
  for (int64_t row = span.start; row < span.stop; ++row, to += rows.step) {
    const T* source = from.at(row);
    if (row + ROWS_AHEAD < from.count) prefetch_row<0>(from.at(row + ROWS_AHEAD), head_dim);
    for_vectors(head_dim, [&](int64_t k, int64_t left) {
      store(to + k, read(source + k, left) * factor);
    });
  }
}

// All rows of a matrix, transposed into panels [tokens / LANES][width][LANES], zero-padded. They
// pass through `rows`: all of them stay there with `keep`, else it holds LANES of them.
template <class T>
static void pack_panels(Tokens<T> from, int64_t head_dim, int64_t width, Rows rows, bool keep,
                        float* to) {
  for (int64_t token = 0; token < from.count; token += LANES, to += width * LANES) {
    const int64_t stop = std::min<int64_t>(token + LANES, from.count);
    const Rows group = rows.from(keep ? token : 0);
    pack_rows(from, {token, stop}, head_dim, 1.f, group);
    for (int64_t i = stop - token; i < LANES; ++i)
      std::fill(group.at(i), group.at(i) + width, 0.f);
    for (int64_t k = 0; k < width; k += LANES) {
      Vector square[LANES];
      for (int i = 0; i < LANES; ++i) square[i] = load(group.at(i) + k);
      transpose(square);
      for (int i = 0; i < LANES; ++i) store(to + (k + i) * LANES, square[i]);
    }
  }
}

// Rows of floats, times `factor`, as rows `span` of a matrix.
template <class T>
static void unpack_rows(Rows rows, Span span, int64_t head_dim, float factor, T* to,
                        int64_t stride) {
  const float* from = rows.data;
  for (int64_t row = span.start; row < span.stop; ++row, from += rows.step) {
    T* target = to + row * stride;
    prefetch_row<1>(target + ROWS_AHEAD * stride, head_dim);
    for_vectors(head_dim, [&](int64_t k, int64_t left) {
      write(target + k, load(from + k) * factor, left);
    });
  }
}

// Key spans rounded out to whole panels.
static inline Span panels_of(Span keys) {
  return {keys.start / LANES, (keys.stop + LANES - 1) / LANES};
}

// Set to `filler` what a row of scores holds for keys outside the span.
static inline void mask_edges(float* row, Span keys, Span panels, float filler) {
  const int64_t first = keys.start - panels.start * LANES;
  const int64_t stop = std::max<int64_t>(keys.stop - panels.start * LANES, 0);
  if (first) store(row, within(load(row), first, LANES, splat(filler)));
  for (int64_t c = stop / LANES * LANES; c < panels.length() * LANES; c += LANES)
    store(row + c, within(load(row + c), 0, stop - c, splat(filler)));
}

class VectorForward {
 public:
  // A tile of rows meets a span of keys slice by slice, while these are in cache.
  static constexpr int64_t ROWS = 288, SLICE = 72, KEYS = 256;

  explicit VectorForward(const Problem& problem)
      : p(problem),
        width(round_up(p.head_dim, LANES)),
        row_step(spaced(width)),
        padded(round_up(p.keys, LANES)) {}

  int64_t scratch_bytes() const {
    return Scratch::bytes<float>(padded * width) +
           Scratch::bytes<float>((padded + LANES + 2 * ROWS) * row_step) +
           Scratch::bytes<float>(SLICE * KEYS) + 2 * Scratch::bytes<float>(ROWS);
  }

  template <class T>
  void run(int64_t b, int64_t g, int64_t part, int64_t parts) {
    Scratch& scratch = thread_scratch();
    scratch.reserve(scratch_bytes());
    key_panels = scratch.take<float>(padded * width);
    value_rows = {scratch.take<float>((padded + LANES + 2 * ROWS) * row_step), row_step};
    const Rows spare = value_rows.from(padded);
    query_rows = spare.from(LANES);
    sums = query_rows.from(ROWS);
    scores = {scratch.take<float>(SLICE * KEYS), KEYS};
    largest = scratch.take<float>(ROWS);
    total = scratch.take<float>(ROWS);
    const Tokens<T> keys(p.key, b, g, p.keys, p.slots);
    const Tokens<T> values(p.value, b, g, p.keys, p.slots);
    pack_panels(keys, p.head_dim, width, spare, false, key_panels);
    pack_rows(values, {0, p.keys}, p.head_dim, 1.f, value_rows);
    for (int64_t h = g * p.group(); h < (g + 1) * p.group(); ++h)
      for_tiles(p, ROWS, MICRO_ROWS, part, parts,
                [&](Span rows, int64_t block) { tile<T>(b, h, rows, block); });
  }

 private:
  const Problem& p;
  const int64_t width, row_step, padded;
  Rows value_rows, query_rows, sums, scores;
  float *key_panels, *largest, *total;

  template <class T>
  void tile(int64_t b, int64_t h, Span rows, int64_t block) {
    const int64_t count = rows.length();
    pack_rows(Tokens<T>(p.query, b, h, p.queries), rows, p.head_dim, p.scale, query_rows);
    std::fill(largest, largest + count, -std::numeric_limits<float>::infinity());
    std::fill(total, total + count, 0.f);
    std::fill(sums.data, sums.at(count), 0.f);
    const int64_t slices = (count + SLICE - 1) / SLICE;
    const int64_t step = round_up((count + slices - 1) / slices, MICRO_ROWS);
    for_keys(p, block, KEYS, MICRO_COLUMNS * LANES, [&](Span keys) {
      for (int64_t first = 0; first < count; first += step)
        visit(rows.start, {first, std::min(first + step, count)}, keys);
    });
    put_lse(largest, 1.f, total, count,
            p.lse + (b * p.query_heads + h) * p.queries + rows.start);
    for (int64_t row = 0; row < count; ++row) {
      const float inverse = sees_nothing(p, block) ? 0.f : 1.f / total[row];
      const Span one{rows.start + row, rows.start + row + 1};
      unpack_rows(sums.from(row), one, p.head_dim, inverse, p.output.at<T>(b, h), p.output.token);
    }
  }

  // Rows are counted from `tile`, the first one of their tile.
  void visit(int64_t tile, Span rows, Span keys) {
    const Span panels = panels_of(keys);
    gemm(rows.length(), panels.length(), query_rows.from(rows.start).left(),
         {key_panels + panels.start * width * LANES, LANES, width * LANES}, width, scores.set());
    for (int64_t row = rows.start; row < rows.stop; ++row)
      soften(row, scores.at(row - rows.start), visible(p, tile + row, keys), panels);
    gemm(rows.length(), width / LANES, scores.from(0, keys.start - panels.start * LANES).left(),
         value_rows.from(keys.start).right(), keys.length(), sums.from(rows.start).add());
  }

  // Online softmax of one row of scores: turn it into weights and rescale what was summed.
  void soften(int64_t row, float* score, Span keys, Span panels) {
    const int64_t columns = panels.length() * LANES;
    mask_edges(score, keys, panels, -std::numeric_limits<float>::infinity());
    const Vector before = splat(largest[row]);
    Vector peaks[4] = {before, before, before, before};
    in_fours(columns,
             [&](int64_t c, int way) { peaks[way] = maximum(peaks[way], load(score + c)); });
    const float now =
        maximum_of(maximum(maximum(peaks[0], peaks[1]), maximum(peaks[2], peaks[3])));
    Vector added[4] = {};
    in_fours(columns, [&](int64_t c, int way) {
      const Vector weight = exponential(load(score + c) - now);
      added[way] += weight;
      store(score + c, weight);
    });
    if (now > largest[row]) {
      const float shrink = exponential(splat(largest[row] - now))[0];
      total[row] *= shrink;
      float* sum = sums.at(row);
      for (int64_t k = 0; k < width; k += LANES) store(sum + k, load(sum + k) * shrink);
    }
    total[row] += sum_of((added[0] + added[1]) + (added[2] + added[3]));
    largest[row] = now;
  }
};

class VectorBackward {
 public:
  static constexpr int64_t ROWS = 120, KEYS = 128, SCORE_ROW = KEYS + LANES;

  explicit VectorBackward(const Problem& problem)
      : p(problem),
        width(round_up(p.head_dim, LANES)),
        row_step(spaced(width)),
        padded(round_up(p.keys, LANES)) {}

  int64_t scratch_bytes() const {
    return 2 * Scratch::bytes<float>(padded * width) +
           Scratch::bytes<float>((3 * padded + LANES + 3 * ROWS) * row_step) +
           Scratch::bytes<float>(2 * ROWS * SCORE_ROW) + 2 * Scratch::bytes<float>(ROWS);
  }

  // Owns the keys of one key head: all query heads of its group add to them, in order.
  template <class T>
  void run(int64_t b, int64_t g) {
    Scratch& scratch = thread_scratch();
    scratch.reserve(scratch_bytes());
    key_panels = scratch.take<float>(padded * width);
    value_panels = scratch.take<float>(padded * width);
    key_rows = {scratch.take<float>((3 * padded + LANES + 3 * ROWS) * row_step), row_step};
    key_sums = key_rows.from(padded);
    value_sums = key_sums.from(padded);
    const Rows spare = value_sums.from(padded);
    query_rows = spare.from(LANES);
    gradient_rows = query_rows.from(ROWS);
    query_sums = gradient_rows.from(ROWS);
    weights = {scratch.take<float>(2 * ROWS * SCORE_ROW), SCORE_ROW};
    slopes = weights.from(ROWS);
    shift = scratch.take<float>(ROWS);
    delta = scratch.take<float>(ROWS);
    const Tokens<T> keys(p.key, b, g, p.keys), values(p.value, b, g, p.keys);
    pack_panels(keys, p.head_dim, width, key_rows, true, key_panels);
    pack_panels(values, p.head_dim, width, spare, false, value_panels);
    std::fill(key_sums.data, spare.data, 0.f);
    for (int64_t h = g * p.group(); h < (g + 1) * p.group(); ++h)
      for_tiles(p, ROWS, MICRO_ROWS, 0, 1,
                [&](Span rows, int64_t block) { tile<T>(b, h, rows, block); });
    const Span all{0, p.keys};
    unpack_rows(key_sums, all, p.head_dim, 1.f, p.grad_key.at<T>(b, g), p.grad_key.token);
    unpack_rows(value_sums, all, p.head_dim, 1.f, p.grad_value.at<T>(b, g), p.grad_value.token);
  }

 private:
  const Problem& p;
  const int64_t width, row_step, padded;
  Rows key_rows, key_sums, value_sums, query_rows, gradient_rows, query_sums, weights, slopes;
  float *key_panels, *value_panels, *shift, *delta;

  template <class T>
  void tile(int64_t b, int64_t h, Span rows, int64_t block) {
    const int64_t count = rows.length();
    pack_rows(Tokens<T>(p.query, b, h, p.queries), rows, p.head_dim, p.scale, query_rows);
    pack_rows(Tokens<T>(p.grad_output, b, h, p.queries), rows, p.head_dim, 1.f, gradient_rows);
    row_constants<T>(b, h, rows);
    std::fill(query_sums.data, query_sums.at(count), 0.f);
    for_keys(p, block, KEYS, MICRO_COLUMNS * LANES, [&](Span keys) { visit(rows, keys); });
    unpack_rows(query_sums, rows, p.head_dim, p.scale, p.grad_query.at<T>(b, h),
                p.grad_query.token);
  }

  // Per row: the LSE in powers of two, and output . grad_output - grad_lse.
  template <class T>
  void row_constants(int64_t b, int64_t h, Span rows) {
    const int64_t line = (b * p.query_heads + h) * p.queries + rows.start;
    pack_rows(Tokens<T>(p.output, b, h, p.queries), rows, p.head_dim, 1.f, query_sums);
    for (int64_t row = 0; row < rows.length(); ++row) {
      delta[row] = dot(query_sums.at(row), gradient_rows.at(row), width) -
                   (p.grad_lse ? p.grad_lse[line + row] : 0.f);
      shift[row] = p.lse[line + row];
    }
  }

  void visit(Span rows, Span keys) {
    const int64_t count = rows.length();
    const Span panels = panels_of(keys);
    const int64_t at = panels.start * width * LANES, skip = keys.start - panels.start * LANES;
    const int64_t vectors = width / LANES, seen = keys.length();
    gemm(count, panels.length(), query_rows.left(), {key_panels + at, LANES, width * LANES}, width,
         weights.set());
    gemm(count, panels.length(), gradient_rows.left(), {value_panels + at, LANES, width * LANES},
         width, slopes.set());
    for (int64_t row = 0; row < count; ++row) {
      differentiate(row, panels.length() * LANES);
      if (p.limits)
        for (float* line : {weights.at(row), slopes.at(row)})
          mask_edges(line, visible(p, rows.start + row, keys), panels, 0.f);
    }
    gemm(seen, vectors, weights.from(0, skip).turned(), gradient_rows.right(), count,
         value_sums.from(keys.start).add());
    gemm(seen, vectors, slopes.from(0, skip).turned(), query_rows.right(), count,
         key_sums.from(keys.start).add());
    gemm(count, vectors, slopes.from(0, skip).left(), key_rows.from(keys.start).right(), seen,
         query_sums.add());
  }

  // Scores become weights, gradients of weights become gradients of scores.
  void differentiate(int64_t row, int64_t columns) {
    float *weight = weights.at(row), *slope = slopes.at(row);
    in_fours(columns, [&](int64_t c, int) {
      const Vector chance = exponential(load(weight + c) - shift[row]);
      store(weight + c, chance);
      store(slope + c, chance * (load(slope + c) - delta[row]));
    });
  }
};
