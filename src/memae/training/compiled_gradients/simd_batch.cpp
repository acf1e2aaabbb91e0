// Loss and gradients of small autoencoders, with the samples of a batch in the registers of the processor.
//
// A map lies as [block][place][channel][lane]: a block holds LANES samples. Samples never meet each other, so a layer
// of whatever kernel and stride multiplies a weight with a vector of samples, once for each pair of places. The read
// of the memory is two such layers with a sparse softmax between them. docs/compiled-gradients.md has an example.
//
// The gradient of a layer's output takes the place of that output. Each thread has some of the blocks; threads wait
// for each other where BatchNorm needs the statistics of all of them, and add up their gradients at the end.

#include "gradients.h"

#include <algorithm>
#include <barrier>
#include <cmath>
#include <exception>
#include <latch>
#include <optional>
#include <thread>
#include <vector>

#include "simd.h"

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#define GAP 16  // floats between two arrays of the workspace; to touch them is an error
#else
#define GAP 0
#define ASAN_POISON_MEMORY_REGION(address, size) (void)0
#define ASAN_UNPOISON_MEMORY_REGION(address, size) (void)0
#endif

namespace {

constexpr int PARTS = 2, LANES = PARTS * V;   // vectors and samples of a block
constexpr int ROWS = ACCUMULATORS / PARTS;    // channels whose sums stay in registers
constexpr int CHANNELS = 8;                   // that BatchNorm takes at a time
constexpr int64_t TRANSPOSED = 1 << 14;       // floats that are transposed at a time: they stay in the cache
constexpr float SHORTEST = 1e-12f;            // vectors shorter than this are divided by it

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

struct Workspace {  // counts the floats that are taken from it; gives null while it has no address
    float* base;
    int64_t used = 0;

    template <class T = float>
    T* take(int64_t count) {
        float* from = base ? base + used : nullptr;
        used += (count * static_cast<int64_t>(sizeof(T)) + 63) / 64 * 16 + GAP;
        if (base) ASAN_POISON_MEMORY_REGION(base + used - GAP, GAP * sizeof(float));
        return reinterpret_cast<T*>(from);
    }
};

struct Moments {  // of some numbers: their mean and the sum of squared differences from it, by Chan et al. 1979
    double count, mean, squares;

    void merge(const Moments& more) {
        const double both = count + more.count, apart = more.mean - mean;
        mean += apart * more.count / both;
        squares += more.squares + apart * apart * count * more.count / both;
        count = both;
    }
    float inverse_deviation(float epsilon) const { return static_cast<float>(1 / std::sqrt(squares / count + epsilon)); }
};

struct GradientSums {  // of a channel: of the gradient, and of its product with what BatchNorm centred
    double plain, centred;
};

struct Direction {  // forward: rows are the outputs and depth the inputs of a layer; backward: the other way round
    const memae_pairs& pairs;
    const int32_t* from;  // place of each pair whose numbers are read
    int places, rows, depth;
    int64_t by_row, by_depth;
};

struct Layer : memae_layer {
    bool wider_output;                  // the sums of weight gradients have a row for each input, not for each output
    int rows, columns;                  // of those sums, for each tap
    int64_t in_size, out_size;          // floats of a block
    int64_t transposed_size;            // of what correlate transposes of a block
    int64_t blocks_at_once;
    float *before_norm, *output;        // (blocks, out_size)
    float* weight_sums;                 // (threads, taps, rows, columns)
    GradientSums* sums;                 // (threads, outputs)
    Moments* moments;                   // (threads, outputs)

