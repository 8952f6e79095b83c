// Norm, rotation and placement of heads: one parallel region over runs of tokens, one writer each.
#include <omp.h>

#include <vector>

#include "rows.h"

// Rows [batch, tokens, heads, head dim] with contiguous head dim; strides in elements.
struct Place {
  void* data;
  int64_t batch, token, head;

  template <class T>
  T* at(int64_t b, int64_t t) const {
    return static_cast<T*>(data) + b * batch + t * token;
  }
};

struct Stream {
  Place projected, grad_projected;  // query heads, key heads, value heads of a token end to end
  const float *query_norm, *key_norm;  // or null
  const float *cos, *sin;              // [tokens, table heads, pairs], or null
  float* grad_norms;                   // [chunks, query and key heads, head dim], zero at first
  int64_t tokens, first, table_heads;
  int32_t query_across, key_across;  // whether a norm runs over all heads together
};

struct Problem {
  const Stream* streams;
  Place query, key, value;  // the joint layout, or its gradients; a pool has batch stride 0
  const int32_t* slots;     // [batch, tokens], or null: the row of a key and a value in the pool
  int64_t batch, count, heads, key_heads, head_dim;
  float epsilon;
  int32_t interleaved, threads;
};

constexpr int64_t CHUNK = 64;

static int64_t chunks_of(const Stream& stream) { return (stream.tokens + CHUNK - 1) / CHUNK; }

// Call visit(stream, sample, first token, stop, chunk) for all chunks, each on one thread.
template <class Visit>
static void for_chunks(const Problem& p, Visit visit) {
  int64_t units = 0;
  for (int64_t s = 0; s < p.count; ++s) units += p.batch * chunks_of(p.streams[s]);
#pragma omp parallel for num_threads(p.threads) schedule(static)
  for (int64_t unit = 0; unit < units; ++unit) {
    int64_t left = unit, s = 0;
    while (left >= p.batch * chunks_of(p.streams[s])) left -= p.batch * chunks_of(p.streams[s++]);
    const Stream& stream = p.streams[s];
    const int64_t start = left % chunks_of(stream) * CHUNK;
    visit(stream, left / chunks_of(stream), start, std::min(start + CHUNK, stream.tokens), left);
  }
}

static float* scratch(int64_t count) {
  static thread_local std::vector<float> floats;
  if (int64_t(floats.size()) < count) floats.resize(count);
  return floats.data();
}

// The heads of one kind, query or key, of one token: what norm and rotation need to know.
struct Kind {
  int64_t heads, offset;  // in the projection
  const float* norm;
  bool across;
};

static Kind query_kind(const Problem& p, const Stream& s) {
  return {p.heads, 0, s.query_norm, s.query_across != 0};
}

static Kind key_kind(const Problem& p, const Stream& s) {
  return {p.key_heads, p.heads, s.key_norm, s.key_across != 0};
}

// Call visit(offset, width, weight) for the parts of a token that are normalised on their own.
template <class Visit>
static void for_spans(const Problem& p, const Kind& kind, Visit visit) {
  if (kind.across) return visit(0, kind.heads * p.head_dim, kind.norm);
  for (int64_t h = 0; h < kind.heads; ++h) visit(h * p.head_dim, p.head_dim, kind.norm);
}

template <class T>
static float inverse_of(const T* x, int64_t width, float epsilon) {
  Vector squares = {};
  for_vectors(width, [&](int64_t at, int64_t left) {
    const Vector value = read(x + at, left);
    squares += value * value;
  });
  return 1.f / std::sqrt(sum_of(squares) / width + epsilon);
}

// Turn each pair of a head by its angle, forward (direction 1) or back (-1), in place.
static void turn_halves(int64_t pairs, const float* __restrict cos, const float* __restrict sin,
                        float direction, float* __restrict left, float* __restrict right) {
  for (int64_t k = 0; k < pairs; ++k) {
    const float first = left[k], second = right[k], slope = sin[k] * direction;
    left[k] = first * cos[k] - second * slope;
    right[k] = second * cos[k] + first * slope;
  }
}

static void turn_neighbours(int64_t pairs, const float* __restrict cos,
                            const float* __restrict sin, float direction, float* __restrict x) {
  for (int64_t k = 0; k < pairs; ++k) {
    const float first = x[2 * k], second = x[2 * k + 1], slope = sin[k] * direction;
    x[2 * k] = first * cos[k] - second * slope;
    x[2 * k + 1] = second * cos[k] + first * slope;
  }
}

static void turn_heads(const Problem& p, const Stream& s, int64_t token, int64_t heads,
                       float direction, float* x) {
  if (!s.cos) return;
  const int64_t pairs = p.head_dim / 2;
  for (int64_t h = 0; h < heads; ++h) {
    const int64_t row = (token * s.table_heads + (s.table_heads > 1 ? h : 0)) * pairs;
    float* head = x + h * p.head_dim;
    if (p.interleaved)
      turn_neighbours(pairs, s.cos + row, s.sin + row, direction, head);
    else
      turn_halves(pairs, s.cos + row, s.sin + row, direction, head, head + pairs);
  }
}

template <class T>
static void write_heads(const Problem& p, const float* from, int64_t heads, T* to, int64_t stride) {
  for (int64_t h = 0; h < heads; ++h)
    for_vectors(p.head_dim, [&](int64_t at, int64_t left) {
      write(to + h * stride + at, read(from + h * p.head_dim + at, left), left);
    });
}

