// Loss and gradients of small autoencoders on a CPU, with the samples of a batch in the lanes of its registers.
//
// Numbers lie as [block][place][channel][lane]: a block holds LANES samples, a place is a pixel of a map. A lane
// never meets another, so a layer is one multiplication of a weight with a register of samples after the other, at
// whatever size and stride: near the rate of a large matrix product where libraries of convolutions starve, and no
// tap is wasted on padding. A layer is a relation of places behind it to places before it, with a tap each: that
// of a fully connected one has one pair, and a read of the memory is such a layer, too.
//
// Called through lanes.py, which says what everything means. Compiled once for each width of registers.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>
#include <vector>
#ifdef _OPENMP
#include <omp.h>
#endif

#include "registers.h"

namespace {

constexpr int ROWS = SUMS / 2;  // whose sums stay in registers
constexpr int PARTS = 2, LANES = PARTS * V;
constexpr long TURNED = 1 << 14;  // numbers that are turned on their side at a time: they stay in the cache

INLINE vec hyperbolic_tangent(vec x) { return 1.f - 2.f / (exponential(2.f * x) + 1.f); }

// ---- the one product everything is made of

// sums[r][m] += sum over k of a[r ar + k ak] x[k xs + lanes of m]
template <int R, int M>
INLINE void multiply(vec (&sums)[R][M], const float* a, long ar, long ak, const float* x, long xs, int depth) {
    for (int k = 0; k < depth; ++k, a += ak, x += xs) {
        vec some[M];
        for (int m = 0; m < M; ++m) some[m] = load(x + m * V);
        for (int r = 0; r < R; ++r)
            for (int m = 0; m < M; ++m) sums[r][m] += a[r * ar] * some[m];
    }
}

// ---- a matrix on its side

template <int S, size_t... L>
INLINE void exchange(vec& a, vec& b, std::index_sequence<L...>) {
    vec first = a, second = b;
#ifdef __clang__
    a = __builtin_shufflevector(first, second, ((L & S) ? V + L - S : L)...);
    b = __builtin_shufflevector(first, second, ((L & S) ? V + L : L + S)...);
#else
    a = __builtin_shuffle(first, second, ivec{static_cast<int>((L & S) ? V + L - S : L)...});
    b = __builtin_shuffle(first, second, ivec{static_cast<int>((L & S) ? V + L : L + S)...});
#endif
}

template <int S>
INLINE void transpose(vec (&rows)[V]) {
    for (int i = 0; i < V; ++i)
        if (!(i & S)) exchange<S>(rows[i], rows[i + S], std::make_index_sequence<V>{});
    if constexpr (2 * S < V) transpose<2 * S>(rows);
}

// [place][channel][lane] to [place][lane][columns], with zeros behind the channels
void turn(const float* x, int places, int channels, int columns, float* turned) {
    for (int p = 0; p < places; ++p, x += channels * LANES, turned += LANES * columns)
        for (int c = 0; c < columns; c += V)
            for (int m = 0; m < PARTS; ++m) {
                vec tile[V];
                for (int i = 0; i < V; ++i) tile[i] = c + i < channels ? load(x + (c + i) * LANES + m * V) : vec{};
                transpose<1>(tile);
                for (int i = 0; i < V; ++i) store(turned + (m * V + i) * columns + c, tile[i]);
            }
}

// Samples (count, channels, places) to a block; lanes without a sample are zero
void take(const float* x, int count, int channels, int places, float* block) {
    const int numbers = channels * places;
    auto row = [&](int number) { return block + ((number % places) * channels + number / places) * LANES; };
    for (int m = 0; m < PARTS; ++m) {
        int number = 0;
        for (; number + V <= numbers; number += V) {
            vec tile[V];
            for (int l = 0; l < V; ++l)
                tile[l] = m * V + l < count ? load(x + static_cast<long>(m * V + l) * numbers + number) : vec{};
            transpose<1>(tile);
            for (int i = 0; i < V; ++i) store(row(number + i) + m * V, tile[i]);
        }
        for (; number < numbers; ++number)
            for (int l = m * V; l < (m + 1) * V; ++l)
                row(number)[l] = l < count ? x[static_cast<long>(l) * numbers + number] : 0.f;
    }
}

// ---- layers

struct Relation {  // the pairs of places, sorted by one side of them
    std::vector<int> start, tap, place;

    Relation() = default;
    Relation(int keys, int pairs, const int32_t* key, const int32_t* tap_of, const int32_t* place_of)
        : start(keys + 1), tap(pairs), place(pairs) {
        for (int i = 0; i < pairs; ++i) ++start[key[i] + 1];
        for (int k = 0; k < keys; ++k) start[k + 1] += start[k];
        std::vector<int> next(start.begin(), start.end() - 1);
        for (int i = 0; i < pairs; ++i) {
            int at = next[key[i]]++;
            tap[at] = tap_of[i];
            place[at] = place_of[i];
        }
    }
};

int padded(int channels) { return (channels + V - 1) / V * V; }

}  // namespace

