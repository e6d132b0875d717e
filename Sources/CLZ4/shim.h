// LZ4 blocks: compression that is about as fast as the disk it spares.
#include <lz4.h>
