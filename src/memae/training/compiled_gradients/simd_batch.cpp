// Loss and gradients of small autoencoders, with the samples of a batch in the registers of the processor.
//
// A map lies as [block][place][channel][lane]: a block holds LANES samples. Samples never meet each other, so a layer
// of whatever kernel and stride multiplies a weight with a vector of samples, once for each pair of places. The read
// of the memory is two such layers with a sparse softmax between them. docs/compiled-gradients.md has an example.
//
// The gradient of a layer's output takes the place of that output. Each thread has some of the blocks; threads wait
// for each other where BatchNorm needs the statistics of all of them, and add up their gradients at the end.

#include "gradients.h"

#include <barrier>
#include <exception>
#include <latch>
#include <optional>
#include <thread>
#include <vector>

#include "memory_read.h"

namespace {

// What one thread does: some of the blocks, through the whole network and back.
struct Worker : MemoryRead {
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
