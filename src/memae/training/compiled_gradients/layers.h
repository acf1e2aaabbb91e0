// The layers of a network, forward and backward, for some of the blocks of a batch.

#pragma once

#include <algorithm>
#include <barrier>
#include <cmath>

#include "network.h"

namespace {

INLINE vec activate(int activation, vec x) {
    if (activation == MEMAE_RELU) return select(x < vec{}, vec{}, x);  // NaN stays NaN
    return activation == MEMAE_TANH ? tanh(x) : x;
}

// The gradient of an activation's input, given its output y and the gradient of that
INLINE vec through(int activation, vec y, vec grad) {
    if (activation == MEMAE_RELU) return select(y > vec{}, grad, vec{});
    return activation == MEMAE_TANH ? grad * (1.f - y * y) : grad;
}

// work(m, at) for both vectors of a channel at every place, `step` floats apart
template <class Work>
INLINE void each_vector(int places, int64_t step, const Work& work) {
    for (int p = 0; p < places; ++p)
        for (int m = 0; m < PARTS; ++m) work(m, p * step + m * V);
}

// What one thread does in the layers.
struct Layers {
    Network& net;
    std::barrier<>& others;
    const int thread, first, last;      // blocks

    // Samples (count, channels, places) to blocks; lanes without a sample are zero
    void take(const float* samples, float* into) const {
        const Layer& layer = net.layers[0];
        int channels = layer.inputs, places = layer.places_in;
        const int64_t numbers = static_cast<int64_t>(channels) * places;
        if (places == 1) std::swap(channels, places);  // the same order, and longer rows
        for (int b = first; b < last; ++b)
            for (int c = 0; c < channels; ++c)
                transpose(samples + b * LANES * numbers + c * places, numbers, std::min(LANES, net.samples - b * LANES),
                          places, into + b * layer.in_size + c * LANES, channels * LANES, LANES);
    }

    // ---- layers

    // finish(at, m, sum) for each vector of the result: the sum over all pairs of a place, and over the depth
    template <class Finish>
    INLINE void gather(const Direction& way, const Layer& layer, const float* shift, const float* x,
                       const Finish& finish) const {
        in_pieces<ROWS>(way.rows, [&](auto r, int from) {
            constexpr int R = decltype(r)::value;
            for (int p = 0; p < way.places; ++p) {
                vec s[R][PARTS];
                for (int i = 0; i < R; ++i)
                    for (int m = 0; m < PARTS; ++m) s[i][m] = all(shift ? shift[from + i] : 0.f);
                for (int e = way.pairs.start[p]; e < way.pairs.start[p + 1]; ++e)
                    multiply(s, layer.weight + way.pairs.tap[e] * layer.by_tap + from * way.by_row, way.by_row,
                             way.by_depth, x + static_cast<int64_t>(way.from[e]) * way.depth * LANES, LANES, way.depth);
                for (int i = 0; i < R; ++i)
                    for (int m = 0; m < PARTS; ++m)
                        finish((static_cast<int64_t>(p) * way.rows + from + i) * LANES + m * V, m, s[i][m]);
            }
        });
    }

    // sums[r][m] += sum over k of a[r ar + k ak] x[k xs + lanes of m]
    template <int R, int M>
    static INLINE void multiply(vec (&sums)[R][M], const float* a, int64_t ar, int64_t ak, const float* x, int64_t xs,
                                int depth) {
        for (int k = 0; k < depth; ++k, a += ak, x += xs) {
            vec some[M];
            for (int m = 0; m < M; ++m) some[m] = load(x + m * V);
            for (int r = 0; r < R; ++r)
                for (int m = 0; m < M; ++m) sums[r][m] += a[r * ar] * some[m];
        }
    }

    const float* forward(Layer& layer, const float* x) const {
        for (int b = first; b < last; ++b) {
            float* y = layer.before_norm + b * layer.out_size;
            gather(layer.forward(), layer, layer.scale ? nullptr : layer.shift, x + b * layer.in_size,
                   [&](int64_t at, int, vec sum) { store(y + at, sum); });
            for (int64_t at = 0; !layer.scale && layer.activation && at < layer.out_size; at += V)
                store(y + at, activate(layer.activation, load(y + at)));
        }
        if (layer.scale) normalise(layer);
        return layer.output;
    }

