// The leaky integrate-and-fire layer from rest in one pass over memory, forward and backward,
// with the rounding of the tensor operations in neuron.py (compile with -ffp-contract=off).
//
// x, spikes, grad, out: T blocks of M elements; element m of step t at [t * stride + m]. The
// membrane is not stored: backward charges it again from x. tau is 2, so the leak is exact.
//
// With a batch norm (scale != nullptr) x is its input; channel of element m is (m / S) % C.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>
#include <immintrin.h>

#if defined(__AVX512F__)
using V = __m512;
constexpr int64_t W = 16;
static inline V load(const float* p) { return _mm512_loadu_ps(p); }
static inline void store(float* p, V v) { _mm512_storeu_ps(p, v); }
static inline V all(float f) { return _mm512_set1_ps(f); }
static inline V fma(V a, V b, V c) { return _mm512_fmadd_ps(a, b, c); }
static inline V nearest(V a) {
  return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
static inline V times_power(V a, V q) { return _mm512_scalef_ps(a, q); }
static inline V clamp(V a, V low, V high) {
  return _mm512_min_ps(_mm512_max_ps(a, low), high);
}
// a where h >= threshold, else b
static inline V fired(V h, V threshold, V a, V b) {
  return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(h, threshold, _CMP_GE_OQ), b, a);
}
static inline V load(const uint16_t* p) {
  __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)p));
  return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}
static inline void store(uint16_t* p, V v) {
  // Round to nearest even, as torch does.
  __m512i bits = _mm512_castps_si512(v);
  __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  __m512i up = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
  _mm256_storeu_si256((__m256i*)p, _mm512_cvtepi32_epi16(_mm512_srli_epi32(up, 16)));
}
#else
using V = __m256;
constexpr int64_t W = 8;
static inline V load(const float* p) { return _mm256_loadu_ps(p); }
static inline void store(float* p, V v) { _mm256_storeu_ps(p, v); }
static inline V all(float f) { return _mm256_set1_ps(f); }
static inline V fma(V a, V b, V c) { return _mm256_fmadd_ps(a, b, c); }
static inline V nearest(V a) {
  return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
static inline V power(__m256i q) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(q, _mm256_set1_epi32(127)), 23));
}
static inline V times_power(V a, V q) {
  // In two factors, as one of them could overflow.
  const __m256i whole = _mm256_cvtps_epi32(q), half = _mm256_srai_epi32(whole, 1);
  return a * power(half) * power(_mm256_sub_epi32(whole, half));
}
static inline V clamp(V a, V low, V high) {
  return _mm256_min_ps(_mm256_max_ps(a, low), high);
}
static inline V fired(V h, V threshold, V a, V b) {
  return _mm256_blendv_ps(b, a, _mm256_cmp_ps(h, threshold, _CMP_GE_OQ));
}
static inline V load(const uint16_t* p) {
  __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i*)p));
  return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
}
static inline void store(uint16_t* p, V v) {
  __m256i bits = _mm256_castps_si256(v);
  __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  __m256i up = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
  __m256i high = _mm256_srli_epi32(up, 16);
  __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(high, high), 0x08);
  _mm_storeu_si128((__m128i*)p, _mm256_castsi256_si128(packed));
}
#endif

static inline float wide(float x) { return x; }
static inline float wide(uint16_t x) {
  const uint32_t bits = (uint32_t)x << 16;
  float y;
  std::memcpy(&y, &bits, 4);
  return y;
}
static inline void put(float* p, float x) { *p = x; }
static inline void put(uint16_t* p, float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  *p = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
}

constexpr int64_t MOST_STEPS = 32;

// e to the a with torch's rounding: reduction by ln 2 in two parts, then a polynomial.
static inline V expv(V a) {
  a = clamp(a, all(-104.0f), all(104.0f));
  const V q = nearest(a * all(1.44269504088896340736f));
  V s = fma(q, all(-0.693145751953125f), a);
  s = fma(q, all(-1.428606765330187045e-06f), s);
  V u = fma(all(0.000198527617612853646278381f), s, all(0.00139304355252534151077271f));
  u = fma(u, s, all(0.00833336077630519866943359f));
  u = fma(u, s, all(0.0416664853692054748535156f));
  u = fma(u, s, all(0.166666671633720397949219f));
  u = fma(u, s, all(0.5f));
  return times_power(all(1.0f) + fma(s * s, u, s), q);
}

// The last n < W elements of a plane; the lanes do not see each other.
template <typename E>
static inline V load(const E* p, int64_t n) {
  if (n >= W) return load(p);
  E part[W] = {};
  std::memcpy(part, p, n * sizeof(E));
  return load(part);
}
template <typename E>
static inline void store(E* p, V v, int64_t n) {
  if (n >= W) return store(p, v);
  E part[W];
  store(part, v);
  std::memcpy(p, part, n * sizeof(E));
}

