// The C interface of RocksDB, which keeps key-value state on disk.
#include <rocksdb/c.h>
