// Intel's storage library: CRC32C by three interleaved hardware streams.
#include <isa-l/crc.h>