    void prepare(const memae_layer& spec, int blocks, int threads, Workspace& workspace) {
        memae_layer::operator=(spec);
        wider_output = outputs > inputs;
        rows = wider_output ? inputs : outputs;
        columns = ((wider_output ? outputs : inputs) + V - 1) / V * V;
        in_size = static_cast<int64_t>(places_in) * inputs * LANES;
        out_size = static_cast<int64_t>(places_out) * outputs * LANES;
        transposed_size = static_cast<int64_t>(wider_output ? places_out : places_in) * columns * LANES;
        blocks_at_once = std::max<int64_t>(1, TRANSPOSED / transposed_size);
        output = workspace.take(blocks * out_size);
        before_norm = scale ? workspace.take(blocks * out_size) : output;
        weight_sums = workspace.take(static_cast<int64_t>(threads) * taps * rows * columns);
        sums = workspace.take<GradientSums>(static_cast<int64_t>(threads) * outputs);
        moments = workspace.take<Moments>(scale ? static_cast<int64_t>(threads) * outputs : 0);
    }

    Direction forward() const {
        return {sorted_by_out, sorted_by_out.in, places_out, outputs, inputs, by_output, by_input};
    }
    Direction backward() const {
        return {sorted_by_in, sorted_by_in.out, places_in, inputs, outputs, by_input, by_output};
    }
};

struct Network {
    Workspace workspace;
    int samples, threads, blocks, num_layers, decoder;
    Layer* layers;
    float *input, *target;              // (blocks, in_size of the first layer)
    float* filled[2];                   // (LANES,) 1 where a lane of a block has a sample: of the last block, and others
    int64_t transposed_size = 0;
    float* transposed;                  // (threads, transposed_size)
    double *errors, *entropies;         // (threads,)

    memae_memory memory{};              // items are null without one
    Layer query, value;
    int queries = 0;                    // of a sample
    int64_t query_size = 0, item_step = 0;    // numbers of a query or item, and from one packed item to the next
    float *items, *item_scale;          // packed (item, place, channel); and what a dot product with each is multiplied by
    float* item_grads[2];               // as items: through queries and through values
    float *weights, *inverse, *live;    // (blocks, queries, N, LANES); (blocks, queries, LANES) each
    float *scratch, *used;              // (threads, query.out_size), (threads, N + 1, V)

    Network(const memae_network& spec, int samples_, int threads_, float* base)
        : workspace{base}, samples(samples_), blocks((samples_ + LANES - 1) / LANES), num_layers(spec.num_layers),
          decoder(spec.decoder) {
        threads = std::clamp(threads_, 1, blocks);
        layers = workspace.take<Layer>(num_layers);
        for (int i = 0; i < num_layers; ++i) {
            Layer layer;
            add(layer, spec.layers[i]);
            if (base) layers[i] = layer;
        }
        const int64_t in_size = static_cast<int64_t>(spec.layers[0].places_in) * spec.layers[0].inputs * LANES;
        for (auto* some : {&input, &target}) *some = workspace.take(blocks * in_size);
        for (auto& some : filled) some = workspace.take(LANES);
        for (auto* some : {&errors, &entropies}) *some = workspace.take<double>(threads);
        if (spec.memory) add(*spec.memory);
        transposed = workspace.take(threads * transposed_size);
    }

    void add(Layer& layer, const memae_layer& spec) {
        layer.prepare(spec, blocks, threads, workspace);
        transposed_size = std::max(transposed_size, layer.blocks_at_once * layer.transposed_size);
    }

    void add(const memae_memory& spec) {
        memory = spec;
        queries = spec.query.places_out;
        query_size = static_cast<int64_t>(spec.query.inputs) * spec.query.taps;
        item_step = query_size + 16;  // items a power of two apart would share a line of the cache
        memory.query.by_output = memory.value.by_input = item_step;
        memory.query.by_input = memory.value.by_output = 1;
        memory.query.by_tap = memory.value.by_tap = spec.query.inputs;
        const int64_t lanes = static_cast<int64_t>(blocks) * queries * LANES;
        for (auto* some : {&items, &item_grads[0], &item_grads[1]}) *some = workspace.take(spec.num_items * item_step);
        memory.query.weight = memory.value.weight = items;
        memory.query.weight_grad = item_grads[0];
        memory.value.weight_grad = item_grads[1];
        add(query, memory.query);
        add(value, memory.value);
        item_scale = workspace.take(spec.num_items);
        weights = workspace.take(lanes * spec.num_items);
        for (auto* some : {&inverse, &live}) *some = workspace.take(lanes);
        scratch = workspace.take(threads * query.out_size);
        used = workspace.take(static_cast<int64_t>(threads) * (spec.num_items + 1) * V);
    }

