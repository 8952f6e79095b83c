// Norm and modulation, gate and residual: one parallel region, one writer per (sample, run).
#include <omp.h>

#include <vector>

#include "rows.h"

// Rows [batch, tokens or runs, width] with contiguous width; strides in elements.
struct Rows {
  void* data;
  int64_t batch, token;

  template <class T>
  T* at(int64_t b, int64_t t) const {
    return static_cast<T*>(data) + b * batch + t * token;
  }
};

struct Problem {
  Rows x, change, shift, scale, output;
  Rows grad_output, grad_x, grad_change, grad_shift, grad_scale;
  float* statistics;        // [batch, tokens, 2]: mean and reciprocal deviation
  const int64_t* borders;   // [runs + 1]: the tokens where runs begin and end
  int64_t batch, tokens, runs, width;
  float epsilon;
  int32_t centred, threads;

  float* statistic(int64_t b, int64_t t) const { return statistics + 2 * (b * tokens + t); }
};

// Call visit(sample, run, first token, stop) for all runs, each on one thread.
template <class Visit>
static void for_runs(const Problem& p, Visit visit) {
#pragma omp parallel for num_threads(p.threads) schedule(static)
  for (int64_t unit = 0; unit < p.batch * p.runs; ++unit) {
    const int64_t run = unit % p.runs;
    visit(unit / p.runs, run, p.borders[run], p.borders[run + 1]);
  }
}

template <class T>
static void measure(const Problem& p, const T* x, float* statistic) {
  float mean = 0.f;
  if (p.centred) {
    Vector sum = {};
    for_vectors(p.width, [&](int64_t at, int64_t left) { sum += read(x + at, left); });
    mean = sum_of(sum) / p.width;
  }
  Vector squares = {};
  for_vectors(p.width, [&](int64_t at, int64_t left) {
    const Vector centred = kept(read(x + at, left) - mean, left);
    squares += centred * centred;
  });
  statistic[0] = mean;
  statistic[1] = 1.f / std::sqrt(sum_of(squares) / p.width + p.epsilon);
}

template <class T>
static void norm_forward(const Problem& p) {
  for_runs(p, [&](int64_t b, int64_t run, int64_t first, int64_t stop) {
    const T *shift = p.shift.at<T>(b, run), *scale = p.scale.at<T>(b, run);
    for (int64_t token = first; token < stop; ++token) {
      const T* x = p.x.at<T>(b, token);
      T* output = p.output.at<T>(b, token);
      float* statistic = p.statistic(b, token);
      measure(p, x, statistic);
      const float mean = statistic[0], inverse = statistic[1];
      for_vectors(p.width, [&](int64_t at, int64_t left) {
        const Vector normed = (read(x + at, left) - mean) * inverse;
        write(output + at, normed * (1.f + read(scale + at, left)) + read(shift + at, left), left);
      });
    }
  });
}

// dx = (h - mean(h) - n mean(h n)) / deviation with h = grad (1 + scale) and n the normed row.
template <class T>
static void norm_row_backward(const Problem& p, const T* x, const T* grad, const T* scale,
                              const float* statistic, float* shifts, float* scales, T* grad_x) {
  const float mean = statistic[0], inverse = statistic[1];
  Vector plain = {}, along = {};
  for_vectors(p.width, [&](int64_t at, int64_t left) {
    const Vector g = read(grad + at, left), h = g * (1.f + read(scale + at, left));
    const Vector normed = (read(x + at, left) - mean) * inverse;
    plain += h;
    along += h * normed;
    store(shifts + at, load(shifts + at) + g);
    store(scales + at, load(scales + at) + g * normed);
  });
  const float middle = p.centred ? sum_of(plain) / p.width : 0.f;
  const float slope = sum_of(along) / p.width;
  for_vectors(p.width, [&](int64_t at, int64_t left) {
    const Vector h = read(grad + at, left) * (1.f + read(scale + at, left));
    const Vector normed = (read(x + at, left) - mean) * inverse;
    write(grad_x + at, (h - middle - normed * slope) * inverse, left);
  });
}

