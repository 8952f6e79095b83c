// One attention call as the Python side hands it over, and how it is cut into work.
#pragma once
#include <omp.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>

#include "vector.h"

// A tensor [batch, tokens, heads, head dim] with contiguous head dim; strides in elements.
struct Tensor {
  void* data;
  int64_t batch, token, head;

  template <class T>
  T* at(int64_t b, int64_t h) const {
    return static_cast<T*>(data) + b * batch + h * head;
  }
};

struct Problem {
  Tensor query, key, value, output, grad_output, grad_query, grad_key, grad_value;
  float* lse;             // [batch, query heads, queries]
  const float* grad_lse;  // the same, or null
  const int32_t* tiles;   // [blocks, 3]: start, stop, block
  const int32_t* pointers;
  const int32_t* ranges;  // [r, 2]
  const int32_t* limits;  // [queries]: the end of what each sees of its block's ranges; or null: all
  const int32_t* slots;   // [batch, keys]: where keys and values lie in a pool, -1 for none; or null
  int64_t batch, queries, keys, query_heads, key_heads, head_dim, blocks;
  float scale;
  int32_t threads;

  int64_t group() const { return query_heads / key_heads; }
};

struct Span {
  int64_t start, stop;
  int64_t length() const { return stop - start; }
};

// The rows of one head of a tensor: `count` tokens, or those that `slots` names.
template <class T>
struct Tokens {
  const T* data;
  int64_t stride, count;
  const int32_t* slots;

  Tokens(const Tensor& tensor, int64_t b, int64_t h, int64_t count, const int32_t* slots = nullptr)
      : data(tensor.at<T>(b, h)), stride(tensor.token), count(count), slots(slots) {}
  const T* at(int64_t row) const { return data + (slots ? slots[row] : row) * stride; }
};

// A growing, 64-byte aligned buffer that each thread keeps between calls.
class Scratch {
 public:
  void reserve(int64_t bytes) {
    if (bytes > size_) {
      std::free(base_);
      size_ = round_up(bytes, 4096);
      base_ = static_cast<char*>(std::aligned_alloc(4096, size_));
    }
    used_ = 0;
  }

  template <class T>
  T* take(int64_t count) {
    T* part = reinterpret_cast<T*>(base_ + used_);
    used_ += bytes<T>(count);
    return part;
  }

  template <class T>
  static constexpr int64_t bytes(int64_t count) {
    return round_up(count * int64_t(sizeof(T)), 64);
  }

  ~Scratch() { std::free(base_); }

 private:
  char* base_ = nullptr;
  int64_t size_ = 0, used_ = 0;
};

static inline Scratch& thread_scratch() {
  static thread_local Scratch scratch;
  return scratch;
}

// Call visit(rows, block) for the query tiles of about equal size, at most `size` rows, that fall to
// `part` of `parts`.
template <class Visit>
static void for_tiles(const Problem& p, int64_t size, int64_t multiple, int64_t part, int64_t parts,
                      Visit visit) {
  int64_t number = 0;
  for (int64_t block = 0; block < p.blocks; ++block) {
    const int64_t first = p.tiles[3 * block], stop = p.tiles[3 * block + 1];
    const int64_t count = (stop - first + size - 1) / size;
    const int64_t step = round_up((stop - first + count - 1) / count, multiple);
    for (int64_t start = first; start < stop; start += step)
      if (number++ % parts == part) visit(Span{start, std::min(start + step, stop)}, block);
  }
}

// Call visit(keys) for the key spans of a block: its ranges, cut at multiples of `multiple` into as
// few spans of about equal length as fit into `size` keys, counted from such a multiple.
template <class Visit>
static void for_keys(const Problem& p, int64_t block, int64_t size, int64_t multiple, Visit visit) {
  for (int64_t r = p.pointers[block]; r < p.pointers[block + 1]; ++r) {
    const int64_t first = p.ranges[2 * r], stop = p.ranges[2 * r + 1];
    const int64_t base = first / multiple * multiple, count = (stop - base + size - 1) / size;
    const int64_t step = round_up((stop - base + count - 1) / count, multiple);
    for (int64_t start = base; start < stop; start += step)
      visit(Span{std::max(start, first), std::min(start + step, stop)});
  }
}

// What query `row` sees of a span of keys: nothing, if it stops where it starts or before.
static inline Span visible(const Problem& p, int64_t row, Span keys) {
  return p.limits ? Span{keys.start, std::min<int64_t>(keys.stop, p.limits[row])} : keys;
}

static inline bool sees_nothing(const Problem& p, int64_t block) {
  return p.pointers[block] == p.pointers[block + 1];
}

// The LSE of `count` rows, from the largest score of each, counted in `unit`, and the sum of weights.
// Reads whole vectors.
static inline void put_lse(const float* largest, float unit, const float* total, int64_t count,
                           float* lse) {
  for (int64_t row = 0; row < count; row += LANES) {
    const Vector rows = load(largest + row) * unit + logarithm(load(total + row));
    std::memcpy(lse + row, &rows, std::min<int64_t>(count - row, LANES) * sizeof(float));
  }
}
