// Numbers in the registers of a processor, for the compiled parts of memae; each file has its own copy of these.

#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <type_traits>
#include <utility>
#include <vector>

namespace {

#if defined(__AVX512F__)
constexpr int V = 16, SUMS = 24;  // numbers in a register; registers that sums may take
#elif defined(__AVX__)
constexpr int V = 8, SUMS = 12;
#else
constexpr int V = 4, SUMS = 12;
#endif

constexpr float SHORTEST = 1e-12f;  // vectors shorter than this are divided by it

typedef float vec __attribute__((vector_size(4 * V)));
typedef float vec_anywhere __attribute__((vector_size(4 * V), aligned(4), may_alias));  // in memory only
typedef int32_t ivec __attribute__((vector_size(4 * V)));

#define INLINE inline __attribute__((always_inline))

INLINE vec load(const float* p) { return *reinterpret_cast<const vec_anywhere*>(p); }
INLINE void store(float* p, vec v) { *reinterpret_cast<vec_anywhere*>(p) = v; }
INLINE vec all(float x) { return vec{} + x; }
INLINE vec pick(ivec where, vec yes, vec no) { return where ? yes : no; }
INLINE vec greater(vec a, vec b) { return pick(a > b, a, b); }

template <class T>
struct Aligned {  // to whole lines of the cache: a register that lies on two costs double
    using value_type = T;
    static constexpr std::align_val_t line{64};
    Aligned() = default;
    template <class U>
    Aligned(const Aligned<U>&) {}
    T* allocate(size_t n) { return static_cast<T*>(::operator new(n * sizeof(T), line)); }
    void deallocate(T* p, size_t) { ::operator delete(p, line); }
    bool operator==(const Aligned&) const { return true; }
    bool operator!=(const Aligned&) const { return false; }
};
using Numbers = std::vector<float, Aligned<float>>;

template <int BY, size_t... L>
INLINE vec moved_on(vec v, std::index_sequence<L...>) {
#ifdef __clang__
    return __builtin_shufflevector(v, v, ((L + BY) % V)...);
#else
    return __builtin_shuffle(v, ivec{static_cast<int>((L + BY) % V)...});
#endif
}

template <int HALF = V / 2>
INLINE float sum(vec v) {
    if constexpr (HALF > 0) {
        return sum<HALF / 2>(v + moved_on<HALF>(v, std::make_index_sequence<V>{}));
    } else {
        return v[0];
    }
}

// e^x to 2e-7, by a polynomial on [-ln 2 / 2, ln 2 / 2]; 0 below -87
INLINE vec exponential(vec x) {
    vec clipped = pick(x < all(-87.f), all(-87.f), pick(x > all(88.f), all(88.f), x));
    vec shifted = clipped * 1.44269504f + 12582912.f;  // 1.5 * 2^23: adding it rounds
    vec whole = shifted - 12582912.f;
    vec r = clipped - whole * 0.693359375f + whole * 2.12194440e-4f;
    vec p = all(1.9875691500e-4f);
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.f;
    ivec power = (__builtin_convertvector(whole, ivec) + 127) << 23;
    vec two_to_whole;
    std::memcpy(&two_to_whole, &power, sizeof power);
    return pick(x < all(-87.f), vec{}, p * two_to_whole);
}

template <int R, class Work>
INLINE void with_count(int count, const Work& work) {
    if (count == R) {
        work(std::integral_constant<int, R>{});
    } else if constexpr (R > 1) {
        with_count<R - 1>(count, work);
    }
}

// In turns of about equal length, at most MOST
template <int MOST, class Work>
INLINE void in_turns(int count, const Work& work) {
    const int turns = (count + MOST - 1) / MOST;
    for (int turn = 0, from = 0; turn < turns; ++turn) {
        const int to = static_cast<int>(static_cast<long>(count) * (turn + 1) / turns);
        with_count<MOST>(to - from, [&](auto length) { work(length, from); });
        from = to;
    }
}

}  // namespace

#define PUBLIC __attribute__((visibility("default")))