extern "C" {

struct LayerSpec {
    int32_t inputs, outputs, places_in, places_out, taps, pairs, activation, norm;
    int64_t by_output, by_input, by_tap;  // steps from one weight to the next
    const int32_t *out, *in, *tap;        // of each pair
    float *weight, *weight_grad, *bias, *bias_grad;
    float *gamma, *gamma_grad, *beta, *beta_grad, *mean, *variance;
    int64_t* batches;
    float momentum, epsilon;
};

struct MemorySpec {
    int32_t items, cosine;
    float threshold, temperature;
    float *items_at, *grads_at;  // (items, channels, taps of the layer that asks)
};

}  // extern "C"

namespace {

enum Activation { NONE, RELU, TANH };

struct Share {  // what one thread does: some blocks, and sums of its own
    int thread, first, last;
};

struct Layer {
    LayerSpec spec{};
    Relation by_out, by_in, by_tap_pairs;  // the last: of each tap the places out (tap) and in (place)
    bool swapped = false;                  // the sums of weights have a row for each input, not for each output
    int rows = 0, columns = 0;
    Numbers made, result;               // before the norm, if there is one; and behind all
    Numbers mean, inverse;              // of the norm
    std::vector<double> sums, squares;  // [thread][channel], and for the way back
    std::vector<Numbers> by_weight;     // [thread]: [tap][row][column]
    Numbers bias_sums;                  // [thread][channel]

    Layer() = default;
    Layer(const LayerSpec& given, bool swap) : spec(given), swapped(swap) {
        by_out = Relation(spec.places_out, spec.pairs, spec.out, spec.tap, spec.in);
        by_in = Relation(spec.places_in, spec.pairs, spec.in, spec.tap, spec.out);
        by_tap_pairs = Relation(spec.taps, spec.pairs, spec.tap, spec.out, spec.in);
        rows = swapped ? spec.inputs : spec.outputs;
        columns = padded(swapped ? spec.outputs : spec.inputs);
    }

    long size_in() const { return static_cast<long>(spec.places_in) * spec.inputs * LANES; }
    long size_out() const { return static_cast<long>(spec.places_out) * spec.outputs * LANES; }
    long turned() const { return static_cast<long>(swapped ? spec.places_out : spec.places_in) * LANES * columns; }
    int together() const { return static_cast<int>(std::max(1L, TURNED / turned())); }

    void room(int blocks, int threads) {
        made.resize(spec.norm || spec.activation == NONE ? blocks * size_out() : 0);
        result.resize(spec.norm || spec.activation != NONE ? blocks * size_out() : 0);
        sums.resize(static_cast<size_t>(threads) * spec.outputs);
        squares.resize(sums.size());
        bias_sums.resize(sums.size());
        mean.resize(spec.outputs);
        inverse.resize(spec.outputs);
        by_weight.resize(threads);
        for (auto& some : by_weight) some.resize(static_cast<size_t>(spec.taps) * rows * columns);
    }

    void release() {
        for (auto* some : {&made, &result}) Numbers().swap(*some);
        by_weight.clear();
    }

    float* output() { return result.empty() ? made.data() : result.data(); }
    float* before_norm() { return made.empty() ? result.data() : made.data(); }

    // One block: x [place in][input][lane] to y [place out][output][lane]
    void forward(const float* x, float* y) const {
        gather(by_out, spec.places_out, spec.outputs, spec.inputs, spec.by_output, spec.by_input, spec.bias, x, y);
    }

    // One block: the gradient of y to that of x
    void backward(const float* grad_y, float* grad_x) const {
        gather(by_in, spec.places_in, spec.inputs, spec.outputs, spec.by_input, spec.by_output, nullptr, grad_y,
               grad_x);
    }

    void gather(const Relation& by, int places, int rows_, int depth, long ar, long ak, const float* shift,
                const float* x, float* y) const {
        in_turns<ROWS>(rows_, [&](auto r, int from) {
            constexpr int R = decltype(r)::value;
            for (int p = 0; p < places; ++p) {
                vec s[R][PARTS];
                for (int i = 0; i < R; ++i)
                    for (int m = 0; m < PARTS; ++m) s[i][m] = all(shift ? shift[from + i] : 0.f);
                for (int e = by.start[p]; e < by.start[p + 1]; ++e)
                    multiply(s, spec.weight + by.tap[e] * spec.by_tap + from * ar, ar, ak,
                             x + static_cast<long>(by.place[e]) * depth * LANES, LANES, depth);
                for (int i = 0; i < R; ++i)
                    for (int m = 0; m < PARTS; ++m)
                        store(y + (static_cast<long>(p) * rows_ + from + i) * LANES + m * V, s[i][m]);
            }
        });
    }

