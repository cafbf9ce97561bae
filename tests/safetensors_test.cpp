#include "data/safetensors.h"

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <limits>
#include <vector>

#include "autograd/check.h"
#include "tests/temporary_folder.h"

using namespace chalk;

namespace {

constexpr Index kMin = std::numeric_limits<Index>::min();
constexpr Index kMax = std::numeric_limits<Index>::max();

struct TemporaryFile {
  testing::TemporaryFolder folder;
  std::string path = folder / "sample.safetensors";
};

template <typename T>
std::vector<T> elements(const Tensor& tensor) {
  return {tensor.data<T>(), tensor.data<T>() + tensor.numel()};
}

// What reading a file of this header and this many bytes of data fails with.
doctest::String error_of(const std::string& header, std::size_t data_bytes = 0) {
  const TemporaryFile file;
  std::string text(8, '\0');
  const std::uint64_t size = header.size();
  std::memcpy(text.data(), &size, 8);
  write_file(file.path, text + header + std::string(data_bytes, 'x'));
  try {
    read_safetensors(file.path);
  } catch (const Error& error) {
    const std::string message = error.what();
    CHECK(message.starts_with(file.path + ": "));
    return message.substr(file.path.size() + 2).c_str();
  }
  return "no error";
}

// One tensor "w" with this description.
std::string w(const std::string& dtype, const std::string& shape, const std::string& offsets) {
  return R"({"w":{"dtype":)" + dtype + R"(,"shape":)" + shape + R"(,"data_offsets":)" + offsets +
         "}}";
}

}  // namespace

TEST_CASE("a file that PyTorch wrote") {
  const TensorFile file = read_safetensors(CHALK_FIXTURES "/sample.safetensors");
  CHECK(file.tensors.size() == 7);
  CHECK(file.metadata == std::map<std::string, std::string>{
                             {"format", "pt"}, {"epoch", "12"}, {"name", "Gesichtsausdrücke"}});

  const Tensor weight = file.tensors.at("conv1.weight");
  CHECK(weight.shape() == Shape{2, 3, 2, 2});
  for (Index i = 0; i < 24; ++i)
    CHECK(weight.data<float>()[i] == static_cast<float>(i) / 8 - 1);
  const auto mean = elements<float>(file.tensors.at("bn1.running_mean"));
  CHECK(mean[0] == std::numeric_limits<float>::infinity());
  CHECK(std::isnan(mean[1]));
  CHECK((mean[2] == 0 && std::signbit(mean[2])));
  CHECK(file.tensors.at("bn1.num_batches_tracked").shape() == Shape{});
  CHECK(elements<std::int64_t>(file.tensors.at("bn1.num_batches_tracked"))[0] == 12271);
  CHECK(elements<std::int64_t>(file.tensors.at("steps")) == std::vector<Index>{kMin, kMax});
  CHECK(elements<double>(file.tensors.at("pi")) == std::vector<double>{3.141592653589793});
  CHECK(elements<std::uint8_t>(file.tensors.at("pixels")) ==
        std::vector<std::uint8_t>{0, 127, 255});
  CHECK(file.tensors.at("empty").shape() == Shape{0, 4});
}

TEST_CASE("what is written is read back, and the same tensors give the same bytes") {
  const TensorFile sample = read_safetensors(CHALK_FIXTURES "/sample.safetensors");
  const TemporaryFile copy;
  write_safetensors(copy.path, sample);
  const TensorFile back = read_safetensors(copy.path);
  CHECK(back.metadata == sample.metadata);
  CHECK(back.tensors.size() == sample.tensors.size());
  for (const auto& [name, tensor] : sample.tensors) {
    const Tensor& other = back.tensors.at(name);
    CHECK(other.shape() == tensor.shape());
    CHECK(other.dtype() == tensor.dtype());
    const auto bytes = static_cast<std::size_t>(tensor.numel() * size_of(tensor.dtype()));
    if (bytes > 0)
      CHECK(std::memcmp(other.storage()->data(), tensor.storage()->data(), bytes) == 0);
  }

  const auto bytes = read_file(copy.path);
  std::uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, bytes.data(), 8);
  CHECK(header_bytes % 8 == 0);
  write_safetensors(copy.path, back);
  CHECK(read_file(copy.path) == bytes);

  write_safetensors(copy.path, {});
  CHECK(read_safetensors(copy.path).tensors.empty());
  CHECK(!std::filesystem::exists(copy.path + ".tmp"));
}

