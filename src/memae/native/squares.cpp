// Networks of folded images on a CPU, for inference: from images to codes, and to the errors of squares.
//
// Channels lie last. A row of a map then holds all that the taps of a line of a kernel meet, one number after the
// other: a convolution is a sum over lines of the kernel of products with such pieces, for several places at a
// time whose sums stay in registers. A transposed convolution of stride s is s x s such convolutions of stride 1,
// each to every s-th place. What is large, the images, is folded a row of squares at a time, and the last layer
// leaves only the errors of its squares; neither is ever whole in memory.
//
// Called through squares.py, which says what everything means. Compiled once for each width of registers.

#include <algorithm>
#include <cmath>
#include <cstring>
#include <type_traits>
#ifdef _OPENMP
#include <omp.h>
#endif

#include "registers.h"

namespace {

constexpr int SIDE = 4;        // of a square, px
constexpr int MOST_TAPS = 16;  // of a side of a kernel
constexpr int WIDEST = 3;      // registers of outputs whose sums are found together

struct PassSpec {  // a convolution, or what a transposed one brings to every s-th place
    int32_t taps_y, taps_x, stride;
    int32_t first_y, first_x;  // place of the input that the first tap meets at output 0; may be before the first
    int32_t places_y, places_x;   // of its outputs,
    int32_t at_y, at_x, step;     // which are the places at + step * n of the map
    const float *weights, *bias;  // [tap_y][tap_x][input][output]
};

struct LayerSpec {
    int32_t inputs, outputs;  // channels; the latter a multiple of 16
    int32_t height, width;    // of the map it makes
    int32_t passes, relu;
    const PassSpec* pass;
};

struct NetworkSpec {
    const LayerSpec *down, *up;   // before the memory and behind it,
    int32_t downs, ups;           // and how many
    const LayerSpec *ask, *tell;  // from codes to logits, and from weights to values; null without a memory
    int32_t cosine;
    float threshold;
};

// A map [y][x][channel] with zeros on both sides of each row, and a row of zeros for all that lies above and
// below. One with `kept` rows forgets those before.
struct Map {
    int height, width, channels, kept, left = 0;
    long step = 0;
    Numbers numbers, zeros;

    // As wide as the layer that reads it reaches
    Map(int height, int width, int channels, int kept, const LayerSpec* reader = nullptr)
        : height(height), width(width), channels(channels), kept(kept) {
        int right = 0;
        for (int p = 0; reader && p < reader->passes; ++p) {
            const auto& pass = reader->pass[p];
            left = std::max(left, -pass.first_x);
            right = std::max(right, pass.first_x + (pass.places_x - 1) * pass.stride + pass.taps_x - width);
        }
        step = static_cast<long>(left + width + right) * channels;
        numbers.resize(kept * step);
        zeros.resize(step);
    }

    float* row(int y) { return numbers.data() + (y % kept) * step + static_cast<long>(left) * channels; }
    const float* row_or_zeros(int y) {
        return y < 0 || y >= height ? zeros.data() + static_cast<long>(left) * channels : row(y);
    }
};

struct Images {
    const void* pixels;  // (count, channels, height, width), 8 bits each or floats
    int32_t bytes, count, channels, height, width;
    const float *shift, *factor;  // of each image: what the network sees is (pixel - shift) * factor