    // The sums of a thread: what x and the gradient of y say of the weights, over blocks that lie so many numbers
    // apart
    void correlate(const float* x, long x_step, const float* grad_y, long grad_step, int blocks,
                   Numbers& turned_side, Numbers& into) const {
        const float *turned_from = swapped ? grad_y : x, *side = swapped ? x : grad_y;
        const long turned_step = swapped ? grad_step : x_step, side_step = swapped ? x_step : grad_step;
        for (int first = 0; first < blocks; first += together()) {
            const int here = std::min(blocks - first, together());
            for (int b = 0; b < here; ++b)
                turn(turned_from + (first + b) * turned_step, swapped ? spec.places_out : spec.places_in,
                     swapped ? spec.outputs : spec.inputs, columns, turned_side.data() + b * turned());
            for (int t = 0; t < spec.taps; ++t) {
                float* tap = into.data() + static_cast<long>(t) * rows * columns;
                in_turns<ROWS>(rows, [&](auto r, int from) {
                    auto some = [&](auto m, int c) {
                        some_columns<decltype(r)::value, decltype(m)::value>(t, from, c, side + first * side_step,
                                                                             side_step, turned_side.data(), here,
                                                                             first == 0, tap);
                    };
                    int c = 0;
                    for (; c + 2 * V <= columns; c += 2 * V) some(std::integral_constant<int, 2>{}, c);
                    if (c < columns) some(std::integral_constant<int, 1>{}, c);
                });
            }
        }
    }

    template <int R, int M>
    INLINE void some_columns(int t, int from, int c, const float* side, long side_step, const float* turned_side,
                             int blocks, bool fresh, float* tap) const {
        vec s[R][M];
        for (int i = 0; i < R; ++i)
            for (int m = 0; m < M; ++m)
                s[i][m] = fresh ? vec{} : load(tap + static_cast<long>(from + i) * columns + c + m * V);
        for (int b = 0; b < blocks; ++b)
            for (int e = by_tap_pairs.start[t]; e < by_tap_pairs.start[t + 1]; ++e) {
                int out = by_tap_pairs.tap[e], in = by_tap_pairs.place[e];
                multiply(s, side + b * side_step + (static_cast<long>(swapped ? in : out) * rows + from) * LANES,
                         LANES, 1,
                         turned_side + b * turned() + static_cast<long>(swapped ? out : in) * LANES * columns + c,
                         columns, LANES);
            }
        for (int i = 0; i < R; ++i)
            for (int m = 0; m < M; ++m) store(tap + static_cast<long>(from + i) * columns + c + m * V, s[i][m]);
    }

    // After all threads: adds their sums, times a factor, to a gradient that lies as the weights do
    void add_weights(float* grad, float factor, int threads) const {
        const long row_step = swapped ? spec.by_input : spec.by_output;
        const long column_step = swapped ? spec.by_output : spec.by_input;
        const int wide = swapped ? spec.outputs : spec.inputs;
        for (int r = 0; r < rows; ++r)
            for (int t = 0; t < spec.taps; ++t)
                for (int k = 0; k < threads; ++k) {
                    const float* from = by_weight[k].data() + (static_cast<long>(t) * rows + r) * columns;
                    float* to = grad + t * spec.by_tap + r * row_step;
                    if (column_step == 1)
                        for (int c = 0; c < wide; ++c) to[c] += factor * from[c];
                    else
                        for (int c = 0; c < wide; ++c) to[c * column_step] += factor * from[c];
                }
    }
};

// ---- the network

struct Network {
    std::vector<Layer> layers;
    int code = 0;  // the first layer behind the memory
    bool remembers = false;
    MemorySpec memory{};
    Layer ask, tell;  // from queries to logits, and from weights to values
    Numbers keys, values, item_inverse, keys_grad, values_grad;
    int queries = 0;         // of a sample
    long query_numbers = 0;  // rows of a block that one query has

    int blocks = 0, threads = 0, count = 0;
    long widest = 0;  // numbers of a block in the largest map: gradients of all layers take turns in such places
    Numbers x, target, grads[2], asked, query_inverse, weights, grad_logits, mean, entropy;
    std::vector<Numbers> turned, scratch;   // [thread]
    std::vector<double> losses, entropies;  // [thread]
    std::vector<int64_t> counts;            // [thread][item + 2]

    void room(int samples, int wanted) {
        const int needed = (samples + LANES - 1) / LANES;
        count = samples;
        threads = std::max(1, std::min(wanted, needed));
        if (needed == blocks && static_cast<int>(turned.size()) == threads) return;
        blocks = needed;
        long longest = 0;
        auto measure = [&](Layer& layer) {
            layer.room(blocks, threads);
            widest = std::max({widest, layer.size_in(), layer.size_out()});
            longest = std::max(longest, layer.together() * layer.turned());
        };
        for (auto& layer : layers) measure(layer);
        x.resize(blocks * layers.front().size_in());
        target.resize(x.size());
        if (remembers) {
            measure(ask);
            measure(tell);
            asked.resize(blocks * ask.size_in());
            const size_t lanes = static_cast<size_t>(blocks) * queries * LANES;
            for (auto* some : {&query_inverse, &mean, &entropy}) some->resize(lanes);
            weights.resize(lanes * memory.items);
            grad_logits.resize(weights.size());
            counts.resize(static_cast<size_t>(threads) * (memory.items + 2));
        }
        for (auto& some : grads) some.resize(blocks * widest);
        turned.resize(threads);
        for (auto& some : turned) some.resize(longest);
        losses.resize(threads);
        entropies.resize(threads);
        size_t channels = 0;
        for (const auto& layer : layers) channels = std::max(channels, static_cast<size_t>(layer.spec.outputs));
        scratch.resize(threads);  // all that a thread needs is here before it starts: none may run out of memory
        for (auto& some : scratch) some.resize(channels * (3 + 2 * V));
    }

