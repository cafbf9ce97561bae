// Files that are damaged or made to do harm: each is refused, in words that say what is wrong.
// fixtures/make_damaged.py made the images.
#include <doctest/doctest.h>

#include <cstring>
#include <filesystem>
#include <map>
#include <string>

#include "autograd/check.h"
#include "data/image.h"
#include "data/safetensors.h"
#include "tests/temporary_folder.h"
#include "tests/testing.h"

using namespace chalk;
using namespace chalk::testing;

static const std::map<std::string, std::string> damaged_images = {
    {"no_quantisation.jpg", "a quantisation table is missing"},
    {"no_huffman.jpg", "a Huffman table is missing"},
    {"no_huffman_progressive.jpg", "a Huffman table is missing"},
    {"no_frame.jpg", "it has no frame before its first scan"},
    {"no_scan.jpg", "a component of colour is missing"},
    {"two_frames.jpg", "it has two frames"},
    {"refined_before_begun.jpg", "a scan refines what no scan began"},
    {"no_end.jpg", "it is cut short"},
    {"cut_and_ended.jpg", "a scan lacks some of its data"},
    {"cut_and_ended_progressive.jpg", "a scan lacks some of its data"},
    {"segment_past_end.jpg", "it is cut short"},
    {"arithmetic.jpg", "arithmetic, lossless or hierarchical) is not supported"},
    {"twelve_bits.jpg", "12 bits a sample, expected 8"},
    {"huge.jpg", "20000 x 20000 pixels, the limit is 67108864"},
    {"surplus_in_scan.jpg", "there is no segment of kind 0"},
    {"long_segment.jpg", "a segment is longer than what it holds"},
    {"no_restart.jpg", "a segment does not end where it should"},
    {"many_scans.jpg", "more than 100 scans"},
    {"oversized_after_fill.jpg", "no JPEG, PNG or BMP file"},
    {"oversized_twice_after_fill.jpg", "no JPEG, PNG or BMP file"},
    {"oversized.jpg", "a Huffman table has 727 symbols"},
    {"256_symbols.jpg", "a Huffman table has 256 symbols"},
    {"bomb.png", "more than its size"},
    {"huge.png", "20000 x 20000 pixels, the limit is 67108864"},
    {"empty.png", "it claims 5 x 0 pixels, none"},
    {"few_pixels.png", "its pixels are damaged, cut short"},
    {"no_end.png", "its pixels are damaged, cut short"},
    {"chunk_past_end.png", "its pixels are damaged, cut short"},
    {"no_header.png", "it does not begin with its size"},
    {"palette_absent.png", "its header is damaged"},
    {"cut.bmp", "it is cut short"},
    {"huge.bmp", "20000 x 20000 pixels, the limit is 67108864"},
    {"run_length.bmp", "it is a compressed BMP file"},
    {"pixels_in_header.bmp", "its pixels begin in its header"},
};

TEST_CASE("damaged images are refused, each for what is wrong with it") {
  for (const auto& entry : fs::directory_iterator(CHALK_FIXTURES "/damaged")) {
    const std::string name = entry.path().filename().string();
    REQUIRE_MESSAGE(damaged_images.contains(name), name);
  }
  for (const auto& [name, words] : damaged_images) {
    const std::string path = CHALK_FIXTURES "/damaged/" + name;
    check_error([&path = path] { read_image(path); }, {"cannot read image " + path + ": ", words});
  }
}

TEST_CASE("what follows a whole image is ignored") {
  const std::string path = CHALK_FIXTURES "/images/progressive.jpg";
  std::vector<std::uint8_t> bytes = read_file(path);
  bytes.insert(bytes.end(), 1000, 0xff);
  CHECK(decode_image(bytes, "longer").pixels == read_image(path).pixels);
}

TEST_CASE("files of a TiB, most of it a hole, are refused before they are read") {
  const TemporaryFolder folder;
  const std::string path = folder / "sparse";
  const auto make = [&](const std::string& begin) {
    write_file(path, begin);
    fs::resize_file(path, std::uintmax_t{1} << 40);
  };
  make("\xff\xd8");
  check_error([&] { read_image(path); }, {path, "1099511627776 bytes, the limit is 2147483647"});
  make("");
  check_error([&] { read_safetensors(path); }, {path, "the header is not JSON"});
  const std::uint64_t header_bytes = 2;
  std::string text(8, '\0');
  std::memcpy(text.data(), &header_bytes, 8);
  make(text + "{}");
  check_error([&] { read_safetensors(path); }, {path, "1099511627766 bytes, the tensors use 0"});

  // A tensor that does fill the file, and no memory.
  const std::string header =
      R"({"w":{"dtype":"U8","shape":[1099511627648],"data_offsets":[0,1099511627648]}})";
  const std::uint64_t padded_bytes = 120;
  std::memcpy(text.data(), &padded_bytes, 8);
  make(text + header + std::string(padded_bytes - header.size(), ' '));
  check_error([&] { read_safetensors(path); },
              {path, "its tensors take 1099511627776 bytes", "out of memory"});
}

TEST_CASE("names that are not UTF-8 are refused, not printed") {
  const TemporaryFolder folder;
  const std::string path = folder / "weights.safetensors";
  const std::string header =
      "{\"\xff\xfe\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]}}";
  std::string text(8, '\0');
  text[0] = static_cast<char>(header.size());
  write_file(path, text + header);
  check_error([&] { read_safetensors(path); }, {path, "ill-formed UTF-8"});
}
