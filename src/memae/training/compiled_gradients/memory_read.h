// The read of the memory, equations 3 to 8 of Gong et al. 2019, forward and backward, for some of the blocks of a batch.

#pragma once

#include <algorithm>
#include <cmath>

#include "layers.h"

namespace {

// What one thread does in the memory.
struct MemoryRead : Layers {
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
