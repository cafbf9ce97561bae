#include "data/jpeg.h"

#include <algorithm>
#include <array>
#include <vector>

#include "autograd/check.h"
#include "data/image.h"

namespace chalk {
namespace {

enum Marker {
  kSof0 = 0xc0,  // baseline
  kSof2 = 0xc2,  // progressive
  kDht = 0xc4,
  kSof15 = 0xcf,
  kRst0 = 0xd0,
  kRst7 = 0xd7,
  kEoi = 0xd9,
  kSos = 0xda,
  kDqt = 0xdb,
  kDri = 0xdd,
  kApp0 = 0xe0,
  kApp15 = 0xef,
  kCom = 0xfe
};

// An image of hundreds of scans could be made only to cost time; programs write up to a dozen.
constexpr int kMaxScans = 100;

template <typename... Parts>
void check_whole(bool condition, const Parts&... parts) {
  check(condition, "it is damaged: ", parts..., "; restore or remove it");
}

bool has_segment(int marker) {
  return (marker >= kSof0 && marker <= kSof15) || (marker >= kSos && marker <= kDri) ||
         (marker >= kApp0 && marker <= kApp15) || marker == kCom;
}

// Bytes that are read in order.
struct Bytes {
  std::span<const std::uint8_t> left;

  int next() {
    check(!left.empty(), "it is cut short; restore or remove it");
    const int byte = left.front();
    left = left.subspan(1);
    return byte;
  }

  int next_two() {
    const int high = next();
    return 256 * high + next();
  }

  // What follows a byte ff, or several, which mean the same.
  int next_after_ff() {
    int byte = next();
    while (byte == 0xff)
      byte = next();
    return byte;
  }

  int marker() {
    check_whole(next() == 0xff, "a segment does not end where it should");
    return next_after_ff();
  }

  // The contents of the segment whose marker was just read.
  Bytes segment() {
    const int length = next_two();
    check_whole(length >= 2, "a segment has ", length, " bytes");
    const std::size_t size = static_cast<std::size_t>(length) - 2;
    check(size <= left.size(), "it is cut short; restore or remove it");
    const Bytes contents{left.first(size)};
    left = left.subspan(size);
    return contents;
  }

  // Skips what some programs write between segments, zeros mostly.
  void skip_padding() {
    while (!left.empty() && left[0] != 0xff)
      left = left.subspan(1);
  }

  bool is_at_restart() const {
    return left.size() >= 2 && left[0] == 0xff && left[1] >= kRst0 && left[1] <= kRst7;
  }
};

// The bits of a scan. A byte ff among them is written ff 00: what else follows ff is a marker.
class Bits {
 public:
  explicit Bits(Bytes& bytes) : bytes_(bytes) {}

  int next() {
    if (count_ == 0) {
      current_ = bytes_.next();
      check_whole(current_ != 0xff || bytes_.next_after_ff() == 0, "a scan lacks some of its data");
      count_ = 8;
    }
    return current_ >> --count_ & 1;
  }

  int next(int count) {
    int bits = 0;
    while (count-- > 0)
      bits = 2 * bits + next();
    return bits;
  }

  // Number 0, 1, ... of the scan's restart markers must be next. It begins a byte.
  void restart(Index number) {
    count_ = 0;
    check_whole(bytes_.marker() == kRst0 + number % 8, "a restart marker is missing");
  }

 private:
  Bytes& bytes_;
  int current_ = 0, count_ = 0;  // of the bits in `current_` that are left
};

// Codes of 1 to 16 bits, in the order of their symbols and of rising length.
struct HuffmanTable {
  std::array<int, 17> count{};  // of codes, by length
  std::vector<std::uint8_t> symbols;