    int rows() const { return (height + SIDE - 1) / SIDE; }
    int columns() const { return (width + SIDE - 1) / SIDE; }
    int square() const { return channels * SIDE * SIDE; }
};

typedef uint32_t Four __attribute__((vector_size(16)));

template <int A, int B, int C, int D>
INLINE Four picked(Four a, Four b) {  // of the eight numbers of both
#ifdef __clang__
    return __builtin_shufflevector(a, b, A, B, C, D);
#else
    return __builtin_shuffle(a, b, Four{A, B, C, D});
#endif
}

// Four lines of bytes to their squares, whole ones first: the lines of a square lie beside each other in `squares`
void beside(const uint8_t* const (&lines)[SIDE], int columns, uint8_t* squares) {
    int x = 0;
    // four squares at a time: numbers of four bytes, turned on their side
    for (; x + SIDE <= columns; x += SIDE) {
        Four line[SIDE];
        for (int dy = 0; dy < SIDE; ++dy) std::memcpy(&line[dy], lines[dy] + x * SIDE, sizeof(Four));
        const Four low = picked<0, 4, 1, 5>(line[0], line[1]), high = picked<2, 6, 3, 7>(line[0], line[1]);
        const Four below = picked<0, 4, 1, 5>(line[2], line[3]), end = picked<2, 6, 3, 7>(line[2], line[3]);
        const Four turned[SIDE] = {picked<0, 1, 4, 5>(low, below), picked<2, 3, 6, 7>(low, below),
                                   picked<0, 1, 4, 5>(high, end), picked<2, 3, 6, 7>(high, end)};
        std::memcpy(squares + x * SIDE * SIDE, turned, sizeof turned);
    }
    for (; x < columns; ++x)
        for (int dy = 0; dy < SIDE; ++dy)
            std::memcpy(squares + (x * SIDE + dy) * SIDE, lines[dy] + x * SIDE, SIDE);
}

void beside(const float* const (&lines)[SIDE], int columns, float* squares) {
    for (int x = 0; x < columns; ++x)
        for (int dy = 0; dy < SIDE; ++dy)
            std::memcpy(squares + (x * SIDE + dy) * SIDE, lines[dy] + x * SIDE, sizeof(float) * SIDE);
}

// A row of squares of an image: the numbers of a square follow each other as [channel][y][x]. Squares that reach
// beyond the image go on with its last line. `room` is for a row of a channel.
template <class Pixel>
void fold_pixels(const Images& images, int n, int y, Pixel* room, float* row) {
    constexpr int SQUARE = SIDE * SIDE;
    const int width = images.width, whole = width / SIDE, columns = images.columns();
    const float shift = images.shift[n], factor = images.factor[n];
    for (int c = 0; c < images.channels; ++c, row += SQUARE) {
        const long plane = static_cast<long>(n) * images.channels + c;
        const Pixel* lines[SIDE];
        for (int dy = 0; dy < SIDE; ++dy) {
            const long line = plane * images.height + std::min(y * SIDE + dy, images.height - 1);
            lines[dy] = static_cast<const Pixel*>(images.pixels) + line * width;
        }
        beside(lines, whole, room);
        for (int i = 0; whole < columns && i < SQUARE; ++i)
            room[whole * SQUARE + i] = lines[i / SIDE][std::min(whole * SIDE + i % SIDE, width - 1)];
        for (long x = 0; x < columns; ++x)
            for (int i = 0; i < SQUARE; ++i)
                row[x * images.square() + i] = (static_cast<float>(room[x * SQUARE + i]) - shift) * factor;
    }
}

void fold(const Images& images, int n, int y, Numbers& room, float* row) {
    images.bytes ? fold_pixels(images, n, y, reinterpret_cast<uint8_t*>(room.data()), row)
                 : fold_pixels(images, n, y, room.data(), row);
}

// A row of a pass: `done` gets of each place its number, and the sums of some outputs from one on
template <class Done>
INLINE void convolve(const LayerSpec& layer, const PassSpec& pass, Map& from, int y, const Done& done) {
    const int depth = pass.taps_x * layer.inputs;
    const long apart = static_cast<long>(pass.stride) * layer.inputs;
    const float* rows[MOST_TAPS];
    for (int t = 0; t < pass.taps_y; ++t)
        rows[t] = from.row_or_zeros(y * pass.stride + pass.first_y + t) + pass.first_x * layer.inputs;
    in_turns<WIDEST>(layer.outputs / V, [&](auto width, int first) {
        constexpr int O = decltype(width)::value;
        in_turns<std::min(8, SUMS / O)>(pass.places_x, [&](auto places, int x) {
            constexpr int T = decltype(places)::value;
            vec sums[T][O];
            for (int o = 0; o < O; ++o)
                for (int t = 0; t < T; ++t) sums[t][o] = load(pass.bias + (first + o) * V);
            const float* weights = pass.weights + first * V;
            for (int tap = 0; tap < pass.taps_y; ++tap) {
                const float* some = rows[tap] + x * apart;
                for (int k = 0; k < depth; ++k, weights += layer.outputs) {
                    vec of[O];
                    for (int o = 0; o < O; ++o) of[o] = load(weights + o * V);
                    for (int t = 0; t < T; ++t)
                        for (int o = 0; o < O; ++o) sums[t][o] += some[t * apart + k] * of[o];
                }
            }
            for (int t = 0; t < T; ++t) done(x + t, first * V, sums[t]);
        });
    });
}

void run(const LayerSpec& layer, Map& from, Map& to, const PassSpec& pass, int y) {
    float* row = to.row(pass.at_y + pass.step * y);
    convolve(layer, pass, from, y, [&](int x, int first, auto& sums) {
        float* out = row + static_cast<long>(pass.at_x + pass.step * x) * layer.outputs + first;
        for (auto& sum : sums) {
            store(out, layer.relu ? pick(sum < vec{}, vec{}, sum) : sum);  // what is no number stays none
            out += V;
        }
    });
}

void run(const LayerSpec& layer, Map& from, Map& to) {
    for (int p = 0; p < layer.passes; ++p)
        for (int y = 0; y < layer.pass[p].places_y; ++y) run(layer, from, to, layer.pass[p], y);
}

// The maps behind the first layers of `all`, each as wide as the next layer reaches
std::vector<Map> maps_behind(const LayerSpec* layers, int first, int all) {
    std::vector<Map> maps;
    for (int l = 0; l < first; ++l)
        maps.emplace_back(layers[l].height, layers[l].width, layers[l].outputs, layers[l].height,
                          l + 1 < all ? layers + l + 1 : nullptr);
    return maps;
}

// What one thread needs to encode images
struct Encoder {
    const LayerSpec* layers;
    const Images& images;
    Map folded;
    std::vector<Map> maps;
    Numbers room;