    void begin() {
        for (int l = 0; l < LANES; ++l) {
            filled[0][l] = (blocks - 1) * LANES + l < samples ? 1.f : 0.f;
            filled[1][l] = 1.f;
        }
        for (int i = 0; memory.items && i < memory.num_items; ++i) {
            const float* item = memory.items + i * query_size;
            double squares = 0;
            for (int64_t k = 0; k < query_size; ++k) squares += static_cast<double>(item[k]) * item[k];
            const float length = memory.cosine ? std::max(static_cast<float>(std::sqrt(squares)), SHORTEST) : 1.f;
            item_scale[i] = 1.f / (length * memory.temperature);
            for (int p = 0; p < query.taps; ++p)
                for (int c = 0; c < query.inputs; ++c)
                    items[i * item_step + p * query.inputs + c] = item[c * query.taps + p];
        }
    }

    const float* filled_lanes(int block) const { return filled[block + 1 < blocks]; }
};

// What one thread does: some of the blocks, through the whole network and back.
struct Worker {
    Network& net;
    std::barrier<>& others;
    const int thread, first, last;      // blocks

    void run(const float* seen, const float* wanted, float weight, float entropy_weight) {
        take(seen, net.input);
        if (wanted != seen) take(wanted, net.target);
        const float* x = net.input;
        for (int i = 0; i < net.num_layers; ++i) {
            if (net.memory.items && i == net.decoder) x = read(x);
            x = forward(net.layers[i], x);
        }
        lose(wanted == seen ? net.input : net.target, weight);
        for (int i = net.num_layers - 1; i >= 0; --i) {
            const bool behind_memory = net.memory.items && i == net.decoder;
            Layer* before = i == 0 ? nullptr : behind_memory ? &net.value : &net.layers[i - 1];
            backward(net.layers[i], before ? before->output : net.input, before);
            if (behind_memory) read_backward(net.layers[i - 1], entropy_weight);
        }
        others.arrive_and_wait();
        for (int i = thread; i < net.num_layers; i += net.threads) add_gradients(net.layers[i]);
        if (net.memory.items && thread == net.threads - 1) add_item_gradients();
    }

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

    // ---- the memory: equations 3 to 8 of Gong et al. 2019

    const float* read(const float* encoding) const {
        const int64_t step = static_cast<int64_t>(net.memory.num_items) * LANES;
        float* used = net.used + static_cast<int64_t>(thread) * (net.memory.num_items + 1) * V;
        std::fill(used, used + (net.memory.num_items + 1) * V, 0.f);
        double entropies = 0;
        for (int b = first; b < last; ++b) {
            const float *x = encoding + b * net.query.in_size, *mask = net.filled_lanes(b);
            float *s = net.query.output + b * net.query.out_size, *w = net.weights + b * net.query.out_size;
            gather(net.query.forward(), net.query, nullptr, x, [&](int64_t at, int, vec sum) { store(s + at, sum); });
            each_vector(net.queries, LANES, [&](int m, int64_t at) {
                const int64_t q = at / LANES, lane = b * net.queries * LANES + at;
                vec squares{}, inverse = all(1.f);
                for (int64_t k = 0; net.memory.cosine && k < net.query_size; ++k) {
                    const vec v = load(x + (q * net.query_size + k) * LANES + m * V);
                    squares += v * v;
                }
                if (net.memory.cosine)
                    for (int l = 0; l < V; ++l) inverse[l] = 1.f / std::max(std::sqrt(squares[l]), SHORTEST);
                store(net.inverse + lane, inverse);
                const vec entropy = address(s + q * step + m * V, w + q * step + m * V, inverse, load(mask + m * V), used);
                store(net.live + lane, select(entropy > vec{}, load(mask + m * V), vec{}));
                entropies += sum(entropy * load(mask + m * V));
            });
            float* y = net.value.output + b * net.value.out_size;
            gather(net.value.forward(), net.value, nullptr, w, [&](int64_t at, int, vec sum) { store(y + at, sum); });
        }
        net.entropies[thread] = entropies;
        return net.value.output;
    }

