#include "data/safetensors.h"

#include <algorithm>
#include <bit>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>
#include <span>
#include <vector>

#include "autograd/check.h"
#include "data/files.h"

namespace chalk {
namespace {

using Json = nlohmann::json;

static_assert(std::endian::native == std::endian::little, "elements are copied as they are stored");

constexpr std::uint64_t kLengthBytes = 8;               // of the number in front of the header
constexpr std::uint64_t kMaxHeaderBytes = 100'000'000;  // the limit of the reference library
constexpr Index kMaxElements = std::numeric_limits<Index>::max() / 8;
constexpr char kMetadata[] = "__metadata__";

// One tensor of the header; its elements are data[begin, end).
struct Entry {
  std::string name;
  DType dtype;
  Shape shape;
  std::uint64_t begin, end;
};

const char* name_in_file(DType dtype) {
  constexpr const char* names[] = {"F32", "F64", "I64", "U8"};
  return names[static_cast<int>(dtype)];
}

// Parses the header. The library would keep the last of two equal keys and follow any nesting, so
// a callback watches both: a header is an object of objects that hold arrays.
Json parse_header(std::span<const std::uint8_t> text, const std::string& path) {
  std::vector<std::set<std::string>> keys;  // of the objects that are open
  const auto watch = [&](int depth, Json::parse_event_t event, Json& parsed) {
    check(depth <= 3, path, ": the header is nested too deep; this is not a safetensors file");
    if (event == Json::parse_event_t::object_start) keys.emplace_back();
    if (event == Json::parse_event_t::object_end) keys.pop_back();
    if (event == Json::parse_event_t::key)
      check(keys.back().insert(parsed.get<std::string>()).second, path, ": the header names ",
            parsed, " twice; save the file again");
    return true;
  };
  try {
    return Json::parse(text.begin(), text.end(), watch);
  } catch (const Json::exception& error) {
    fail(path, ": the header is not JSON; the file is damaged or no safetensors file (",
         error.what(), ")");
  }
}

DType parse_dtype(const Json& stored, const std::string& where) {
  for (DType dtype : {DType::float32, DType::float64, DType::int64, DType::uint8})
    if (stored == name_in_file(dtype)) return dtype;
  const bool is_half = stored == "F16" || stored == "BF16";
  fail(
      where, "element type is ", stored, ", expected F32, F64, I64 or U8; before saving convert ",
      is_half ? "half precision with tensor.float()" : "it with tensor.to(torch.int64) or .float()",
      " in PyTorch");
}

// The member of a tensor's description, which must be an array of whole numbers from 0 on.
std::vector<std::uint64_t> parse_sizes(const Json& description, const char* key,
                                       const std::string& where) {
  std::vector<std::uint64_t> sizes;
  const Json array = description.value(key, Json());
  bool valid = array.is_array();
  for (const Json& size : array) {
    valid = valid && size.is_number_unsigned();
    if (valid) sizes.push_back(size.get<std::uint64_t>());
  }
  check(valid, where, key, " is ", array, ", expected an array of whole numbers from 0 on");
  return sizes;
}

Entry parse_entry(const std::string& name, const Json& description, const std::string& where) {
  check(description.is_object(), where, "its description is ", description,
        ", expected an object with dtype, shape and data_offsets");
  Entry entry{name, parse_dtype(description.value("dtype", Json()), where), {}, 0, 0};
  Index count = 1;  // of elements, where empty axes count as 1, so that no product overflows
  for (std::uint64_t size : parse_sizes(description, "shape", where)) {
    check(size <= static_cast<std::uint64_t>(kMaxElements / count), where, "shape ",
          description["shape"], " has more elements than any memory");
    entry.shape.push_back(static_cast<Index>(size));
    count *= std::max<Index>(entry.shape.back(), 1);
  }
  const auto offsets = parse_sizes(description, "data_offsets", where);
  check(offsets.size() == 2 && offsets[0] <= offsets[1], where, "data_offsets is ",
        description["data_offsets"], ", expected [begin, end]");
  entry.begin = offsets[0];
  entry.end = offsets[1];
  const Index bytes = element_count(entry.shape) * size_of(entry.dtype);
  check(entry.end - entry.begin == static_cast<std::uint64_t>(bytes), where, "shape ", entry.shape,
        " of ", name_in_file(entry.dtype), " needs ", bytes, " bytes, data_offsets has ",
        entry.end - entry.begin);
  return entry;
}

std::map<std::string, std::string> parse_metadata(const Json& stored, const std::string& path) {
  check(stored.is_object(), path, ": ", kMetadata, " is ", stored, ", expected an object");
  std::map<std::string, std::string> metadata;
  for (const auto& [key, value] : stored.items()) {
    check(value.is_string(), path, ": ", kMetadata, ": \"", key, "\" is ", value,
          ", expected a string");
    metadata[key] = value.get<std::string>();
  }
  return metadata;
}

// Laid end to end the tensors must fill the data: none twice, nothing hidden between them. Puts
// them in the order of the data.
void sort_and_check_layout(std::vector<Entry>& entries, std::uint64_t data_bytes,
                           const std::string& path) {
  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });
  std::uint64_t expected = 0;
  for (const Entry& entry : entries) {
    check(entry.begin == expected, path, ": ", entry.name, ": its elements begin at byte ",
          entry.begin, " of the data, expected ", expected, ", where those before it end: they ",
          entry.begin < expected ? "overlap" : "leave a hole", "; save the file again");
    check(entry.end <= data_bytes, path, ": ", entry.name, ": its elements end at byte ", entry.end,
          " of the data, which has ", data_bytes, "; the file is cut short: fetch it again");
    expected = entry.end;
  }
  check(expected == data_bytes, path, ": the data has ", data_bytes, " bytes, the tensors use ",
        expected, "; the file is damaged: fetch it again");
}

}  // namespace

