// One step of Adam for all parameters as one vector.

#include <cmath>

#include "gradients.h"

extern "C" __attribute__((visibility("default"))) void memae_adam(
    int64_t count, float* __restrict values, const float* __restrict grads, float* __restrict means,
    float* __restrict squares, float* steps, double rate, double beta1, double beta2, double epsilon) {
    const double step = *steps += 1;
    const float size = static_cast<float>(rate / (1 - std::pow(beta1, step)));
    const float unbias = static_cast<float>(1 / std::sqrt(1 - std::pow(beta2, step)));
    const float new1 = static_cast<float>(1 - beta1), new2 = static_cast<float>(1 - beta2);
    const float least = static_cast<float>(epsilon);
    for (int64_t i = 0; i < count; ++i) {
        means[i] += new1 * (grads[i] - means[i]);
        squares[i] += new2 * (grads[i] * grads[i] - squares[i]);
        values[i] -= size * means[i] / (std::sqrt(squares[i]) * unbias + least);
    }
}