    // One query in each of V lanes: from dot products to logits less their greatest, in place, and to weights.
    // Gives the entropies.
    INLINE vec address(float* s, float* w, vec inverse, vec mask, float* used) const {
        const int items = net.memory.num_items;
        vec greatest{}, total{}, kept{}, along{};
        for (int i = 0; i < items; ++i) {
            const vec logit = load(s + i * LANES) * inverse * net.item_scale[i];
            store(s + i * LANES, logit);
            greatest = i ? larger(logit, greatest) : logit;
        }
        for (int i = 0; i < items; ++i) {
            const vec logit = load(s + i * LANES) - greatest, e = exponential(logit);
            store(s + i * LANES, logit);
            store(w + i * LANES, e);
            total += e;
        }
        // where not even the nearest item, whose e is 1, is above the threshold, the first of the nearest is read
        const vec threshold = all(net.memory.threshold), share = 1.f / total;
        const ivec fallback = ~(share > threshold);
        ivec open = fallback;
        for (int i = 0; i < items; ++i) {
            vec e = load(w + i * LANES);
            const vec logit = load(s + i * LANES);
            const ivec nearest = open & (logit == vec{});
            open &= ~nearest;
            e = select((e * share > threshold) | nearest, e, vec{});
            store(w + i * LANES, e);
            kept += e;
            along += e * logit;
            store(used + i * V, load(used + i * V) + select(e > vec{}, mask, vec{}));
        }
        store(used + items * V, load(used + items * V) + select(fallback, mask, vec{}));
        const vec scale = 1.f / kept;
        vec logarithm;
        for (int i = 0; i < items; ++i) store(w + i * LANES, load(w + i * LANES) * scale);
        for (int l = 0; l < V; ++l) logarithm[l] = std::log(kept[l]);
        return logarithm - along * scale;
    }

    // From the gradient of the values to that of the last layer of the encoder, in place of its output
    void read_backward(Layer& encoder, float entropy_weight) const {
        const int items = net.memory.num_items;
        correlate(net.value, net.weights, net.value.output);
        for (int b = first; b < last; ++b) {
            const float* s = net.query.output + b * net.query.out_size;
            float *w = net.weights + b * net.query.out_size, *u = net.scratch + thread * net.query.out_size;
            gather(net.value.backward(), net.value, nullptr, net.value.output + b * net.value.out_size,
                   [&](int64_t at, int, vec sum) { store(u + at, sum - entropy_weight * load(s + at)); });
            each_vector(net.queries, LANES, [&](int m, int64_t at) {
                const int64_t from = at / LANES * items * LANES + m * V, lane = b * net.queries * LANES + at;
                const vec inverse = load(net.inverse + lane), live = load(net.live + lane);
                vec mean{}, along{};
                for (int i = 0; i < items; ++i) mean += load(u + from + i * LANES) * load(w + from + i * LANES);
                for (int i = 0; i < items; ++i) {
                    // a weight of 1 is constant: what rounding leaves of its gradient is none
                    const vec grad = (load(u + from + i * LANES) - mean) * load(w + from + i * LANES) * live;
                    along += grad * load(s + from + i * LANES);
                    store(u + from + i * LANES, grad * inverse * net.item_scale[i]);
                }
                // a query that is too short is not divided by its length
                const vec towards = select(inverse < all(1.f / SHORTEST), along * inverse * inverse, vec{});
                store(net.live + lane, net.memory.cosine ? towards : vec{});
            });
            std::copy(u, u + net.query.out_size, w);
        }
        correlate(net.query, encoder.output, net.weights);
        const int query_places = net.query.taps;
        for (int b = first; b < last; ++b) {
            float *y = encoder.output + b * net.query.in_size, *along = net.live + b * net.queries * LANES;
            const int64_t step = net.query.inputs * static_cast<int64_t>(query_places) * LANES;
            gather(net.query.backward(), net.query, nullptr, net.weights + b * net.query.out_size,
                   [&](int64_t at, int m, vec sum) {
                       const vec x = load(y + at), towards = load(along + at / step * LANES + m * V);
                       store(y + at, through(encoder.activation, x, sum - x * towards));
                   });
        }
    }