    // Gives back what a batch takes
    void release() {
        blocks = 0;
        for (auto& layer : layers) layer.release();
        ask.release();
        tell.release();
        for (auto* some :
             {&x, &target, &grads[0], &grads[1], &asked, &query_inverse, &weights, &grad_logits, &mean, &entropy})
            Numbers().swap(*some);
        turned.clear();
    }

    // 1 where a block has a sample
    void filled(int block, float* mask) const {
        for (int l = 0; l < LANES; ++l) mask[l] = block * LANES + l < count ? 1.f : 0.f;
    }

    // ---- BatchNorm (Ioffe and Szegedy 2015), ReLU and tanh

    // Of each channel of a block the sums over its samples of what `each` gives of a place: one number, or two
    template <int K, class Each>
    INLINE void by_channel(int block, const Layer& layer, float* mask, float* some, const Each& each) const {
        const int channels = layer.spec.outputs;
        std::fill(some, some + static_cast<size_t>(K) * channels * V, 0.f);
        filled(block, mask);
        for (long at = 0; at < layer.size_out(); at += channels * LANES)
            for (int c = 0; c < channels; ++c) {
                vec sums[K];
                for (int k = 0; k < K; ++k) sums[k] = load(&some[(c * K + k) * V]);
                for (int m = 0; m < PARTS; ++m) each(c, at + c * LANES + m * V, load(mask + m * V), sums);
                for (int k = 0; k < K; ++k) store(&some[(c * K + k) * V], sums[k]);
            }
    }

    static void add_to(double* sums, const float* some, int kinds, int kind, int channels) {
        for (int c = 0; c < channels; ++c) sums[c] += sum(load(&some[(c * kinds + kind) * V]));
    }

    double over_threads(const std::vector<double>& sums, int channels, int channel) const {
        double s = 0;
        for (int t = 0; t < threads; ++t) s += sums[static_cast<size_t>(t) * channels + channel];
        return s;
    }

    void finish_forward(const Share& mine, Layer& layer) {
        const int channels = layer.spec.outputs, activation = layer.spec.activation;
        if (!layer.spec.norm && activation == NONE) return;
        const float* z = layer.before_norm();
        float* h = layer.output();
        const long size = layer.size_out();
        float* scale = scratch[mine.thread].data();
        float *shift = scale + channels, *centre = shift + channels, *some = centre + channels;
        if (layer.spec.norm) {
            const double n = static_cast<double>(count) * layer.spec.places_out;
            float mask[LANES];
            double* sums = layer.sums.data() + static_cast<size_t>(mine.thread) * channels;
            double* squares = layer.squares.data() + static_cast<size_t>(mine.thread) * channels;
            std::fill(sums, sums + channels, 0.0);
            std::fill(squares, squares + channels, 0.0);
            for (int b = mine.first; b < mine.last; ++b) {
                by_channel<1>(b, layer, mask, some, [&](int, long at, vec filled, vec(&s)[1]) {
                    s[0] += load(z + b * size + at) * filled;
                });
                add_to(sums, some, 1, 0, channels);
            }
            barrier();
            for (int c = 0; c < channels; ++c)
                centre[c] = static_cast<float>(over_threads(layer.sums, channels, c) / n);
            for (int b = mine.first; b < mine.last; ++b) {
                by_channel<1>(b, layer, mask, some, [&](int c, long at, vec filled, vec(&s)[1]) {
                    vec d = load(z + b * size + at) - centre[c];
                    s[0] += d * d * filled;
                });
                add_to(squares, some, 1, 0, channels);
            }
            barrier();
            for (int c = 0; c < channels; ++c) {
                const double variance = over_threads(layer.squares, channels, c) / n;
                const float inverse = static_cast<float>(1 / std::sqrt(variance + layer.spec.epsilon));
                scale[c] = layer.spec.gamma[c] * inverse;
                shift[c] = layer.spec.beta[c] - centre[c] * scale[c];
                if (mine.thread == 0) {
                    const float part = layer.spec.momentum;
                    layer.mean[c] = centre[c];
                    layer.inverse[c] = inverse;
                    layer.spec.mean[c] += part * (centre[c] - layer.spec.mean[c]);
                    layer.spec.variance[c] +=
                        part * (static_cast<float>(variance * n / std::max(1.0, n - 1)) - layer.spec.variance[c]);
                }
            }
            if (mine.thread == 0) ++*layer.spec.batches;
        }
        for (long b = mine.first * layer.size_out(); b < mine.last * layer.size_out(); b += channels * LANES)
            for (int c = 0; c < channels; ++c)
                for (int m = 0; m < PARTS; ++m) {
                    const long at = b + c * LANES + m * V;
                    vec y = load(z + at);
                    if (layer.spec.norm) y = y * scale[c] + shift[c];
                    if (activation == RELU) y = pick(y < vec{}, vec{}, y);  // NaN stays NaN
                    if (activation == TANH) y = hyperbolic_tangent(y);
                    store(h + at, y);
                }
    }

