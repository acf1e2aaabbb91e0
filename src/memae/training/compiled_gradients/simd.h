// Vectors of floats as wide as a register of the processor, by the vector extensions of GCC and Clang.

#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

namespace {

#if defined(__AVX512F__)
constexpr int V = 16, ACCUMULATORS = 24;  // floats in a register; registers that sums may take
#elif defined(__AVX__)
constexpr int V = 8, ACCUMULATORS = 12;
#else
constexpr int V = 4, ACCUMULATORS = 12;
#endif

typedef float vec __attribute__((vector_size(4 * V)));
typedef float vec_anywhere __attribute__((vector_size(4 * V), aligned(4), may_alias));  // in memory only
typedef int32_t ivec __attribute__((vector_size(4 * V)));

#define INLINE inline __attribute__((always_inline))

INLINE vec load(const float* p) { return *reinterpret_cast<const vec_anywhere*>(p); }
INLINE void store(float* p, vec v) { *reinterpret_cast<vec_anywhere*>(p) = v; }
INLINE vec all(float x) { return vec{} + x; }
INLINE vec select(ivec where, vec yes, vec no) { return where ? yes : no; }
INLINE vec larger(vec a, vec b) { return select(a > b, a, b); }

// e^x to 2e-7, by a polynomial on [-ln 2 / 2, ln 2 / 2]; 0 below -87
INLINE vec exponential(vec x) {
    const ivec tiny = x < all(-87.f);
    const vec clipped = select(tiny, all(-87.f), select(x > all(88.f), all(88.f), x));
    const vec whole = (clipped * 1.44269504f + 12582912.f) - 12582912.f;  // 1.5 * 2^23: adding it rounds
    const vec r = clipped - whole * 0.693359375f + whole * 2.12194440e-4f;
    vec p = all(1.9875691500e-4f);
    for (float c : {1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f})
        p = p * r + c;
    const ivec power = (__builtin_convertvector(whole, ivec) + 127) << 23;
    vec two_to_whole;
    std::memcpy(&two_to_whole, &power, sizeof power);
    return select(tiny, vec{}, (p * r * r + r + 1.f) * two_to_whole);
}

INLINE vec tanh(vec x) { return 1.f - 2.f / (exponential(2.f * x) + 1.f); }

// ---- transposition

// (a, b) of lanes in pairs S apart: to (first of each pair, second of each pair), those of a and b in turns
template <int S, size_t... L>
INLINE void exchange(vec& a, vec& b, std::index_sequence<L...>) {
    const vec first = a, second = b;
#ifdef __clang__
    a = __builtin_shufflevector(first, second, ((L & S) ? V + L - S : L)...);
    b = __builtin_shufflevector(first, second, ((L & S) ? V + L : L + S)...);
#else
    a = __builtin_shuffle(first, second, ivec{static_cast<int>((L & S) ? V + L - S : L)...});
    b = __builtin_shuffle(first, second, ivec{static_cast<int>((L & S) ? V + L : L + S)...});
#endif
}

template <int S = V / 2>
INLINE float sum(vec v) {
    vec other = v;
    exchange<S>(v, other, std::make_index_sequence<V>{});
    if constexpr (S > 1) return sum<S / 2>(v + other);
    return (v + other)[0];
}

template <int S = 1>
INLINE void transpose(vec (&rows)[V]) {
    for (int i = 0; i < V; ++i)
        if (!(i & S)) exchange<S>(rows[i], rows[i + S], std::make_index_sequence<V>{});
    if constexpr (2 * S < V) transpose<2 * S>(rows);
}

// The first `count` floats, at most V; zeros behind them
INLINE vec load(const float* p, int count) {
    if (count == V) return load(p);
    vec v{};
    std::memcpy(&v, p, sizeof(float) * count);
    return v;
}

// y[column][row] = x[row][column], with zeros behind the rows up to `padded`, a multiple of V
INLINE void transpose(const float* x, int64_t x_step, int rows, int columns, float* y, int64_t y_step, int padded) {
    const int wide = columns < V ? columns : V;
    for (int r = 0; r < padded; r += V)
        for (int some = 0; some < columns; some += V) {
            const int c = some + wide < columns ? some : columns - wide;  // the last tile may overlap the one before
            vec tile[V];
            for (int i = 0; i < V; ++i) tile[i] = r + i < rows ? load(x + (r + i) * x_step + c, wide) : vec{};
            transpose(tile);
            for (int i = 0; i < wide; ++i) store(y + (c + i) * y_step + r, tile[i]);
        }
}

// ---- loops whose length the compiler knows, so that sums stay in registers

template <int N, class Work>
INLINE void with_constant(int n, const Work& work) {
    if (n == N) {
        work(std::integral_constant<int, N>{});
    } else if constexpr (N > 1) {
        with_constant<N - 1>(n, work);
    }
}

// work(length, from) on pieces of about equal length, at most MOST
template <int MOST, class Work>
INLINE void in_pieces(int count, const Work& work) {
    const int pieces = (count + MOST - 1) / MOST;
    for (int piece = 0, from = 0; piece < pieces; ++piece) {
        const int to = static_cast<int>(static_cast<int64_t>(count) * (piece + 1) / pieces);
        with_constant<MOST>(to - from, [&](auto length) { work(length, from); });
        from = to;
    }
}

}  // namespace