TEST_CASE("every cut of a file is an error, never a crash") {
  const auto bytes = read_file(CHALK_FIXTURES "/sample.safetensors");
  const TemporaryFile cut;
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    write_file(cut.path, std::span(bytes).first(size));
    CHECK_THROWS_AS(read_safetensors(cut.path), Error);
  }
}

TEST_CASE("every changed header byte is an error or a well-formed file, never a crash") {
  auto bytes = read_file(CHALK_FIXTURES "/sample.safetensors");
  const TemporaryFile changed;
  for (std::size_t i = 0; i < 544; ++i) {
    for (const std::uint8_t flip : {0x01, 0x10, 0x80}) {
      bytes[i] ^= flip;
      write_file(changed.path, bytes);
      try {
        read_safetensors(changed.path);
      } catch (const Error&) {
      }
      bytes[i] ^= flip;
    }
  }
}

TEST_CASE("hostile headers") {
  CHECK(error_of("") == doctest::Contains("the header is not JSON"));
  CHECK(error_of("[]") == doctest::Contains("the header is not an object"));
  CHECK(error_of("{\"a\": ") == doctest::Contains("the header is not JSON"));
  CHECK(error_of("{\"\xff\": 1}") == doctest::Contains("the header is not JSON"));
  CHECK(error_of(std::string(1'000'000, '[')) == doctest::Contains("nested too deep"));
  std::string deep;
  for (int i = 0; i < 100'000; ++i)
    deep += "{\"a\":";
  CHECK(error_of(deep) == doctest::Contains("nested too deep"));

  const std::string empty = R"({"dtype":"F32","shape":[0],"data_offsets":[0,0]})";
  CHECK(error_of("{\"w\":" + empty + ",\"w\":" + empty + "}") ==
        doctest::Contains("names \"w\" twice"));
  CHECK(error_of(R"({"w":{"dtype":"F32","dtype":"F64"}})") ==
        doctest::Contains("names \"dtype\" twice"));
  CHECK(error_of(R"({"__metadata__":{"epoch":12}})") ==
        doctest::Contains("\"epoch\" is 12, expected a string"));
  CHECK(error_of(R"({"__metadata__":[]})") ==
        doctest::Contains("__metadata__ is [], expected an object"));
  CHECK(error_of(R"({"w":[1]})") ==
        doctest::Contains("w: its description is [1], expected an object"));
  CHECK(error_of(R"({"w":{}})") == doctest::Contains("w: element type is null"));
}

TEST_CASE("hostile types, shapes and offsets") {
  CHECK(error_of(w("\"F32\"", "[2]", "[0,8]"), 8) == "no error");
  CHECK(error_of(w("\"F16\"", "[2]", "[0,4]"), 4) ==
        doctest::Contains("w: element type is \"F16\", expected"));
  CHECK(error_of(w("\"BF16\"", "[2]", "[0,4]"), 4) == doctest::Contains("tensor.float()"));
  CHECK(error_of(w("\"I32\"", "[1]", "[0,4]"), 4) == doctest::Contains("tensor.to(torch.int64)"));
  CHECK(error_of(w("7", "[1]", "[0,4]"), 4) == doctest::Contains("element type is 7"));

  const char* whole = "expected an array of whole numbers";
  CHECK(error_of(w("\"F32\"", "[-1]", "[0,4]"), 4) ==
        doctest::Contains("w: shape is [-1], expected an array of whole numbers"));
  CHECK(error_of(w("\"F32\"", "[1.5]", "[0,4]"), 4) == doctest::Contains(whole));
  CHECK(error_of(w("\"F32\"", "2", "[0,8]"), 8) == doctest::Contains(whole));
  CHECK(error_of(w("\"F32\"", "[99999999999999999999]", "[0,8]"), 8) == doctest::Contains(whole));
  CHECK(error_of(w("\"F32\"", "[1]", "[-4,0]"), 4) == doctest::Contains(whole));
  const char* memory = "more elements than any memory";
  CHECK(error_of(w("\"U8\"", "[18446744073709551615]", "[0,0]")) == doctest::Contains(memory));
  CHECK(error_of(w("\"F32\"", "[4294967296,4294967296]", "[0,0]")) == doctest::Contains(memory));
  CHECK(error_of(w("\"F32\"", "[4611686018427387904,4]", "[0,0]")) == doctest::Contains(memory));
  CHECK(error_of(w("\"F32\"", "[0,4294967296,4294967296]", "[0,0]")) == doctest::Contains(memory));

  CHECK(error_of(w("\"F32\"", "[2]", "[0,4]"), 4) ==
        doctest::Contains("w: shape [2] of F32 needs 8 bytes, data_offsets has 4"));
  CHECK(error_of(w("\"F32\"", "[1]", "[0,4,8]"), 8) == doctest::Contains("expected [begin, end]"));
  CHECK(error_of(w("\"F32\"", "[1]", "[8,4]"), 8) == doctest::Contains("expected [begin, end]"));
  CHECK(error_of(w("\"F32\"", "[2]", "[0,8]"), 4) ==
        doctest::Contains("end at byte 8 of the data, which has 4"));
  CHECK(error_of(w("\"U8\"", "[4]", "[18446744073709551612,18446744073709551616]"), 4) ==
        doctest::Contains(whole));
  CHECK(error_of(w("\"U8\"", "[3]", "[18446744073709551612,18446744073709551615]"), 4) ==
        doctest::Contains("leave a hole"));
  CHECK(error_of(w("\"F32\"", "[1]", "[0,4]"), 8) ==
        doctest::Contains("has 8 bytes, the tensors use 4"));
  CHECK(error_of("{}", 1) == doctest::Contains("has 1 bytes, the tensors use 0"));

  const auto two = [](const std::string& first, const std::string& second) {
    return R"({"a":{"dtype":"F32","shape":[1],"data_offsets":)" + first +
           R"(},"b":{"dtype":"F32","shape":[1],"data_offsets":)" + second + "}}";
  };
  CHECK(error_of(two("[4,8]", "[0,4]"), 8) == "no error");
  CHECK(error_of(two("[0,4]", "[0,4]"), 4) ==
        doctest::Contains("b: its elements begin at byte 0 of the data, expected 4"));
  CHECK(error_of(two("[0,4]", "[2,6]"), 6) == doctest::Contains("overlap"));
  CHECK(error_of(two("[0,4]", "[8,12]"), 12) == doctest::Contains("leave a hole"));
}

TEST_CASE("a header length that cannot be") {
  const TemporaryFile file;
  for (const std::uint64_t length :
       {std::uint64_t{3}, std::uint64_t{100'000'001}, ~std::uint64_t{0}, ~std::uint64_t{0} - 7}) {
    std::string text(10, '{');
    std::memcpy(text.data(), &length, 8);
    write_file(file.path, text);
    CHECK_THROWS_WITH_AS(read_safetensors(file.path), doctest::Contains("the header is said to"),
                         Error);
  }
}

TEST_CASE("what cannot be written leaves the old file") {
  const TemporaryFile file;
  write_file(file.path, "old");
  const Tensor one = Tensor::from<float>({1}, {1});
  CHECK_THROWS_WITH_AS(write_safetensors(file.path, {{{"w", Tensor()}}, {}}),
                       doctest::Contains("\"w\" is undefined"), Error);
  CHECK_THROWS_WITH_AS(write_safetensors(file.path, {{{"__metadata__", one}}, {}}),
                       doctest::Contains("reserved"), Error);
  CHECK_THROWS_WITH_AS(write_safetensors(file.path, {{{"\xff", one}}, {}}),
                       doctest::Contains("not UTF-8"), Error);
  const auto bytes = read_file(file.path);
  CHECK(std::string(bytes.begin(), bytes.end()) == "old");
}