    // Turns the gradient of what the layer gave into that of what its weights made, in place
    void begin_backward(const Share& mine, Layer& layer, float* grads_here) {
        const int channels = layer.spec.outputs, activation = layer.spec.activation;
        const float *z = layer.before_norm(), *h = layer.output();
        const long size = layer.size_out();
        auto before_activation = [&](int b, long at) {
            vec g = load(grads_here + b * widest + at);
            if (activation == NONE) return g;
            vec y = load(h + b * size + at);
            return activation == RELU ? pick(y > vec{}, g, vec{}) : g * (1.f - y * y);
        };
        if (!layer.spec.norm && activation != NONE)
            for (int b = mine.first; b < mine.last; ++b)
                for (long at = 0; at < size; at += V)
                    store(grads_here + b * widest + at, before_activation(b, at));
        if (layer.spec.norm) {
            const double n = static_cast<double>(count) * layer.spec.places_out;
            double* sums_here = layer.sums.data() + static_cast<size_t>(mine.thread) * channels;
            double* squares_here = layer.squares.data() + static_cast<size_t>(mine.thread) * channels;
            std::fill(sums_here, sums_here + channels, 0.0);
            std::fill(squares_here, squares_here + channels, 0.0);
            auto centred = [&](int c, int b, long at) { return load(z + b * size + at) - layer.mean[c]; };
            float* scale = scratch[mine.thread].data();
            float *slope = scale + channels, *shift = slope + channels, *some = shift + channels;
            float mask[LANES];
            for (int b = mine.first; b < mine.last; ++b) {
                by_channel<2>(b, layer, mask, some, [&](int c, long at, vec, vec(&s)[2]) {
                    vec g = before_activation(b, at);  // 0 where there is no sample
                    store(grads_here + b * widest + at, g);
                    s[0] += g;
                    s[1] += g * centred(c, b, at);
                });
                add_to(sums_here, some, 2, 0, channels);
                add_to(squares_here, some, 2, 1, channels);
            }
            barrier();
            for (int c = 0; c < channels; ++c) {
                const double sums = over_threads(layer.sums, channels, c);
                const double along = over_threads(layer.squares, channels, c) * layer.inverse[c];
                scale[c] = layer.spec.gamma[c] * layer.inverse[c];
                slope[c] = static_cast<float>(-scale[c] * layer.inverse[c] * along / n);
                shift[c] = static_cast<float>(-scale[c] * sums / n);
                if (mine.thread == 0) {
                    layer.spec.gamma_grad[c] += static_cast<float>(along);
                    layer.spec.beta_grad[c] += static_cast<float>(sums);
                }
            }
            for (int b = mine.first; b < mine.last; ++b) {
                filled(b, mask);
                for (long at = 0; at < size; at += channels * LANES)
                    for (int c = 0; c < channels; ++c)
                        for (int m = 0; m < PARTS; ++m) {
                            const long here = at + c * LANES + m * V;
                            vec g = load(grads_here + b * widest + here) * scale[c] +
                                    centred(c, b, here) * slope[c] + shift[c];
                            store(grads_here + b * widest + here, g * load(mask + m * V));
                        }
            }
        }
        if (layer.spec.bias) {
            float* sums = layer.bias_sums.data() + static_cast<size_t>(mine.thread) * channels;
            std::fill(sums, sums + channels, 0.f);
            for (int b = mine.first; b < mine.last; ++b)
                for (long at = 0; at < size; at += channels * LANES)
                    for (int c = 0; c < channels; ++c) {
                        vec s{};
                        for (int m = 0; m < PARTS; ++m)
                            s += load(grads_here + b * widest + at + c * LANES + m * V);
                        sums[c] += sum(s);
                    }
        }
    }

    // ---- the memory: equations 3 to 8 of Gong et al. 2019, with the formulas of blocked.py

    // Items as (item, place, channel), with room behind each: rows a power of two apart would share a line of the
    // cache
    void pack() {
        const int channels = ask.spec.inputs, places = ask.spec.taps;
        for (int i = 0; i < memory.items; ++i) {
            const float* item = memory.items_at + i * query_numbers;
            float inverse = 1.f;
            if (memory.cosine) {
                double squares = 0;
                for (long k = 0; k < query_numbers; ++k) squares += static_cast<double>(item[k]) * item[k];
                inverse = 1.f / std::max(static_cast<float>(std::sqrt(squares)), SHORTEST);
            }
            item_inverse[i] = inverse;
            float *key = keys.data() + i * apart(), *value = values.data() + i * apart();
            for (int p = 0; p < places; ++p)
                for (int c = 0; c < channels; ++c) {
                    value[p * channels + c] = item[c * places + p];
                    key[p * channels + c] = item[c * places + p] * inverse / memory.temperature;
                }
        }
    }