    Encoder(const NetworkSpec& network, const Images& images)
        : layers(network.down),
          images(images),
          folded(images.rows(), images.columns(), images.square(), layers->pass->taps_y, layers),
          maps(maps_behind(layers, network.downs, network.downs)),
          room(images.columns() * SIDE * SIDE) {}

    Map& run(int n) {
        const PassSpec& first = *layers->pass;
        for (int y = 0, next = 0; y < first.places_y; ++y) {
            const int stop = std::min(y * first.stride + first.first_y + first.taps_y, folded.height);
            for (next = std::max(next, stop - first.taps_y); next < stop; ++next)
                fold(images, n, next, room, folded.row(next));
            ::run(*layers, folded, maps[0], first, y);
        }
        for (size_t l = 1; l < maps.size(); ++l) ::run(layers[l], maps[l - 1], maps[l]);
        return maps.back();
    }
};

// Logits, times their scale, to weights that add up to 1: equations 4 and 7 of Gong et al. 2019, the latter as one
// comparison. Where no weight is above the threshold the first of the greatest stays.
void address(float* logits, int items, float scale, float threshold) {
    vec most = load(logits), total{};
    for (int i = V; i < items; i += V) most = greater(load(logits + i), most);
    float greatest = most[0];
    for (int l = 1; l < V; ++l) greatest = std::max(greatest, most[l]);
    for (int i = 0; i < items; i += V) {
        const vec weight = exponential((load(logits + i) - greatest) * scale);
        store(logits + i, weight);
        total += weight;
    }
    float whole = sum(total);
    if (threshold > 0) {
        const float least = threshold * whole;
        if (least >= 1.f) {  // the greatest is e^0
            float* nearest = std::max_element(logits, logits + items);
            std::fill(logits, logits + items, 0.f);
            *nearest = 1.f;
            return;
        }
        vec kept{};
        for (int i = 0; i < items; i += V) {
            const vec weight = load(logits + i), left = pick(weight > all(least), weight, vec{});
            store(logits + i, left);
            kept += left;
        }
        whole = sum(kept);
    }
    for (int i = 0; i < items; i += V) store(logits + i, load(logits + i) / whole);
}

// What one thread needs to read the memory and to hold what comes of it against the images
struct Decoder {
    const NetworkSpec& network;
    const LayerSpec *layers, &last;
    const Images& images;
    Map values;
    std::vector<Map> weights;   // of the items; none without a memory
    std::vector<Map> maps;      // of all layers but the last
    Numbers room, row, within;  // the last two: squares that are to come out, and 1 where one that is cut has px

    Decoder(const NetworkSpec& network, const Map& codes, const Images& images)
        : network(network),
          layers(network.up),
          last(layers[network.ups - 1]),
          images(images),
          values(codes.height, codes.width, codes.channels, codes.height, layers),
          maps(maps_behind(layers, network.ups - 1, network.ups)),
          room(images.columns() * SIDE * SIDE),
          row(static_cast<size_t>(images.columns()) * images.square()),
          within(images.square()) {
        if (network.ask) weights.emplace_back(codes.height, codes.width, network.ask->outputs, codes.height);
    }