// Per-thread sums of a run, padded to whole vectors.
static float* cleared_sums(int64_t count) {
  static thread_local std::vector<float> sums;
  sums.assign(count, 0.f);
  return sums.data();
}

template <class T>
static void flush(const float* sums, int64_t width, T* to) {
  for_vectors(width, [&](int64_t at, int64_t left) { write(to + at, load(sums + at), left); });
}

template <class T>
static void norm_backward(const Problem& p) {
  const int64_t padded = round_up(p.width, LANES);
  for_runs(p, [&](int64_t b, int64_t run, int64_t first, int64_t stop) {
    float *shifts = cleared_sums(2 * padded), *scales = shifts + padded;
    for (int64_t token = first; token < stop; ++token)
      norm_row_backward(p, p.x.at<T>(b, token), p.grad_output.at<T>(b, token),
                        p.scale.at<T>(b, run), p.statistic(b, token), shifts, scales,
                        p.grad_x.at<T>(b, token));
    flush(shifts, p.width, p.grad_shift.at<T>(b, run));
    flush(scales, p.width, p.grad_scale.at<T>(b, run));
  });
}

template <class T>
static void gate_forward(const Problem& p) {
  for_runs(p, [&](int64_t b, int64_t run, int64_t first, int64_t stop) {
    const T* gate = p.scale.at<T>(b, run);
    for (int64_t token = first; token < stop; ++token) {
      const T *x = p.x.at<T>(b, token), *change = p.change.at<T>(b, token);
      T* output = p.output.at<T>(b, token);
      for_vectors(p.width, [&](int64_t at, int64_t left) {
        const Vector moved = read(gate + at, left) * read(change + at, left);
        write(output + at, read(x + at, left) + moved, left);
      });
    }
  });
}

template <class T>
static void gate_backward(const Problem& p) {
  for_runs(p, [&](int64_t b, int64_t run, int64_t first, int64_t stop) {
    const T* gate = p.scale.at<T>(b, run);
    float* sums = cleared_sums(round_up(p.width, LANES));
    for (int64_t token = first; token < stop; ++token) {
      const T *grad = p.grad_output.at<T>(b, token), *change = p.change.at<T>(b, token);
      T* grad_change = p.grad_change.at<T>(b, token);
      for_vectors(p.width, [&](int64_t at, int64_t left) {
        const Vector g = read(grad + at, left);
        write(grad_change + at, g * read(gate + at, left), left);
        store(sums + at, load(sums + at) + g * read(change + at, left));
      });
    }
    flush(sums, p.width, p.grad_scale.at<T>(b, run));
  });
}

extern "C" {
void norm_forward_float32(const Problem* p) { norm_forward<float>(*p); }
void norm_forward_float16(const Problem* p) { norm_forward<Float16>(*p); }
void norm_forward_bfloat16(const Problem* p) { norm_forward<Bfloat16>(*p); }
void norm_backward_float32(const Problem* p) { norm_backward<float>(*p); }
void norm_backward_float16(const Problem* p) { norm_backward<Float16>(*p); }
void norm_backward_bfloat16(const Problem* p) { norm_backward<Bfloat16>(*p); }
void gate_forward_float32(const Problem* p) { gate_forward<float>(*p); }
void gate_forward_float16(const Problem* p) { gate_forward<Float16>(*p); }
void gate_forward_bfloat16(const Problem* p) { gate_forward<Bfloat16>(*p); }
void gate_backward_float32(const Problem* p) { gate_backward<float>(*p); }
void gate_backward_float16(const Problem* p) { gate_backward<Float16>(*p); }
void gate_backward_bfloat16(const Problem* p) { gate_backward<Bfloat16>(*p); }
}
