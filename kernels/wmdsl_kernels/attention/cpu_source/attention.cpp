// Attention under a schedule on a CPU: one parallel region, each unit owns what it writes.
#include <iterator>
#include <vector>

#include "amx.h"
#include "problem.h"
#include "vectors.h"

// Forward units are (batch, key head, share of the query tiles): enough of them for all threads.
template <class Executor, class T>
static void forward(const Problem& p) {
  const int64_t heads = p.batch * p.key_heads;
  const int64_t parts = heads >= p.threads ? 1 : (2 * p.threads + heads - 1) / heads;
#pragma omp parallel num_threads(p.threads)
  {
    Executor executor(p);
#pragma omp for schedule(dynamic, 1)
    for (int64_t unit = 0; unit < heads * parts; ++unit) {
      const int64_t head = unit / parts;
      executor.template run<T>(head / p.key_heads, head % p.key_heads, unit % parts, parts);
    }
  }
}

// A few queries over the rows of a pool that `slots` names: each sample sees all of its own,
// in a parallel region of its own.
template <class Executor, class T>
static void decode(const Problem& p) {
  std::vector<int32_t> present;
  for (int64_t b = 0; b < p.batch; ++b) {
    present.clear();
    std::copy_if(p.slots + b * p.keys, p.slots + (b + 1) * p.keys, std::back_inserter(present),
                 [](int32_t slot) { return slot >= 0; });
    const int32_t tiles[] = {0, int32_t(p.queries), 0}, ranges[] = {0, int32_t(present.size())};
    const int32_t pointers[] = {0, !present.empty()};
    Problem one = p;
    one.query.data = p.query.at<T>(b, 0);
    one.output.data = p.output.at<T>(b, 0);
    one.lse = p.lse + b * p.query_heads * p.queries;
    one.tiles = tiles, one.pointers = pointers, one.ranges = ranges, one.slots = present.data();
    one.batch = one.blocks = 1, one.keys = ranges[1];
    forward<Executor, T>(one);
  }
}

// Backward units are (batch, key head): the gradients of its keys have one writer.
template <class Executor, class T>
static void backward(const Problem& p) {
#pragma omp parallel num_threads(p.threads)
  {
    Executor executor(p);
#pragma omp for schedule(dynamic, 1)
    for (int64_t head = 0; head < p.batch * p.key_heads; ++head)
      executor.template run<T>(head / p.key_heads, head % p.key_heads);
  }
}

extern "C" {
void attention_forward_float32(const Problem* p) { forward<VectorForward, float>(*p); }
void attention_forward_float16(const Problem* p) { forward<VectorForward, Float16>(*p); }
void attention_forward_bfloat16(const Problem* p) { forward<VectorForward, Bfloat16>(*p); }
void attention_decode_float32(const Problem* p) { decode<VectorForward, float>(*p); }
void attention_decode_float16(const Problem* p) { decode<VectorForward, Float16>(*p); }
void attention_decode_bfloat16(const Problem* p) { decode<VectorForward, Bfloat16>(*p); }
void attention_backward_float32(const Problem* p) { backward<VectorBackward, float>(*p); }
void attention_backward_float16(const Problem* p) { backward<VectorBackward, Float16>(*p); }
void attention_backward_bfloat16(const Problem* p) { backward<VectorBackward, Bfloat16>(*p); }

// Whether this processor has AMX tiles and the kernel grants them: the functions below exist.
#ifdef HAS_TILES
int attention_has_tiles() { return tiles_are_granted(); }
void attention_forward_tiles(const Problem* p) { forward<TileForward, Bfloat16>(*p); }
void attention_decode_tiles(const Problem* p) { decode<TileForward, Bfloat16>(*p); }
void attention_backward_tiles(const Problem* p) { backward<TileBackward, Bfloat16>(*p); }
#else
int attention_has_tiles() { return 0; }
#endif
}