    // From the gradient of a layer's sums, which lies in its output, to that of the layer before
    void backward(Layer& layer, const float* x, Layer* before) const {
        if (layer.scale) normalise_backward(layer);
        else if (layer.shift) sum_gradients(layer);
        correlate(layer, x, layer.output);
        for (int b = first; before && b < last; ++b) {
            float* y = before->output + b * layer.in_size;
            gather(layer.backward(), layer, nullptr, layer.output + b * layer.out_size,
                   [&](int64_t at, int, vec sum) {
                       store(y + at, through(before->activation, load(y + at), sum));
                   });
        }
    }

    // Squared error; and its gradient, times a weight, in place of the last output
    void lose(const float* goal, float weight) const {
        const Layer& layer = net.layers[net.num_layers - 1];
        double found = 0;
        for (int b = first; b < last; ++b) {
            const float* mask = net.filled_lanes(b);
            float* y = layer.output + b * layer.out_size;
            const float* t = goal + b * layer.out_size;
            vec squares{};
            each_vector(layer.places_out * layer.outputs, LANES, [&](int m, int64_t at) {
                const vec r = (load(y + at) - load(t + at)) * load(mask + m * V);
                squares += r * r;
                store(y + at, through(layer.activation, load(y + at), r * (2 * weight)));
            });
            found += sum(squares);
        }
        net.errors[thread] = found * weight;
    }

    // The sums of this thread over samples and places: output gradient times input, for each weight
    void correlate(const Layer& layer, const float* x, const float* grad) const {
        struct Side {
            const float* data;
            int64_t size;
            int channels, places;
            const int32_t* place;
        };
        Side row{grad + first * layer.out_size, layer.out_size, layer.outputs, layer.places_out, layer.sorted_by_tap.out};
        Side column{x + first * layer.in_size, layer.in_size, layer.inputs, layer.places_in, layer.sorted_by_tap.in};
        if (layer.wider_output) std::swap(row, column);
        const int columns = layer.columns;
        float* transposed = net.transposed + thread * net.transposed_size;
        float* sums = layer.weight_sums + static_cast<int64_t>(thread) * layer.taps * layer.rows * columns;
        for (int64_t from = 0; from < last - first; from += layer.blocks_at_once) {
            const int blocks = static_cast<int>(std::min(last - first - from, layer.blocks_at_once));
            for (int b = 0; b < blocks; ++b)
                for (int p = 0; p < column.places; ++p)
                    transpose(column.data + (from + b) * column.size + static_cast<int64_t>(p) * column.channels * LANES,
                              LANES, column.channels, LANES,
                              transposed + b * layer.transposed_size + static_cast<int64_t>(p) * LANES * columns, columns,
                              columns);
            const float* rows = row.data + from * row.size;
            auto tile = [&](auto r, auto m, int tap, int r0, int c0) {
                constexpr int R = decltype(r)::value, M = decltype(m)::value;
                float* to = sums + (static_cast<int64_t>(tap) * layer.rows + r0) * columns + c0;
                vec s[R][M];
                for (int i = 0; i < R; ++i)
                    for (int k = 0; k < M; ++k) s[i][k] = from ? load(to + i * columns + k * V) : vec{};
                for (int b = 0; b < blocks; ++b)
                    for (int e = layer.sorted_by_tap.start[tap]; e < layer.sorted_by_tap.start[tap + 1]; ++e)
                        multiply(s, rows + b * row.size + (static_cast<int64_t>(row.place[e]) * layer.rows + r0) * LANES,
                                 LANES, 1,
                                 transposed + b * layer.transposed_size +
                                     static_cast<int64_t>(column.place[e]) * LANES * columns + c0,
                                 columns, LANES);
                for (int i = 0; i < R; ++i)
                    for (int k = 0; k < M; ++k) store(to + i * columns + k * V, s[i][k]);
            };
            for (int tap = 0; tap < layer.taps; ++tap)
                in_pieces<ROWS>(layer.rows, [&](auto r, int r0) {
                    int c0 = 0;
                    for (; c0 + 2 * V <= columns; c0 += 2 * V) tile(r, std::integral_constant<int, 2>{}, tap, r0, c0);
                    if (c0 < columns) tile(r, std::integral_constant<int, 1>{}, tap, r0, c0);
                });
        }
    }