  // stb_image mistakes the last of 256 symbols; no image needs more than 176.
  void read(Bytes& bytes) {
    std::size_t symbol_count = 0;
    int free = 1;  // codes of this length that are neither in use nor begin with one that is
    for (std::size_t length = 1; length <= 16; ++length) {
      count[length] = bytes.next();
      symbol_count += static_cast<std::size_t>(count[length]);
      free = 2 * free - count[length];
      check_whole(free >= 0, "a Huffman table has too many codes of ", length, " bits");
    }
    check_whole(symbol_count <= 255, "a Huffman table has ", symbol_count, " symbols");
    symbols.resize(symbol_count);
    for (std::uint8_t& symbol : symbols)
      symbol = static_cast<std::uint8_t>(bytes.next());
  }

  int symbol(Bits& bits) const {
    int code = 0, first = 0, index = 0;  // the first code of this length, and its symbol
    for (std::size_t length = 1; length <= 16; ++length) {
      code = 2 * code + bits.next();
      first *= 2;
      if (code < first + count[length])
        return symbols[static_cast<std::size_t>(index + code - first)];
      first += count[length];
      index += count[length];
    }
    fail("it is damaged: a scan has a code that is in no table; restore or remove it");
  }
};

struct Component {
  int id;
  Index horizontal, vertical;            // blocks of 8 x 8 in a unit of an interleaved scan
  std::size_t quantisation;              // number of its table
  Index block_count = 0;                 // in a scan of its own
  bool started = false;                  // a scan has given its first coefficient
  std::vector<std::uint64_t> nonzero{};  // progressive: by block, bits of the coefficients not 0
};

// What a scan's header says, and where it stands.
struct Scan {
  struct Part {
    Component* component;
    const HuffmanTable *first, *others;  // for the first coefficient of a block, and the others
  };
  std::vector<Part> parts;
  int begin, end;  // coefficients, in zigzag order
  bool refines;    // adds a bit to what earlier scans gave
  Bits bits;
  int ended_blocks = 0;  // blocks from here on that have no further coefficients
};

// ---- one block ----

void read_first_coefficient(Scan& scan, const HuffmanTable& table) {
  const int size = scan.refines ? 1 : table.symbol(scan.bits);
  check_whole(size <= 15, "a coefficient has ", size, " bits");
  scan.bits.next(size);
}

// A symbol is a run of zeros and the size of the coefficient behind them. Size 0 with a run below
// 15 ends this block, and (progressive) 2^run - 1 and more blocks after it.
void read_coefficients(Scan& scan, const HuffmanTable& table, std::uint64_t& nonzero) {
  for (int k = std::max(scan.begin, 1); scan.ended_blocks == 0 && k <= scan.end; ++k) {
    const int symbol = table.symbol(scan.bits), run = symbol / 16, size = symbol % 16;
    if (size == 0 && run < 15) {
      check_whole(run == 0 || scan.begin > 0, "a block ends others in a baseline image");
      scan.ended_blocks = (1 << run) + scan.bits.next(run);
      break;
    }
    k += run;
    if (size == 0) continue;
    check_whole(k <= scan.end, "a block has more than its coefficients");
    scan.bits.next(size);
    nonzero |= std::uint64_t{1} << k;
  }
  if (scan.ended_blocks > 0) --scan.ended_blocks;
}

// Runs count the coefficients that are still 0; of the others on the way each gets a bit.
void refine_coefficients(Scan& scan, const HuffmanTable& table, std::uint64_t& nonzero) {
  for (int k = scan.begin; k <= scan.end;) {
    int zeros = 64;
    bool becomes_nonzero = false;
    if (scan.ended_blocks == 0) {
      const int symbol = table.symbol(scan.bits), run = symbol / 16, size = symbol % 16;
      check_whole(size <= 1, "a coefficient is refined by ", size, " bits");
      becomes_nonzero = size == 1;
      if (size == 0 && run < 15)
        scan.ended_blocks = (1 << run) + scan.bits.next(run);
      else
        zeros = run;
      scan.bits.next(size);  // the sign
    }
    for (bool found = false; !found && k <= scan.end; ++k) {
      const std::uint64_t bit = std::uint64_t{1} << k;
      if (nonzero & bit) {
        scan.bits.next();
      } else if (zeros-- == 0) {
        if (becomes_nonzero) nonzero |= bit;
        found = true;
      }
    }
  }
  if (scan.ended_blocks > 0) --scan.ended_blocks;
}

// ---- the file ----

class Walker {
 public:
  explicit Walker(std::span<const std::uint8_t> bytes) : bytes_{bytes} {}