    long apart() const { return query_numbers + 16; }

    void read(const Share& mine, const float* encoding) {
        double entropies_here = 0;
        int64_t* used = counts.data() + static_cast<size_t>(mine.thread) * (memory.items + 2);
        std::fill(used, used + memory.items + 2, 0);
        const int items = memory.items;
        float mask[LANES];
        for (int b = mine.first; b < mine.last; ++b) {
            filled(b, mask);
            const float* block = encoding + b * ask.size_in();
            float* directions = asked.data() + b * ask.size_in();
            for (int q = 0; q < queries; ++q)
                for (int m = 0; m < PARTS; ++m) {
                    const long at = q * query_numbers * LANES + m * V;
                    vec inverse = all(1.f);
                    if (memory.cosine) {
                        vec squares{};
                        for (long k = 0; k < query_numbers; ++k) {
                            vec v = load(block + at + k * LANES);
                            squares += v * v;
                        }
                        for (int l = 0; l < V; ++l) inverse[l] = 1.f / std::max(std::sqrt(squares[l]), SHORTEST);
                    }
                    for (long k = 0; k < query_numbers; ++k)
                        store(directions + at + k * LANES, load(block + at + k * LANES) * inverse);
                    store(query_inverse.data() + (static_cast<long>(b) * queries + q) * LANES + m * V, inverse);
                }
            float* s = ask.output() + b * ask.size_out();
            float* w = weights.data() + b * ask.size_out();
            ask.forward(directions, s);
            for (int q = 0; q < queries; ++q)
                for (int m = 0; m < PARTS; ++m) {
                    const long from = static_cast<long>(q) * items * LANES + m * V;
                    const long at = (static_cast<long>(b) * queries + q) * LANES + m * V;
                    entropies_here += weigh(s + from, w + from, load(mask + m * V), at, used);
                }
            tell.forward(w, tell.output() + b * tell.size_out());
        }
        entropies[mine.thread] = entropies_here;
    }

    // Logits of one query in each of V lanes, less their greatest, and what they weigh; gives the sum of the
    // entropies
    INLINE double weigh(float* s, float* w, vec mask, long at, int64_t* used) {
        const int items = memory.items;
        vec most = load(s);
        for (int i = 1; i < items; ++i) most = greater(load(s + i * LANES), most);
        vec total{};
        for (int i = 0; i < items; ++i) {
            vec shifted = load(s + i * LANES) - most, e = exponential(shifted);
            store(s + i * LANES, shifted);
            store(w + i * LANES, e);
            total += e;
        }
        const vec least = memory.threshold * total;
        vec kept = total;
        ivec rescued{};
        if (memory.threshold > 0) {
            kept = vec{};
            for (int i = 0; i < items; ++i) {
                vec e = load(w + i * LANES);
                e = pick(e > least, e, vec{});
                store(w + i * LANES, e);
                kept += e;
            }
            rescued = kept == vec{};
            bool any = false;
            for (int l = 0; l < V; ++l) any |= rescued[l] != 0;
            if (any) {
                ivec open = rescued;
                for (int i = 0; i < items; ++i) {
                    ivec here = open & (load(s + i * LANES) == vec{});
                    store(w + i * LANES, pick(here, all(1.f), load(w + i * LANES)));
                    open &= ~here;
                }
                kept = pick(rescued, all(1.f), kept);
            }
        }
        const vec scale = 1.f / kept;
        vec along{}, greatest{};
        for (int i = 0; i < items; ++i) {
            vec weight = load(w + i * LANES) * scale;
            store(w + i * LANES, weight);
            along += weight * load(s + i * LANES);
            greatest = greater(weight, greatest);
            ivec taken = (weight > vec{}) & (mask > vec{});
            int here = 0;
            for (int l = 0; l < V; ++l) here -= taken[l];
            used[i] += here;
        }
        vec logarithm;
        double found = 0;
        for (int l = 0; l < V; ++l) {
            logarithm[l] = std::log(greatest[l]);
            if (mask[l] > 0) {
                used[items] += 1;
                used[items + 1] += rescued[l] != 0;
            }
        }
        const vec here = -(along + logarithm);
        for (int l = 0; l < V; ++l) found += mask[l] > 0 ? here[l] : 0.f;
        store(mean.data() + at, along);
        store(entropy.data() + at, here);
        return found;
    }