template <class T>
static void place(const Problem& p, const Stream& s, const Kind& kind, int64_t token, const T* row,
                  T* to, int64_t stride) {
  const T* x = row + kind.offset * p.head_dim;
  float* held = scratch(kind.heads * p.head_dim);
  if (kind.norm) {
    for_spans(p, kind, [&](int64_t from, int64_t width, const float* weight) {
      const float inverse = inverse_of(x + from, width, p.epsilon);
      for_vectors(width, [&](int64_t at, int64_t left) {
        const Vector value = read(x + from + at, left) * inverse * read(weight + at, left);
        write(held + from + at, value, left);
      });
    });
  } else {
    for_vectors(kind.heads * p.head_dim, [&](int64_t at, int64_t left) {
      write(held + at, read(x + at, left), left);
    });
  }
  turn_heads(p, s, token, kind.heads, 1.f, held);
  write_heads(p, held, kind.heads, to, stride);
}

template <class T>
static void forward(const Problem& p) {
  for_chunks(p, [&](const Stream& s, int64_t b, int64_t start, int64_t stop, int64_t) {
    for (int64_t token = start; token < stop; ++token) {
      const T* row = s.projected.at<T>(b, token);
      const int64_t joint = s.first + token;
      place<T>(p, s, query_kind(p, s), token, row, p.query.at<T>(b, joint), p.query.head);
      const int64_t target = p.slots ? p.slots[b * s.tokens + token] : joint;
      if (target < 0) continue;
      place<T>(p, s, key_kind(p, s), token, row, p.key.at<T>(b, target), p.key.head);
      const T* value = row + (p.heads + p.key_heads) * p.head_dim;
      T* to = p.value.at<T>(b, target);
      for (int64_t h = 0; h < p.key_heads; ++h)
        std::memcpy(to + h * p.value.head, value + h * p.head_dim, p.head_dim * sizeof(T));
    }
  });
}

// dx = (h - n mean(h n)) / rms with h = grad * weight and n the normed row; dweight += grad * n.
template <class T>
static void norm_backward(const T* x, const float* weight, int64_t width, float inverse,
                          const float* grad, float* grad_weight, T* grad_x) {
  Vector along = {};
  for_vectors(width, [&](int64_t at, int64_t left) {
    const Vector g = read(grad + at, left), normed = read(x + at, left) * inverse;
    along += g * read(weight + at, left) * normed;
    write(grad_weight + at, read(grad_weight + at, left) + g * normed, left);
  });
  const float slope = sum_of(along) / width;
  for_vectors(width, [&](int64_t at, int64_t left) {
    const Vector h = read(grad + at, left) * read(weight + at, left);
    write(grad_x + at, (h - read(x + at, left) * (inverse * slope)) * inverse, left);
  });
}

template <class T>
static void unplace(const Problem& p, const Stream& s, const Kind& kind, int64_t token,
                    const T* row, const T* grad, int64_t stride, float* grad_norm, T* grad_row) {
  const T* x = row + kind.offset * p.head_dim;
  T* grad_x = grad_row + kind.offset * p.head_dim;
  float* held = scratch(kind.heads * p.head_dim);
  for (int64_t h = 0; h < kind.heads; ++h)
    for_vectors(p.head_dim, [&](int64_t at, int64_t left) {
      write(held + h * p.head_dim + at, read(grad + h * stride + at, left), left);
    });
  turn_heads(p, s, token, kind.heads, -1.f, held);
  if (!kind.norm) {
    for_vectors(kind.heads * p.head_dim, [&](int64_t at, int64_t left) {
      write(grad_x + at, read(held + at, left), left);
    });
    return;
  }
  for_spans(p, kind, [&](int64_t from, int64_t width, const float* weight) {
    const float inverse = inverse_of(x + from, width, p.epsilon);
    norm_backward(x + from, weight, width, inverse, held + from, grad_norm + from, grad_x + from);
  });
}

template <class T>
static void backward(const Problem& p) {
  const int64_t norms = (p.heads + p.key_heads) * p.head_dim;
  for_chunks(p, [&](const Stream& s, int64_t b, int64_t start, int64_t stop, int64_t chunk) {
    float* query_norm = s.grad_norms + chunk * norms;
    float* key_norm = query_norm + p.heads * p.head_dim;
    for (int64_t token = start; token < stop; ++token) {
      const T* row = s.projected.at<T>(b, token);
      T* grad_row = s.grad_projected.at<T>(b, token);
      const int64_t joint = s.first + token;
      unplace(p, s, query_kind(p, s), token, row, p.query.at<T>(b, joint), p.query.head,
              query_norm, grad_row);
      unplace(p, s, key_kind(p, s), token, row, p.key.at<T>(b, joint), p.key.head, key_norm,
              grad_row);
      T* grad_value = grad_row + (p.heads + p.key_heads) * p.head_dim;
      const T* value = p.value.at<T>(b, joint);
      for (int64_t h = 0; h < p.key_heads; ++h)
        std::memcpy(grad_value + h * p.head_dim, value + h * p.value.head, p.head_dim * sizeof(T));
    }
  });
}

extern "C" {
void heads_forward_float32(const Problem* p) { forward<float>(*p); }
void heads_forward_float16(const Problem* p) { forward<Float16>(*p); }
void heads_forward_bfloat16(const Problem* p) { forward<Bfloat16>(*p); }
void heads_backward_float32(const Problem* p) { backward<float>(*p); }
void heads_backward_float16(const Problem* p) { backward<Float16>(*p); }
void heads_backward_bfloat16(const Problem* p) { backward<Bfloat16>(*p); }
}
