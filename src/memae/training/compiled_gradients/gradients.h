// The C interface of memae's compiled gradients: the loss of an autoencoder on one batch, and its gradients.
//
// Every address and size is checked by library.py before a call; nothing here is checked again. All numbers are
// float32 unless said otherwise, every array is contiguous, and no argument is kept after a call.
//
// A "place" is a pixel of a map; rows of a table have a single place. A layer is a list of pairs (tap, out, in): the
// weight at `tap` of the kernel leads from place `in` of the input to place `out` of the output.

#pragma once

#include <stdint.h>

#define MEMAE_INTERFACE 1  // library.py refuses a library that was built for another one

enum { MEMAE_NO_ACTIVATION, MEMAE_RELU, MEMAE_TANH };

// The pairs of a layer, sorted by one of the three, the key: those of key k are start[k] to start[k + 1] - 1.
typedef struct {
    const int32_t* start;             // (number of keys + 1,), ascending from 0 to the number of pairs
    const int32_t *tap, *out, *in;    // (pairs,), each in [0, taps), [0, places_out), [0, places_in)
} memae_pairs;

// A linear layer, a convolution or its transpose, then BatchNorm if there is one, then the activation.
typedef struct {
    int32_t inputs, outputs;          // channels, at least 1
    int32_t places_in, places_out, taps;
    int32_t activation;               // one of the enum
    int64_t by_output, by_input, by_tap;    // strides of `weight` and `weight_grad`, in floats
    memae_pairs sorted_by_out, sorted_by_in, sorted_by_tap;
    const float* weight;              // one number for each input, output and tap
    float* weight_grad;               // as `weight`; gradients are added to what is there, everywhere
    const float* shift;               // (outputs,): beta of BatchNorm, else the bias, else null
    float* shift_grad;                // (outputs,), or null
    const float* scale;               // (outputs,): gamma of BatchNorm; null where there is none, as are the next four
    float* scale_grad;                // (outputs,)
    float *running_mean, *running_variance;    // (outputs,), updated
    int64_t* batches;                 // one number, counted up
    float momentum, epsilon;          // of BatchNorm
} memae_layer;

// The memory read between two layers: equations 3 to 8 of Gong et al. 2019.
typedef struct {
    int32_t num_items;                // N, at least 1
    int32_t cosine;                   // 1 for the cosine similarity, 0 for the dot product
    float threshold;                  // lambda: weights above it are kept; 0 keeps all
    float temperature;                // above 0
    const float* items;               // (N, channels of the encoding, taps of `query`)
    float* items_grad;                // as `items`
    memae_layer query, value;         // from encoding to logits, from weights to values; pairs, channels and places only
} memae_memory;

typedef struct {
    const memae_layer* layers;        // (num_layers,), in the order of the data
    int32_t num_layers;
    int32_t decoder;                  // index of the decoder's first layer, in [1, num_layers)
    const memae_memory* memory;       // read before that layer; null for a plain autoencoder
} memae_network;

#ifdef __cplusplus
extern "C" {
#endif

int32_t memae_interface(void);

// Floats of workspace that a batch of so many samples takes with so many threads, both at least 1.
int64_t memae_workspace(const memae_network* network, int32_t samples, int32_t threads);

// Adds the gradients of weight * (sum of squared errors) + entropy_weight * (mean entropy of the reads).
//
// seen, target: (samples, inputs of the first layer, its places) what goes in and what is to come out; may be equal.
// threads: as in memae_workspace; fewer where the system gives no more. They have ended when the call returns.
// workspace: that many floats, at an address that is a multiple of 64; what it holds does not matter.
// counts: (N + 2,): added are the queries that read each item, all queries, and those that took the argmax fallback.
// Returns the loss.
double memae_gradients(const memae_network* network, const float* seen, const float* target, int32_t samples,
                       float weight, float entropy_weight, int32_t threads, float* workspace, int64_t* counts);

// One step of Adam (Kingma and Ba 2015), as torch.optim.Adam without weight decay has it.
//
// values, grads, means, squares: (count,) parameters, gradients and running means of them and of their squares; none
// may overlap another.
// steps: one number, how many steps there were; counted up first.
void memae_adam(int64_t count, float* values, const float* grads, float* means, float* squares, float* steps,
                double rate, double beta1, double beta2, double epsilon);

#ifdef __cplusplus
}
#endif
