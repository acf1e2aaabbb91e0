// A network of the C interface with its arrays for one batch, as simd_batch.cpp needs them.

#pragma once

#include "gradients.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
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

}  // namespace