    void read(Map& codes) {
        if (weights.empty()) {
            for (int y = 0; y < codes.height; ++y)
                std::memcpy(values.row(y), codes.row(y), sizeof(float) * codes.width * codes.channels);
            return;
        }
        Map& logits = weights[0];
        ::run(*network.ask, codes, logits);
        for (int y = 0; y < codes.height; ++y)
            for (int x = 0; x < codes.width; ++x) {
                const float* code = codes.row(y) + static_cast<long>(x) * codes.channels;
                vec squares{};
                for (int c = 0; c < codes.channels; c += V) squares += load(code + c) * load(code + c);
                const float scale = network.cosine ? 1.f / std::max(std::sqrt(sum(squares)), SHORTEST) : 1.f;
                address(logits.row(y) + static_cast<long>(x) * logits.channels, logits.channels, scale,
                        network.threshold);
            }
        ::run(*network.tell, logits, values);
    }

    void run(int n, Map& codes, float* errors, float* rebuilt) {
        read(codes);
        for (size_t l = 0; l < maps.size(); ++l) ::run(layers[l], l ? maps[l - 1] : values, maps[l]);
        const long rows = images.rows(), columns = images.columns();
        for (int y = 0; y < rows; ++y) {
            const long at = (n * rows + y) * columns;
            errors_of_row(n, y, errors + at, rebuilt ? rebuilt + at * images.square() : nullptr);
        }
    }

    void errors_of_row(int n, int y, float* errors, float* rebuilt) {
        const int columns = images.columns(), square = images.square();
        const int lines = std::min(SIDE, images.height - y * SIDE), right = images.width - (columns - 1) * SIDE;
        auto across = [&](int x) { return x + 1 < columns ? SIDE : right; };
        fold(images, n, y, room, row.data());
        std::fill(errors, errors + columns, 0.f);
        for (int p = 0; p < last.passes; ++p) {
            const PassSpec& pass = last.pass[p];
            if (y % pass.step != pass.at_y) continue;
            convolve(last, pass, maps.empty() ? values : maps.back(), y / pass.step,
                     [&](int place, int from, auto& sums) {
                         const int x = pass.at_x + pass.step * place;
                         const long here = static_cast<long>(x) * square + from;
                         const bool cut = lines < SIDE || across(x) < SIDE;
                         for (int i = 0; cut && i < square; ++i)
                             within[i] = i % SIDE < across(x) && i / SIDE % SIDE < lines ? 1.f : 0.f;
                         vec total{};
                         int o = 0;
                         for (auto& made : sums) {
                             if (rebuilt) store(rebuilt + here + o, made);
                             vec off = load(&row[here + o]) - made;
                             if (cut) off *= load(&within[from + o]);
                             total += off * off;
                             o += V;
                         }
                         errors[x] += sum(total);
                     });
        }
        for (int x = 0; x < columns; ++x) errors[x] /= static_cast<float>(images.channels * lines * across(x));
    }
};

// Each image by a thread that has room of its own, made before they start: none may run out of memory. 1 if there
// is too little, else 0.
template <class Make, class Work>
int over_images(int images, int threads, const Make& make, const Work& work) {
    try {
        std::vector<decltype(make())> rooms;
        threads = std::max(1, std::min(threads, images));
        rooms.reserve(threads);
        for (int t = 0; t < threads; ++t) rooms.push_back(make());
#pragma omp parallel for num_threads(threads) if (threads > 1)
        for (int n = 0; n < images; ++n) {
            int thread = 0;
#ifdef _OPENMP
            thread = omp_get_thread_num();
#endif
            work(rooms[thread], n);
        }
        return 0;
    } catch (const std::bad_alloc&) {
        return 1;
    }
}

}  // namespace

extern "C" {

// Codes (images, height, width, outputs) of the encoder; 0, or 1 where there is no room
PUBLIC int squares_encode(const NetworkSpec* network, const Images* images, int threads, float* codes) {
    return over_images(
        images->count, threads, [&] { return Encoder(*network, *images); },
        [&](Encoder& encoder, int n) {
            const Map& found = encoder.run(n);
            std::copy(found.numbers.begin(), found.numbers.end(), codes + n * found.numbers.size());
        });
}

// The mean squared errors (images, rows, columns) of the squares of images, over the px that these have;
// `rebuilt`, where it is given, takes the squares themselves, (images, rows, columns, numbers). 0, or 1 where
// there is no room.
PUBLIC int squares_errors(const NetworkSpec* network, const Images* images, int threads, float* errors,
                          float* rebuilt) {
    struct Both {
        Encoder encoder;
        Decoder decoder;
    };
    return over_images(
        images->count, threads,
        [&] {
            Encoder encoder(*network, *images);
            Decoder decoder(*network, encoder.maps.back(), *images);
            return Both{std::move(encoder), std::move(decoder)};
        },
        [&](Both& both, int n) { both.decoder.run(n, both.encoder.run(n), errors, rebuilt); });
}

}  // extern "C"
