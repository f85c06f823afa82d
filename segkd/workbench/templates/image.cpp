// Labels of an image by @FILE@: run IMAGE [LABELS] -> the class of each pixel, and the share of each class.
//
// Built with OpenCV it reads and writes what that does (PNG, JPEG, ...), without it PPM (P6) and PGM (P5).

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <fstream>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

#ifdef WITH_OPENCV
#include <opencv2/imgcodecs.hpp>
#endif

@INCLUDE@

constexpr int kHeight = @HEIGHT@, kWidth = @WIDTH@;  // of the images that the file takes
const std::vector<std::string> kClasses = {@CLASSES@};

struct Image {
  int height = 0, width = 0, channels = 0;
  std::vector<std::uint8_t> pixels;  // row by row, the channels of a pixel side by side: RGB, or a class
};

#ifdef WITH_OPENCV
const char* const kLabels = "labels.png";

Image ReadImage(const std::string& path) {
  const cv::Mat read = cv::imread(path, cv::IMREAD_COLOR);  // BGR
  if (read.empty()) throw std::runtime_error("cannot read " + path);
  Image image{read.rows, read.cols, 3, {}};
  for (int y = 0; y < read.rows; ++y)
    for (int x = 0; x < read.cols; ++x)
      for (int c = 2; c >= 0; --c) image.pixels.push_back(read.at<cv::Vec3b>(y, x)[c]);
  return image;
}

void WriteLabels(const std::string& path, Image& labels) {
  const cv::Mat written(labels.height, labels.width, CV_8U, labels.pixels.data());
  if (!cv::imwrite(path, written)) throw std::runtime_error("cannot write " + path);
}
#else
const char* const kLabels = "labels.pgm";

int ReadNumber(std::ifstream& file) {  // of a PPM's head, in which # begins a comment
  file >> std::ws;
  while (file.peek() == '#') file.ignore(std::numeric_limits<std::streamsize>::max(), '\n') >> std::ws;
  int number = 0;
  file >> number;
  return number;
}

Image ReadImage(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string kind;
  if (!(file >> kind)) throw std::runtime_error("cannot read " + path);
  if (kind != "P6") throw std::runtime_error(path + " is no PPM (P6); build with OpenCV to read other images");
  Image image;
  image.channels = 3;
  image.width = ReadNumber(file);
  image.height = ReadNumber(file);
  const int most = ReadNumber(file);
  file.get();
  if (!file || image.width < 1 || image.height < 1 || most != 255)
    throw std::runtime_error(path + " is no PPM of 8 bits");
  image.pixels.resize(std::size_t(3) * image.height * image.width);
  if (!file.read(reinterpret_cast<char*>(image.pixels.data()), std::streamsize(image.pixels.size())))
    throw std::runtime_error(path + " ends too early");
  return image;
}

void WriteLabels(const std::string& path, const Image& labels) {
  std::ofstream file(path, std::ios::binary);
  file << "P5\n" << labels.width << ' ' << labels.height << "\n255\n";
  file.write(reinterpret_cast<const char*>(labels.pixels.data()), std::streamsize(labels.pixels.size()));
  if (!file.flush()) throw std::runtime_error("cannot write " + path);
}
#endif

// Rows of an image resized, and turned into columns: twice of it is the image resized. Bilinear, averaged over all that
// lies under a pixel where the image shrinks, in integers: Pillow's BILINEAR, but for a level here and there, as it itself
// differs among processors.
Image ResizeTurned(const Image& image, int width) {
  constexpr int kBits = 22;
  const double scale = double(image.width) / width, support = std::max(scale, 1.0);
  Image turned{width, image.height, image.channels, {}};
  turned.pixels.resize(std::size_t(width) * image.height * image.channels);
  for (int x = 0; x < width; ++x) {
    const double center = (x + 0.5) * scale;
    const int first = std::max(int(center - support + 0.5), 0);
    const int count = std::min(int(center + support + 0.5), image.width) - first;
    std::vector<double> shares(count);
    double sum = 0;
    for (int k = 0; k < count; ++k)
      sum += shares[k] = std::max(0.0, 1 - std::abs((k + first - center + 0.5) / support));
    std::vector<std::int64_t> weights(count);
    for (int k = 0; k < count; ++k) weights[k] = std::llround(shares[k] / sum * (1 << kBits));
    for (int y = 0; y < image.height; ++y)
      for (int c = 0; c < image.channels; ++c) {
        std::int64_t total = 1 << (kBits - 1);
        for (int k = 0; k < count; ++k)
          total += weights[k] * image.pixels[(std::size_t(y) * image.width + first + k) * image.channels + c];
        turned.pixels[(std::size_t(x) * image.height + y) * image.channels + c] =
            std::uint8_t(std::clamp<std::int64_t>(total >> kBits, 0, 255));
      }
  }
  return turned;
}

Image Resize(const Image& image, int height, int width) { return ResizeTurned(ResizeTurned(image, width), height); }

// For each of so many places the one nearest to it of others, stepped as Pillow's NEAREST does.
std::vector<std::size_t> Nearest(int from, int to) {
  const double step = double(from) / to;
  double at = 0.5 * step;
  std::vector<std::size_t> places;
  for (int k = 0; k < to; ++k, at += step) places.push_back(std::min(std::size_t(at), std::size_t(from) - 1));
  return places;
}

Image ResizeNearest(const Image& image, int height, int width) {
  const auto rows = Nearest(image.height, height), columns = Nearest(image.width, width);
  Image resized{height, width, 1, {}};
  for (const auto row : rows)
    for (const auto column : columns) resized.pixels.push_back(image.pixels[row * image.width + column]);
  return resized;
}

// What the file takes: all of red, then green, then blue.
std::vector<std::uint8_t> Planes(const Image& image) {
  std::vector<std::uint8_t> planes;
  for (int c = 0; c < 3; ++c)
    for (std::size_t k = c; k < image.pixels.size(); k += 3) planes.push_back(image.pixels[k]);
  return planes;
}

@PREDICT@
int main(int argc, char** argv) {
  try {
    if (argc < 2) throw std::runtime_error("usage: run IMAGE [LABELS]");
    const Image image = ReadImage(argv[1]);
    const Image small{kHeight, kWidth, 1, Predict(Planes(Resize(image, kHeight, kWidth)))};
    Image labels = ResizeNearest(small, image.height, image.width);
    WriteLabels(argc > 2 ? argv[2] : kLabels, labels);
    for (std::size_t k = 0; k < kClasses.size(); ++k) {
      const auto count = std::count(labels.pixels.begin(), labels.pixels.end(), std::uint8_t(k));
      std::printf("%s: %.1f %%\n", kClasses[k].c_str(), 100.0 * double(count) / double(labels.pixels.size()));
    }
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
