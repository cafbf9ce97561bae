// Is a JPEG file whole? stb_image, which decodes it, trusts it in much: it writes past its arrays
// for tables that are too large, takes what is in memory for a table that is missing, and invents
// the pixels that a file cut short lacks. So every file is walked from its first byte to its last
// before.
//
// A file is a row of segments: the byte ff, a marker that says of what kind, a length, the
// contents.
//
//   SOI         the image begins
//   APPn, COM   what other programs left, such as EXIF and a thumbnail: skipped
//   DQT, DHT    tables: steps of quantisation, and Huffman codes
//   DRI         how many units lie between two restart markers
//   SOF         the frame: height, width, components (brightness and two colours, say)
//   SOS         a scan: coefficients of some components, coded in bits to the next marker; there is
//               one, or one a component, or (progressive) many, each with a few bits of a few more
//   EOI         the image ends; what follows is not part of it
#pragma once

#include <cstdint>
#include <span>

namespace chalk {

// Fails, saying why, unless the bytes are a JPEG image of 8 bits, baseline or progressive, of a
// size that check_image_size admits, with all tables it uses and every coefficient of every scan.
void check_jpeg(std::span<const std::uint8_t> bytes);

}  // namespace chalk