struct Norm {
  const float *scale, *shift, *inverse, *weight;
  int64_t channels, plane;
};

// First charge is x / 2; later ones v + (x - v) / 2, v the membrane after the reset.
static inline V charge(V x, V h, V threshold, bool first) {
  const V half = all(0.5f);
  if (first) return x * half;
  const V v = fired(h, threshold, all(0.0f), h);
  return fma(x - v, half, v);
}

template <typename E, bool norm>
static void forward(const E* x, int64_t stride, E* spikes, int64_t T, int64_t M, float level,
                    const Norm& bn, int64_t from, int64_t to) {
  const V threshold = all(level), one = all(1.0f), zero = all(0.0f);
  const int64_t step = norm ? bn.plane : to - from;
  for (int64_t at = from; at < to; at += step) {
    const int64_t c = norm ? (at / bn.plane) % bn.channels : 0;
    const V scale = all(norm ? bn.scale[c] : 1.0f), shift = all(norm ? bn.shift[c] : 0.0f);
    for (int64_t m = at; m < at + step; m += W) {
      const int64_t n = at + step - m;
      V h = zero;
      for (int64_t t = 0; t < T; t++) {
        V in = load(x + t * stride + m, n);
        if (norm) in = fma(in, scale, shift);
        h = charge(in, h, threshold, t == 0);
        store(spikes + t * M + m, fired(h, threshold, one, zero), n);
      }
    }
  }
}

template <typename E, bool norm>
static void backward(const E* x, int64_t stride, const E* grad, E* out, int64_t T, int64_t M,
                     float level, float alpha, const Norm& bn, int64_t from, int64_t to) {
  const V threshold = all(level), one = all(1.0f), zero = all(0.0f), half = all(0.5f);
  const V sharp = all(alpha), slope = all(alpha / 2);
  const int64_t step = norm ? bn.plane : to - from;
  for (int64_t at = from; at < to; at += step) {
    const int64_t c = norm ? (at / bn.plane) % bn.channels : 0;
    const V scale = all(norm ? bn.scale[c] : 1.0f), shift = all(norm ? bn.shift[c] : 0.0f);
    const V inverse = all(norm ? bn.inverse[c] : 1.0f), weight = all(norm ? bn.weight[c] : 1.0f);
    for (int64_t m = at; m < at + step; m += W) {
      const int64_t n = at + step - m;
      V h[MOST_STEPS];
      for (int64_t t = 0; t < T; t++) {
        V in = load(x + t * stride + m, n);
        if (norm) in = fma(in, scale, shift);
        h[t] = charge(in, t ? h[t - 1] : zero, threshold, t == 0);
      }
      V carried = zero;
      for (int64_t t = T - 1; t >= 0; t--) {
        const V u = (h[t] - threshold) * sharp;
        const V s = one / (one + expv(zero - u));
        V g = (one - s) * s * load(grad + t * M + m, n);
        if (t < T - 1) g = g + half * carried * fired(h[t], threshold, zero, one);
        carried = g;
        V back = g * slope;
        if (norm) back = back * inverse * weight;
        store(out + t * M + m, back, n);
      }
    }
  }
}

template <typename E>
static void run_forward(const void* x, int64_t stride, void* spikes, int64_t T, int64_t M,
                        float level, const Norm& bn, int64_t from, int64_t to) {
  if (bn.scale)
    forward<E, true>((const E*)x, stride, (E*)spikes, T, M, level, bn, from, to);
  else
    forward<E, false>((const E*)x, stride, (E*)spikes, T, M, level, bn, from, to);
}

template <typename E>
static void run_backward(const void* x, int64_t stride, const void* grad, void* out, int64_t T,
                         int64_t M, float level, float alpha, const Norm& bn, int64_t from,
                         int64_t to) {
  if (bn.scale)
    backward<E, true>((const E*)x, stride, (const E*)grad, (E*)out, T, M, level, alpha, bn, from,
                      to);
  else
    backward<E, false>((const E*)x, stride, (const E*)grad, (E*)out, T, M, level, alpha, bn, from,
                       to);
}

// Elements from (inclusive) to to (exclusive), both multiples of the plane with a batch norm;
// narrow: bfloat16 instead of float32.
extern "C" void lif_forward(const void* x, int64_t stride, void* spikes, int64_t T, int64_t M,
                            float level, int narrow, const float* scale, const float* shift,
                            int64_t channels, int64_t plane, int64_t from, int64_t to) {
  const Norm bn{scale, shift, nullptr, nullptr, channels, plane};
  if (narrow)
    run_forward<uint16_t>(x, stride, spikes, T, M, level, bn, from, to);
  else
    run_forward<float>(x, stride, spikes, T, M, level, bn, from, to);
}