    // After all threads: adds their sums to the gradients
    void add_gradients(const Layer& layer) const {
        add_weight_gradients(layer);
        for (int c = 0; layer.shift && c < layer.outputs; ++c) {
            const GradientSums sums = all_sums(layer, c);
            layer.shift_grad[c] += static_cast<float>(sums.plain);
            if (layer.scale) layer.scale_grad[c] += static_cast<float>(sums.centred * all_moments(layer, c).inverse_deviation(layer.epsilon));
        }
    }

    void add_weight_gradients(const Layer& layer) const {
        const int64_t by_row = layer.wider_output ? layer.by_input : layer.by_output;
        const int64_t by_column = layer.wider_output ? layer.by_output : layer.by_input;
        const int columns = layer.wider_output ? layer.outputs : layer.inputs;
        const float* from = layer.weight_sums;
        for (int t = 0; t < net.threads; ++t)
            for (int tap = 0; tap < layer.taps; ++tap)
                for (int r = 0; r < layer.rows; ++r, from += layer.columns) {
                    float* to = layer.weight_grad + tap * layer.by_tap + r * by_row;
                    if (by_column == 1)
                        for (int c = 0; c < columns; ++c) to[c] += from[c];
                    else
                        for (int c = 0; c < columns; ++c) to[c * by_column] += from[c];
                }
    }

    // ---- BatchNorm (Ioffe and Szegedy 2015)

    // work(length, from) on some channels at a time; work(i, m, at) for both vectors of each of them at every place
    template <class Work>
    static INLINE void some_channels(const Layer& layer, const Work& work) {
        in_pieces<CHANNELS>(layer.outputs, work);
    }
    template <int N, class Work>
    static INLINE void each_channel(const Layer& layer, const Work& work) {
        for (int p = 0; p < layer.places_out; ++p)
            for (int i = 0; i < N; ++i)
                for (int m = 0; m < PARTS; ++m)
                    work(i, m, (static_cast<int64_t>(p) * layer.outputs + i) * LANES + m * V);
    }

    void normalise(Layer& layer) const {
        Moments* mine = layer.moments + static_cast<int64_t>(thread) * layer.outputs;
        std::fill(mine, mine + layer.outputs, Moments{});
        some_channels(layer, [&](auto length, int c) {
            constexpr int N = decltype(length)::value;
            for (int b = first; b < last; ++b) {
                const float *z = layer.before_norm + b * layer.out_size + c * LANES, *mask = net.filled_lanes(b);
                const double count = static_cast<double>(std::min(LANES, net.samples - b * LANES)) * layer.places_out;
                vec totals[N] = {}, squares[N] = {};
                float means[N];
                each_channel<N>(layer, [&](int i, int m, int64_t at) { totals[i] += load(z + at) * load(mask + m * V); });
                for (int i = 0; i < N; ++i) means[i] = static_cast<float>(sum(totals[i]) / count);
                each_channel<N>(layer, [&](int i, int m, int64_t at) {
                    const vec d = (load(z + at) - means[i]) * load(mask + m * V);
                    squares[i] += d * d;
                });
                for (int i = 0; i < N; ++i) mine[c + i].merge({count, means[i], sum(squares[i])});
            }
        });
        others.arrive_and_wait();
        some_channels(layer, [&](auto length, int c) {
            constexpr int N = decltype(length)::value;
            float means[N], scale[N];
            for (int i = 0; i < N; ++i) {
                const Moments all = all_moments(layer, c + i);
                means[i] = static_cast<float>(all.mean);
                scale[i] = layer.scale[c + i] * all.inverse_deviation(layer.epsilon);
                if (thread == 0) move_statistics(layer, c + i, all);
            }
            for (int b = first; b < last; ++b) {
                const int64_t from = b * layer.out_size + c * LANES;
                const float* z = layer.before_norm + from;
                float* y = layer.output + from;
                each_channel<N>(layer, [&](int i, int, int64_t at) {
                    store(y + at, activate(layer.activation, (load(z + at) - means[i]) * scale[i] + layer.shift[c + i]));
                });
            }
        });
        if (thread == 0) ++*layer.batches;
    }