  void walk() {
    bytes_.marker();  // SOI
    for (int marker; (marker = next_marker()) != kEoi;) {
      check_whole(has_segment(marker), "there is no segment of kind ", marker);
      Bytes segment = bytes_.segment();
      if (marker == kDqt)
        read_quantisation_tables(segment);
      else if (marker == kDht)
        read_huffman_tables(segment);
      else if (marker <= kSof15)
        read_frame(segment, marker);
      else if (marker == kDri)
        restart_interval_ = segment.next_two();
      else if (marker == kSos)
        read_scan(segment);
      else
        continue;  // nothing that the pixels depend on
      check_whole(segment.left.empty(), "a segment is longer than what it holds");
    }
    check_whole(!components_.empty(), "it has no frame");
    for (const Component& component : components_)
      check_whole(component.started, "a component of colour is missing");
  }

 private:
  // Some files are padded between segments, up to the frame.
  int next_marker() {
    if (components_.empty()) bytes_.skip_padding();
    return bytes_.marker();
  }

  void read_quantisation_tables(Bytes& segment) {
    while (!segment.left.empty()) {
      const int table = segment.next(), bytes_each = table / 16 + 1;
      check_whole(bytes_each <= 2 && table % 16 < 4, "a quantisation table has number ", table);
      for (int i = 0; i < 64 * bytes_each; ++i)
        segment.next();
      has_quantisation_[static_cast<std::size_t>(table % 16)] = true;
    }
  }

  void read_huffman_tables(Bytes& segment) {
    while (!segment.left.empty()) {
      const int table = segment.next();
      check_whole(table / 16 < 2 && table % 16 < 4, "a Huffman table has number ", table);
      huffman_[static_cast<std::size_t>(table / 16)][static_cast<std::size_t>(table % 16)].read(
          segment);
    }
  }

  void read_frame(Bytes& segment, int marker) {
    check(marker <= kSof2, "its coding (frame of kind ", marker - kSof0,
          ": arithmetic, lossless or hierarchical) is not supported; save it as a baseline JPEG");
    check_whole(components_.empty(), "it has two frames");
    is_progressive_ = marker == kSof2;
    const int depth = segment.next();
    check(depth == 8, "it has ", depth, " bits a sample, expected 8; convert it");
    const Index height = segment.next_two(), width = segment.next_two();
    check_image_size(height, width);
    const int count = segment.next();
    check(count == 1 || count == 3 || count == 4, "it has ", count,
          " components of colour, expected 1 (grey), 3 or 4 (CMYK); convert it");
    Index most_horizontal = 1, most_vertical = 1;
    for (int i = 0; i < count; ++i) {
      const int id = segment.next(), sampling = segment.next(), table = segment.next();
      const Index horizontal = sampling / 16, vertical = sampling % 16;
      check_whole(horizontal >= 1 && horizontal <= 4 && vertical >= 1 && vertical <= 4 && table < 4,
                  "its frame makes no sense");
      components_.push_back({id, horizontal, vertical, static_cast<std::size_t>(table)});
      most_horizontal = std::max(most_horizontal, horizontal);
      most_vertical = std::max(most_vertical, vertical);
    }
    const auto divide_up = [](Index a, Index b) { return (a + b - 1) / b; };
    units_ = divide_up(height, 8 * most_vertical) * divide_up(width, 8 * most_horizontal);
    for (Component& component : components_) {
      const Index rows = divide_up(height * component.vertical, most_vertical);
      const Index columns = divide_up(width * component.horizontal, most_horizontal);
      component.block_count = divide_up(rows, 8) * divide_up(columns, 8);
      if (is_progressive_)
        component.nonzero.resize(static_cast<std::size_t>(component.block_count));
    }
  }