    // From the gradient of the values to that of the encoding; h is that of each entropy
    void read_backward(const Share& mine, const float* grad_value, float* grad_code, float h) {
        const int items = memory.items;
        const int here = mine.last - mine.first;
        tell.correlate(weights.data() + mine.first * ask.size_out(), ask.size_out(),
                       grad_value + mine.first * widest, widest, here, turned[mine.thread],
                       tell.by_weight[mine.thread]);
        float mask[LANES];
        for (int b = mine.first; b < mine.last; ++b) {
            filled(b, mask);
            const float* g = grad_value + b * widest;
            const float *s = ask.output() + b * ask.size_out(), *w = weights.data() + b * ask.size_out();
            const float *v = tell.output() + b * tell.size_out(), *directions = asked.data() + b * ask.size_in();
            float *out = grad_code + b * widest, *u = grad_logits.data() + b * ask.size_out();
            tell.backward(g, u);
            for (int q = 0; q < queries; ++q)
                for (int m = 0; m < PARTS; ++m) {
                    const long at = (static_cast<long>(b) * queries + q) * LANES + m * V;
                    const long numbers = q * query_numbers * LANES + m * V;
                    vec along{};
                    for (long k = 0; k < query_numbers; ++k)
                        along += load(g + numbers + k * LANES) * load(v + numbers + k * LANES);
                    // a weight of 1 is constant: what rounding leaves of its gradient is none
                    const vec several = pick(load(entropy.data() + at) > vec{}, load(mask + m * V), vec{});
                    const vec constant = h * load(mean.data() + at) - along;
                    const long from = static_cast<long>(q) * items * LANES + m * V;
                    for (int i = 0; i < items; ++i) {
                        const long here = from + static_cast<long>(i) * LANES;
                        store(u + here,
                              (load(u + here) + constant - h * load(s + here)) * load(w + here) * several);
                    }
                }
            ask.backward(u, out);
            if (!memory.cosine) continue;
            for (int q = 0; q < queries; ++q)
                for (int m = 0; m < PARTS; ++m) {
                    const long numbers = q * query_numbers * LANES + m * V;
                    const vec inverse =
                        load(query_inverse.data() + (static_cast<long>(b) * queries + q) * LANES + m * V);
                    vec along{};
                    for (long k = 0; k < query_numbers; ++k)
                        along += load(out + numbers + k * LANES) * load(directions + numbers + k * LANES);
                    // there |x| is not what x was divided by
                    along = pick(inverse >= all(1.f / SHORTEST), vec{}, along);
                    for (long k = 0; k < query_numbers; ++k) {
                        const long here = numbers + k * LANES;
                        store(out + here, (load(out + here) - load(directions + here) * along) * inverse);
                    }
                }
        }
        ask.correlate(asked.data() + mine.first * ask.size_in(), ask.size_in(),
                      grad_logits.data() + mine.first * ask.size_out(), ask.size_out(), here, turned[mine.thread],
                      ask.by_weight[mine.thread]);
    }

    void add_items() {
        const int channels = ask.spec.inputs, places = ask.spec.taps;
        std::fill(keys_grad.begin(), keys_grad.end(), 0.f);
        std::fill(values_grad.begin(), values_grad.end(), 0.f);
        ask.add_weights(keys_grad.data(), 1.f / memory.temperature, threads);
        tell.add_weights(values_grad.data(), 1.f, threads);
        for (int i = 0; i < memory.items; ++i) {
            const float *grad = keys_grad.data() + i * apart(), *value = values_grad.data() + i * apart();
            const float *key = keys.data() + i * apart(), inverse = item_inverse[i];
            float along = 0;
            if (memory.cosine && inverse < 1.f / SHORTEST)
                for (long k = 0; k < query_numbers; ++k) along += grad[k] * key[k];
            along *= memory.temperature * memory.temperature;
            float* to = memory.grads_at + i * query_numbers;
            for (int p = 0; p < places; ++p)
                for (int c = 0; c < channels; ++c) {
                    const long k = static_cast<long>(p) * channels + c;
                    to[c * places + p] += value[k] + (grad[k] - key[k] * along) * inverse;
                }
        }
    }

    // ---- a batch

    void barrier() const {
#pragma omp barrier
    }

    void work(const Share& mine, const float* seen, const float* wanted, float weight, float h) {
        const Layer &first = layers.front(), &last = layers.back();
        const long size = first.size_in();
        for (int b = mine.first; b < mine.last; ++b) {
            const int here = std::min(LANES, count - b * LANES);
            const long from = static_cast<long>(b) * LANES * (size / LANES);
            take(seen + from, here, first.spec.inputs, first.spec.places_in, x.data() + b * size);
            if (wanted != seen)
                take(wanted + from, here, last.spec.outputs, last.spec.places_out, target.data() + b * size);
        }
        const float* goal = wanted == seen ? x.data() : target.data();
        const float* h_in = x.data();
        for (size_t i = 0; i < layers.size(); ++i) {
            if (remembers && static_cast<int>(i) == code) {
                read(mine, h_in);
                h_in = tell.output();
            }
            Layer& layer = layers[i];
            for (int b = mine.first; b < mine.last; ++b)
                layer.forward(h_in + b * layer.size_in(), layer.before_norm() + b * layer.size_out());
            finish_forward(mine, layer);
            h_in = layer.output();
        }
        lose(mine, h_in, goal, weight);
        barrier();  // the way back takes the place of sums that another thread may still read
        float *grad = grads[0].data(), *next = grads[1].data();
        for (int i = static_cast<int>(layers.size()) - 1; i >= 0; --i) {
            Layer& layer = layers[i];
            begin_backward(mine, layer, grad);
            const float* before = i == 0                   ? x.data()
                                  : remembers && i == code ? tell.output()
                                                           : layers[i - 1].output();
            layer.correlate(before + mine.first * layer.size_in(), layer.size_in(), grad + mine.first * widest,
                            widest, mine.last - mine.first, turned[mine.thread], layer.by_weight[mine.thread]);
            for (int b = mine.first; b < mine.last && i > 0; ++b)
                layer.backward(grad + b * widest, next + b * widest);
            std::swap(grad, next);
            if (remembers && i == code) {
                read_backward(mine, grad, next, h);
                std::swap(grad, next);
            }
        }
        barrier();
        for (size_t i = mine.thread; i < layers.size(); i += threads) add_layer(layers[i]);
        if (remembers && mine.thread == threads - 1) add_items();
    }