extern "C" void lif_backward(const void* x, int64_t stride, const void* grad, void* out, int64_t T,
                             int64_t M, float level, float alpha, int narrow, const float* scale,
                             const float* shift, const float* inverse, const float* weight,
                             int64_t channels, int64_t plane, int64_t from, int64_t to) {
  const Norm bn{scale, shift, inverse, weight, channels, plane};
  if (narrow)
    run_backward<uint16_t>(x, stride, grad, out, T, M, level, alpha, bn, from, to);
  else
    run_backward<float>(x, stride, grad, out, T, M, level, alpha, bn, from, to);
}

template <typename E>
static void pool(const E* x, E* out, uint8_t* place, int64_t H, int64_t width, const float* scale,
                 const float* shift, int64_t channels, int64_t from, int64_t to) {
  const int64_t oh = H / 2, ow = width / 2, row = ow + 1;
  // Columns 2w - 1 and 2w of each row apart, so that a window reads neighbours; -inf around.
  std::vector<float> left((H + 2) * row, -__builtin_inff()), middle(left), best(ow);
  std::vector<int32_t> at(ow);
  for (int64_t p = from; p < to; p++) {
    const float a = scale[p % channels], b = shift[p % channels];
    for (int64_t h = 0; h < H; h++) {
      const E* in = x + (p * H + h) * width;
      float *l = left.data() + (h + 1) * row, *m = middle.data() + (h + 1) * row;
      for (int64_t w = 0; w < ow; w++) {
        m[w] = __builtin_fmaf(wide(in[2 * w]), a, b);
        l[w + 1] = __builtin_fmaf(wide(in[2 * w + 1]), a, b);
      }
    }
    for (int64_t h = 0; h < oh; h++) {
      std::fill(best.begin(), best.end(), -__builtin_inff());
      std::fill(at.begin(), at.end(), 4);
      float* most = best.data();
      int32_t* where = at.data();
      for (int32_t k = 0; k < 9; k++) {
        const float* in = (k % 3 == 1 ? middle : left).data() + (2 * h + k / 3) * row + k % 3 / 2;
        // The first of equal values stays, as in torch.
        for (int64_t w = 0; w < ow; w++) {
          const bool more = in[w] > most[w];
          most[w] = more ? in[w] : most[w];
          where[w] = more ? k : where[w];
        }
      }
      const int64_t start = (p * oh + h) * ow;
      for (int64_t w = 0; w < ow; w++) put(out + start + w, most[w]);
      std::copy(at.begin(), at.end(), place + start);
    }
  }
}

template <typename E>
static void unpool(const E* grad, const uint8_t* place, E* out, int64_t H, int64_t width,
                   const float* inverse, const float* weight, int64_t channels, int64_t from,
                   int64_t to) {
  const int64_t oh = H / 2, ow = width / 2;
  std::vector<float> plane(H * width);
  for (int64_t p = from; p < to; p++) {
    std::fill(plane.begin(), plane.end(), 0.0f);
    for (int64_t h = 0; h < oh; h++)
      for (int64_t w = 0; w < ow; w++) {
        const int64_t i = (p * oh + h) * ow + w;
        plane[(2 * h + place[i] / 3 - 1) * width + 2 * w + place[i] % 3 - 1] += wide(grad[i]);
      }
    const float a = inverse[p % channels], b = weight[p % channels];
    for (int64_t i = 0; i < H * width; i++) put(out + p * H * width + i, plane[i] * a * b);
  }
}

// Batch norm and 3x3 max-pooling with stride 2 and padding 1 of planes from (inclusive) to to
// (exclusive), H x W, both even; place is where in its window (0 to 8) each maximum stands.
extern "C" void pool_forward(const void* x, void* out, uint8_t* place, int64_t H, int64_t width,
                             int narrow, const float* scale, const float* shift, int64_t channels,
                             int64_t from, int64_t to) {
  if (narrow)
    pool((const uint16_t*)x, (uint16_t*)out, place, H, width, scale, shift, channels, from, to);
  else
    pool((const float*)x, (float*)out, place, H, width, scale, shift, channels, from, to);
}

extern "C" void pool_backward(const void* grad, const uint8_t* place, void* out, int64_t H,
                              int64_t width, int narrow, const float* inverse,
                              const float* weight, int64_t channels, int64_t from, int64_t to) {
  if (narrow)
    unpool((const uint16_t*)grad, place, (uint16_t*)out, H, width, inverse, weight, channels,
           from, to);
  else
    unpool((const float*)grad, place, (float*)out, H, width, inverse, weight, channels, from, to);
}