    static void move_statistics(Layer& layer, int channel, const Moments& all) {
        const double unbiased = all.squares / std::max(1.0, all.count - 1);
        float &mean = layer.running_mean[channel], &variance = layer.running_variance[channel];
        mean += layer.momentum * (static_cast<float>(all.mean) - mean);
        variance += layer.momentum * (static_cast<float>(unbiased) - variance);
    }

    Moments all_moments(const Layer& layer, int channel) const {
        Moments all{};
        for (int t = 0; t < net.threads; ++t) all.merge(layer.moments[static_cast<int64_t>(t) * layer.outputs + channel]);
        return all;
    }

    GradientSums all_sums(const Layer& layer, int channel) const {
        GradientSums all{};
        for (int t = 0; t < net.threads; ++t) {
            const GradientSums& some = layer.sums[static_cast<int64_t>(t) * layer.outputs + channel];
            all.plain += some.plain;
            all.centred += some.centred;
        }
        return all;
    }

    void sum_gradients(Layer& layer) const {
        some_channels(layer, [&](auto length, int c) {
            constexpr int N = decltype(length)::value;
            vec plain[N] = {}, centred[N] = {};
            float means[N] = {};
            for (int i = 0; layer.scale && i < N; ++i) means[i] = static_cast<float>(all_moments(layer, c + i).mean);
            for (int b = first; b < last; ++b) {
                const float* g = layer.output + b * layer.out_size + c * LANES;
                const float* z = layer.before_norm + b * layer.out_size + c * LANES;
                each_channel<N>(layer, [&](int i, int, int64_t at) {
                    plain[i] += load(g + at);
                    if (layer.scale) centred[i] += load(g + at) * (load(z + at) - means[i]);
                });
            }
            GradientSums* mine = layer.sums + static_cast<int64_t>(thread) * layer.outputs + c;
            for (int i = 0; i < N; ++i) mine[i] = {sum(plain[i]), layer.scale ? sum(centred[i]) : 0.f};
        });
    }

    // Turns the gradient of what BatchNorm gave into that of what it was given, in place
    void normalise_backward(Layer& layer) const {
        sum_gradients(layer);
        others.arrive_and_wait();
        some_channels(layer, [&](auto length, int c) {
            constexpr int N = decltype(length)::value;
            float means[N], scale[N], shift[N], slope[N];
            for (int i = 0; i < N; ++i) {
                const Moments moments = all_moments(layer, c + i);
                const GradientSums sums = all_sums(layer, c + i);
                const float inverse = moments.inverse_deviation(layer.epsilon);
                means[i] = static_cast<float>(moments.mean);
                scale[i] = layer.scale[c + i] * inverse;
                shift[i] = static_cast<float>(-scale[i] * sums.plain / moments.count);
                slope[i] = static_cast<float>(-scale[i] * inverse * inverse * sums.centred / moments.count);
            }
            for (int b = first; b < last; ++b) {
                const float *z = layer.before_norm + b * layer.out_size + c * LANES, *mask = net.filled_lanes(b);
                float* g = layer.output + b * layer.out_size + c * LANES;
                each_channel<N>(layer, [&](int i, int m, int64_t at) {
                    const vec grad = load(g + at) * scale[i] + (load(z + at) - means[i]) * slope[i] + shift[i];
                    store(g + at, grad * load(mask + m * V));
                });
            }
        });
    }
};

}  // namespace