    void add_layer(Layer& layer) const {
        layer.add_weights(layer.spec.weight_grad, 1.f, threads);
        if (layer.spec.bias)
            for (int t = 0; t < threads; ++t)
                for (int c = 0; c < layer.spec.outputs; ++c)
                    layer.spec.bias_grad[c] += layer.bias_sums[static_cast<size_t>(t) * layer.spec.outputs + c];
    }

    // Squared error and its gradient, times a weight
    void lose(const Share& mine, const float* y, const float* goal, float weight) {
        const long size = layers.back().size_out();
        float mask[LANES], *grad = grads[0].data();
        double found = 0;
        for (int b = mine.first; b < mine.last; ++b) {
            filled(b, mask);
            vec squares{};
            for (long at = 0; at < size; at += LANES)
                for (int m = 0; m < PARTS; ++m) {
                    const long here = b * size + at + m * V;
                    vec r = (load(y + here) - load(goal + here)) * load(mask + m * V);
                    squares += r * r;
                    store(grad + b * widest + at + m * V, r * (2 * weight));
                }
            found += sum(squares);
        }
        losses[mine.thread] = found * weight;
    }
};

}  // namespace

extern "C" {

// What a network and its memory are; null where there is no room
PUBLIC void* lanes_network(const LayerSpec* layers, int count, int code, const LayerSpec* ask,
                           const LayerSpec* tell, const MemorySpec* memory) {
    try {
        auto* network = new Network;
        for (int i = 0; i < count; ++i) {
            // of few inputs most of a register would be padding
            const bool swap = layers[i].inputs < V / 2 && layers[i].outputs > layers[i].inputs;
            network->layers.emplace_back(layers[i], swap);
        }
        network->code = code;
        if (memory) {
            network->remembers = true;
            network->memory = *memory;
            network->query_numbers = static_cast<long>(ask->inputs) * ask->taps;
            const long apart = network->apart();
            for (auto* some : {&network->keys, &network->values, &network->keys_grad, &network->values_grad})
                some->resize(memory->items * apart);
            network->item_inverse.resize(memory->items);
            LayerSpec asking = *ask, telling = *tell;
            asking.weight = network->keys.data();
            telling.weight = network->values.data();
            asking.by_output = telling.by_input = apart;
            asking.by_input = telling.by_output = 1;
            asking.by_tap = telling.by_tap = ask->inputs;
            network->ask = Layer(asking, false);
            network->tell = Layer(telling, true);
            network->queries = ask->places_out;
        }
        return network;
    } catch (const std::bad_alloc&) {
        return nullptr;
    }
}

PUBLIC void lanes_free(void* network) { delete static_cast<Network*>(network); }

// Adds to the gradients; 0, or 1 where there is no room
PUBLIC int lanes_step(void* handle, const float* seen, const float* wanted, int samples, float weight,
                      float entropy_weight, int threads, double* loss, int64_t* counts) {
    auto& network = *static_cast<Network*>(handle);
    try {
        network.room(samples, threads);
    } catch (const std::bad_alloc&) {
        network.release();
        return 1;
    }
    const float h = network.remembers ? entropy_weight / (static_cast<float>(samples) * network.queries) : 0.f;
    if (network.remembers) network.pack();
    const int wanted_threads = network.threads;
#pragma omp parallel num_threads(wanted_threads) if (wanted_threads > 1)
    {
        int thread = 0;
#ifdef _OPENMP
        thread = omp_get_thread_num();
#pragma omp single
        network.threads = omp_get_num_threads();  // which may be fewer
#endif
        const long all = network.blocks, team = network.threads;
        const Share mine{thread, static_cast<int>(all * thread / team),
                         static_cast<int>(all * (thread + 1) / team)};
        network.work(mine, seen, wanted, weight, h);
    }
    *loss = 0;
    for (int t = 0; t < network.threads; ++t) {
        *loss += network.losses[t];
        if (network.remembers) {
            *loss += h * network.entropies[t];
            for (int i = 0; i < network.memory.items + 2; ++i)
                counts[i] += network.counts[static_cast<size_t>(t) * (network.memory.items + 2) + i];
        }
    }
    return 0;
}

}  // extern "C"
