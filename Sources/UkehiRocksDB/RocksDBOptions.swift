// How RocksDB is set up. Most of its settings are decided here, for one load: small puts in sorted
// batches from the Raft log, its own write-ahead log off, reads that must not wait for the disk.

import CRocksDB

/// The settings of a ``RocksDBStore`` that depend on the machine or the test.
package struct RocksDBOptions: Sendable {
    /// Memory for blocks, index and filter blocks.
    package var blockCacheBytes: Int
    /// Bytes a memtable takes before it is flushed; up to ``maxMemtables`` exist at once.
    package var memtableBytes: Int
    package var maxMemtables: Int
    /// Threads for flushes and compactions.
    package var backgroundJobs: Int
    /// Whether levels below the first two are compressed with LZ4.
    package var compresses: Bool

    package init(
        blockCacheBytes: Int = 256 << 20, memtableBytes: Int = 64 << 20, maxMemtables: Int = 4,
        backgroundJobs: Int = 2, compresses: Bool = true
    ) {
        self.blockCacheBytes = blockCacheBytes
        self.memtableBytes = memtableBytes
        self.maxMemtables = maxMemtables
        self.backgroundJobs = backgroundJobs
        self.compresses = compresses
    }

    private static let levels = 7

    /// RocksDB's own form; the caller destroys it.
    func make() -> OpaquePointer? {
        let options = rocksdb_options_create()
        rocksdb_options_set_create_if_missing(options, 1)
        rocksdb_options_set_paranoid_checks(options, 1)
        rocksdb_options_set_is_fd_close_on_exec(options, 1)
        // All files stay open with their index: a cache-only read must not open one.
        rocksdb_options_set_max_open_files(options, -1)
        rocksdb_options_set_max_background_jobs(options, Int32(backgroundJobs))
        rocksdb_options_set_keep_log_file_num(options, 4)
        rocksdb_options_set_max_log_file_size(options, 16 << 20)
        // Its default of 4 MiB takes, at a start on a full volume, what little is left, and then the
        // file that names the manifest finds no room.
        rocksdb_options_set_manifest_preallocation_size(options, 64 << 10)
        rocksdb_options_set_stats_dump_period_sec(options, 0)
        rocksdb_options_set_stats_persist_period_sec(options, 0)

        rocksdb_options_set_write_buffer_size(options, memtableBytes)
        rocksdb_options_set_max_write_buffer_number(options, Int32(maxMemtables))
        // One thread writes a region, few write at all: the cheaper insert of a single writer.
        rocksdb_options_set_allow_concurrent_memtable_write(options, 0)
        rocksdb_options_set_enable_write_thread_adaptive_yield(options, 0)

        rocksdb_options_set_compaction_style(options, Int32(rocksdb_level_compaction))
        rocksdb_options_set_level_compaction_dynamic_level_bytes(options, 1)
        rocksdb_options_set_level0_file_num_compaction_trigger(options, 4)
        rocksdb_options_set_level0_slowdown_writes_trigger(options, 24)
        rocksdb_options_set_level0_stop_writes_trigger(options, 40)
        rocksdb_options_set_max_bytes_for_level_base(options, UInt64(memtableBytes * 4))
        rocksdb_options_set_target_file_size_base(options, UInt64(memtableBytes))
        rocksdb_options_set_bytes_per_sync(options, 1 << 20)
        let packed = Int32(compresses ? rocksdb_lz4_compression : rocksdb_no_compression)
        let plain = Int32(rocksdb_no_compression)
        var perLevel = (0..<RocksDBOptions.levels).map { $0 < 2 ? plain : packed }
        rocksdb_options_set_num_levels(options, Int32(RocksDBOptions.levels))
        rocksdb_options_set_compression_per_level(options, &perLevel, perLevel.count)

        let table = rocksdb_block_based_options_create()
        let cache = rocksdb_cache_create_lru(blockCacheBytes)
        rocksdb_block_based_options_set_block_cache(table, cache)
        rocksdb_block_based_options_set_block_size(table, 8 << 10)
        rocksdb_block_based_options_set_format_version(table, 5)
        rocksdb_block_based_options_set_filter_policy(
            table, rocksdb_filterpolicy_create_bloom_full(10))
        rocksdb_options_set_block_based_table_factory(options, table)
        // The factory holds the cache and the table's settings from here on.
        rocksdb_cache_destroy(cache)
        rocksdb_block_based_options_destroy(table)
        return options
    }
}