  const HuffmanTable* find_table(std::size_t kind, int number, bool is_used) const {
    check_whole(number < 4, "a scan uses Huffman table ", number);
    const HuffmanTable* table = &huffman_[kind][static_cast<std::size_t>(number)];
    check_whole(!is_used || !table->symbols.empty(), "a Huffman table is missing");
    return table;
  }

  void read_scan(Bytes& segment) {
    check_whole(++scan_count_ <= kMaxScans, "it has more than ", kMaxScans, " scans");
    check_whole(!components_.empty(), "it has no frame before its first scan");
    const int count = segment.next();
    check_whole(count >= 1 && count <= static_cast<int>(components_.size()), "a scan has ", count,
                " components, the frame ", components_.size());
    const Bytes description{segment.left};
    for (int i = 0; i < 2 * count; ++i)
      segment.next();
    Scan scan{{}, segment.next(), segment.next(), false, Bits(bytes_)};
    const int precision = segment.next();  // bits left to later scans: before, and with this one
    scan.refines = precision >= 16;
    if (!is_progressive_) scan.end = 63;
    const bool is_sensible = is_progressive_ ? scan.begin <= scan.end && scan.end < 64 &&
                                                   precision / 16 < 14 && precision % 16 < 14 &&
                                                   (scan.begin == 0 ? scan.end == 0 : count == 1)
                                             : scan.begin == 0 && precision == 0;
    check_whole(is_sensible, "a scan's header makes no sense");
    for (Bytes left = description; static_cast<int>(scan.parts.size()) < count;)
      scan.parts.push_back(read_part(left, scan));
    read_blocks(scan);
    bytes_.skip_padding();
  }

  Scan::Part read_part(Bytes& description, const Scan& scan) {
    const int id = description.next(), tables = description.next();
    const auto component =
        std::find_if(components_.begin(), components_.end(),
                     [id](const Component& candidate) { return candidate.id == id; });
    check_whole(component != components_.end(), "a scan is of component ", id,
                ", which the frame lacks");
    check_whole(has_quantisation_[component->quantisation], "a quantisation table is missing");
    const bool starts = scan.begin == 0 && !scan.refines;
    check_whole(starts || component->started, "a scan refines what no scan began");
    component->started = true;
    return {&*component, find_table(0, tables / 16, starts),
            find_table(1, tables % 16, scan.end > 0)};
  }

  void read_blocks(Scan& scan) {
    const bool interleaved = scan.parts.size() > 1;
    const Index units = interleaved ? units_ : scan.parts.front().component->block_count;
    std::uint64_t unused = 0;
    for (Index unit = 0; unit < units; ++unit) {
      for (const auto& [component, first, others] : scan.parts) {
        std::uint64_t& nonzero =
            scan.begin > 0 ? component->nonzero[static_cast<std::size_t>(unit)] : unused;
        const Index blocks = interleaved ? component->horizontal * component->vertical : 1;
        for (Index block = 0; block < blocks; ++block) {
          if (scan.begin == 0) read_first_coefficient(scan, *first);
          if (scan.end > 0 && scan.refines)
            refine_coefficients(scan, *others, nonzero);
          else if (scan.end > 0)
            read_coefficients(scan, *others, nonzero);
        }
      }
      // After the last unit there may be a restart marker, or none.
      const bool ends_interval = restart_interval_ > 0 && (unit + 1) % restart_interval_ == 0;
      if (ends_interval && (unit + 1 < units || bytes_.is_at_restart())) {
        scan.bits.restart((unit + 1) / restart_interval_ - 1);
        scan.ended_blocks = 0;
      }
    }
  }

  Bytes bytes_;
  std::array<bool, 4> has_quantisation_{};
  std::array<std::array<HuffmanTable, 4>, 2> huffman_;  // for first coefficients, and for others
  Index restart_interval_ = 0;                          // units between markers; 0: none
  bool is_progressive_ = false;
  std::vector<Component> components_;
  Index units_ = 0;  // of an interleaved scan
  int scan_count_ = 0;
};

}  // namespace

void check_jpeg(std::span<const std::uint8_t> bytes) {
  Walker(bytes).walk();
}

}  // namespace chalk