    void add_item_gradients() const {
        for (auto* some : net.item_grads) std::fill(some, some + net.memory.num_items * net.item_step, 0.f);
        add_weight_gradients(net.query);
        add_weight_gradients(net.value);
        for (int i = 0; i < net.memory.num_items; ++i) {
            const float *item = net.items + i * net.item_step, *through_value = net.item_grads[1] + i * net.item_step;
            const float *through_query = net.item_grads[0] + i * net.item_step;
            const float inverse = net.item_scale[i] * net.memory.temperature;
            float along = 0;
            if (net.memory.cosine && inverse < 1.f / SHORTEST)
                for (int64_t k = 0; k < net.query_size; ++k) along += through_query[k] * item[k] * inverse * inverse;
            float* to = net.memory.items_grad + i * net.query_size;
            for (int p = 0; p < net.query.taps; ++p)
                for (int c = 0; c < net.query.inputs; ++c) {
                    const int64_t k = static_cast<int64_t>(p) * net.query.inputs + c;
                    to[c * net.query.taps + p] += through_value[k] + through_query[k] - item[k] * along;
                }
        }
    }
};

}  // namespace

#define PUBLIC extern "C" __attribute__((visibility("default")))

PUBLIC int32_t memae_interface() { return MEMAE_INTERFACE; }

PUBLIC int64_t memae_workspace(const memae_network* network, int32_t samples, int32_t threads) {
    return Network(*network, samples, threads, nullptr).workspace.used;
}

PUBLIC double memae_gradients(const memae_network* network, const float* seen, const float* target, int32_t samples,
                              float weight, float entropy_weight, int32_t threads, float* workspace,
                              int64_t* counts) {
    Network net(*network, samples, threads, workspace);
    net.begin();
    const float h = net.memory.items ? entropy_weight / (static_cast<float>(samples) * net.queries) : 0.f;
    std::latch start{1};
    std::optional<std::barrier<>> meeting;
    auto work = [&](int64_t thread) {
        start.wait();
        const int from = static_cast<int>(thread * net.blocks / net.threads);
        const int to = static_cast<int>((thread + 1) * net.blocks / net.threads);
        Worker{net, *meeting, static_cast<int>(thread), from, to}.run(seen, target, weight, h);
    };
    std::vector<std::thread> others;
    try {
        others.reserve(net.threads - 1);
        while (static_cast<int>(others.size()) < net.threads - 1) others.emplace_back(work, others.size() + 1);
    } catch (const std::exception&) {  // the system gives no more threads: those that are there do the work
    }
    net.threads = static_cast<int>(others.size()) + 1;
    meeting.emplace(net.threads);
    start.count_down();
    work(0);
    for (auto& other : others) other.join();

    double loss = 0;
    for (int t = 0; t < net.threads; ++t) loss += net.errors[t] + (net.memory.items ? h * net.entropies[t] : 0);
    for (int i = 0; net.memory.items && i <= net.memory.num_items; ++i) {
        int64_t& count = counts[i < net.memory.num_items ? i : i + 1];
        for (int t = 0; t < net.threads; ++t)
            for (int l = 0; l < V; ++l)
                count += static_cast<int64_t>(net.used[(static_cast<int64_t>(t) * (net.memory.num_items + 1) + i) * V + l]);
    }
    if (net.memory.items) counts[net.memory.num_items] += static_cast<int64_t>(samples) * net.queries;
    ASAN_UNPOISON_MEMORY_REGION(workspace, net.workspace.used * sizeof(float));
    return loss;
}
