// zstd frames: what snapshots are compressed with.
#include <zstd.h>
