// Sums over images of 8 bits, exact and in one pass. Called through memae/data/byte_sums.py.

#include <algorithm>

#include "registers.h"

// Of each of some images of so many bytes: their sum, and the sum of their squares
extern "C" PUBLIC void byte_sums(const uint8_t* pixels, int64_t images, int64_t numbers, int64_t* sums) {
    for (int64_t n = 0; n < images; ++n, pixels += numbers, sums += 2) {
        sums[0] = sums[1] = 0;
        for (int64_t start = 0; start < numbers;) {  // pieces whose sums have room in 32 bits
            const int64_t stop = std::min<int64_t>(start + (1 << 15), numbers);
            uint32_t sum = 0, squares = 0;
            for (; start < stop; ++start) {
                const uint32_t pixel = pixels[start];
                sum += pixel;
                squares += pixel * pixel;
            }
            sums[0] += sum;
            sums[1] += squares;
        }
    }
}