// Nothing is allocated before the header is known to describe a file of this size.
TensorFile read_safetensors(const std::string& path) {
  FileReader reader(path);
  const std::uint64_t size = reader.size();
  const auto read = [&](std::span<std::uint8_t> bytes) {
    check(reader.read(bytes) == bytes.size(), path, ": it became shorter while it was read");
  };
  check(size >= kLengthBytes, path, ": the file has ", size, " bytes, expected ", kLengthBytes,
        " or more; it is cut short or no safetensors file");
  std::uint64_t header_bytes = 0;
  read({reinterpret_cast<std::uint8_t*>(&header_bytes), kLengthBytes});
  check(header_bytes <= std::min(kMaxHeaderBytes, size - kLengthBytes), path,
        ": the header is said to have ", header_bytes, " bytes, the file has ", size,
        " and the limit is ", kMaxHeaderBytes, "; it is cut short or no safetensors file");
  std::vector<std::uint8_t> text(header_bytes);
  read(text);
  const Json header = parse_header(text, path);
  check(header.is_object(), path, ": the header is not an object; this is not a safetensors file");

  TensorFile file;
  std::vector<Entry> entries;
  for (const auto& [name, description] : header.items()) {
    if (name == kMetadata)
      file.metadata = parse_metadata(description, path);
    else
      entries.push_back(parse_entry(name, description, path + ": " + name + ": "));
  }
  sort_and_check_layout(entries, size - kLengthBytes - header_bytes, path);
  const std::string reading = path + ": its tensors take " + std::to_string(size) + " bytes";
  const ErrorScope scope(reading);
  for (const Entry& entry : entries) {
    const Tensor tensor(entry.shape, entry.dtype);
    read({static_cast<std::uint8_t*>(tensor.storage()->data()), entry.end - entry.begin});
    file.tensors[entry.name] = tensor;
  }
  return file;
}

void write_safetensors(const std::string& path, const TensorFile& file) {
  Json header = Json::object();
  if (!file.metadata.empty()) header[kMetadata] = file.metadata;
  std::vector<Tensor> tensors;  // on the CPU, where the file's pieces are parts of them
  std::vector<std::span<const std::uint8_t>> pieces(2);  // first the header and its length
  std::size_t begin = 0;
  // The wide types first: then every tensor begins at a multiple of its element size.
  for (const Index width : {8, 4, 1}) {
    for (const auto& [name, tensor] : file.tensors) {
      check(name != kMetadata && tensor.defined(), "cannot write ", path, ": \"", name, "\" is ",
            tensor.defined() ? "reserved for metadata; rename it" : "undefined; leave it out");
      if (size_of(tensor.dtype()) != width) continue;
      tensors.push_back(tensor.to(Device::cpu));
      const auto* elements = static_cast<const std::uint8_t*>(tensors.back().storage()->data());
      const auto size = static_cast<std::size_t>(tensor.numel() * width);
      pieces.emplace_back(elements, size);
      header[name] = {{"dtype", name_in_file(tensor.dtype())},
                      {"shape", tensor.shape()},
                      {"data_offsets", {begin, begin + size}}};
      begin += size;
    }
  }
  std::string text;
  try {
    text = header.dump();
  } catch (const Json::exception& error) {
    fail("cannot write ", path, ": a name or the metadata is not UTF-8 text (", error.what(), ")");
  }
  text.resize((text.size() + 7) / 8 * 8, ' ');  // so that the data begins at a multiple of 8

  const std::uint64_t header_bytes = text.size();
  check(header_bytes <= kMaxHeaderBytes, "cannot write ", path, ": names and metadata take ",
        header_bytes, " bytes, the limit is ", kMaxHeaderBytes);
  pieces[0] = {reinterpret_cast<const std::uint8_t*>(&header_bytes), kLengthBytes};
  pieces[1] = {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
  write_file(path, pieces);
}

}  // namespace chalk
