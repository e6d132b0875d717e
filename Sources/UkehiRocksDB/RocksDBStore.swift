// State on disk. RocksDB's own write-ahead log is off: the Raft log is the log, and each byte is
// written once more only when a memtable is flushed.
//
//   batch ──▶ memtable ──(flush)──▶ files
//
// What is flushed is a prefix of the batches, since there is one column family and memtables are
// flushed in order.
//
// After a crash the store is back at such a prefix; each region's state says which, and the log is
// replayed from there (RULES 39, 40). What is flushed is read with the tier that skips memtables.

import CRocksDB
package import UkehiBase
package import UkehiState

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

/// A ``StateStore`` on RocksDB.
package final class RocksDBStore: StateStore, @unchecked Sendable {
    // Safety: RocksDB's handle is thread-safe, the option objects are not changed after `init`, and
    // no call follows `close`.
    let database: OpaquePointer
    let directory: String
    let options: RocksDBOptions
    let writeOptions: OpaquePointer
    private let readOptions: OpaquePointer
    private let cacheOptions: OpaquePointer
    private let flushedOptions: OpaquePointer
    private let lifeLock = Lock()
    private var isClosed = false

    private static let blockCacheTier: Int32 = 1
    private static let persistedTier: Int32 = 2

    /// Opens the store in `directory`, creating it if there is none.
    ///
    /// - Parameter isReadOnly: There must be one, its data stays as it is, and no batch can be committed.
    package init(
        directory: String, options: RocksDBOptions = RocksDBOptions(), isReadOnly: Bool = false
    ) throws(StateError) {
        self.directory = directory
        self.options = options
        if !isReadOnly { Self.removeLeftovers(of: directory) }
        let effect = "The state store in \(directory) was not opened."
        let made = options.make()
        defer { rocksdb_options_destroy(made) }
        if isReadOnly { rocksdb_options_set_create_if_missing(made, 0) }
        let opened = try checked(effect) {
            isReadOnly
                ? rocksdb_open_for_read_only(made, directory, 0, $0)
                : rocksdb_open(made, directory, $0)
        }
        guard let opened, let write = rocksdb_writeoptions_create(),
            let read = rocksdb_readoptions_create(), let cache = rocksdb_readoptions_create(),
            let flushed = rocksdb_readoptions_create()
        else { throw StateError(.ioFailed, "\(effect) RocksDB gave no reason.") }
        rocksdb_writeoptions_disable_WAL(write, 1)
        rocksdb_writeoptions_set_no_slowdown(write, 1)
        rocksdb_readoptions_set_read_tier(cache, Self.blockCacheTier)
        rocksdb_readoptions_set_read_tier(flushed, Self.persistedTier)
        database = opened
        writeOptions = write
        readOptions = read
        cacheOptions = cache
        flushedOptions = flushed
        do {
            try checkFormat(directory)
        } catch {
            close()
            throw error
        }
    }

    /// Refuses a store of a later version; marks a new one.
    private func checkFormat(_ directory: String) throws(StateError) {
        let key = StoreLayout.formatKey
        let found = try key.withUnsafeBytes { key throws(StateError) in
            try read(key, readOptions) { $0.first }
        }
        switch found {
        case .some(StoreLayout.formatVersion): return
        case .some(let version):
            throw StateError(
                .newerFormat,
                "The state store in \(directory) was not opened: its format is version "
                    + "\(version.map { "\($0)" } ?? "unknown"), this program reads version "
                    + "\(StoreLayout.formatVersion). Start the version that wrote it.")
        case .none:
            let version = Bytes([StoreLayout.formatVersion])
            try key.withUnsafeBytes { key throws(StateError) in
                try version.withUnsafeBytes { value throws(StateError) in
                    try checked("The state store's format was not written.") {
                        rocksdb_put(
                            database, writeOptions, key.characters, key.count, value.characters,
                            value.count, $0)
                    }
                }
            }
        }
    }

    package var isInMemory: Bool { false }

    package func makeBatch() -> any StoreBatch { RocksDBBatch(self) }

    // MARK: Reads

    private func readOptions(_ tier: ReadTier) -> OpaquePointer {
        tier == .cacheOnly ? cacheOptions : readOptions
    }

    /// Reads one key with its prefix; the pointer given to `body` is RocksDB's.
    func read<R>(
        _ key: UnsafeRawBufferPointer, _ options: OpaquePointer,
        _ body: (UnsafeRawBufferPointer) -> R
    ) throws(StateError) -> R? {
        let slice = try checked("A read failed.") {
            rocksdb_get_pinned(database, options, key.characters, key.count, $0)
        }
        guard let slice else { return nil }
        defer { rocksdb_pinnableslice_destroy(slice) }
        var length = 0
        let start = rocksdb_pinnableslice_value(slice, &length)
        return body(UnsafeRawBufferPointer(start: start, count: length))
    }

    /// Reads one key of a space.
    func stored(
        _ space: StoreSpace, _ key: UnsafeRawBufferPointer, _ options: OpaquePointer
    ) throws(StateError) -> StoredValue? {
        let found: StoredValue?? = try withPrefix(space, key) { key throws(StateError) in
            try read(key, options) { stored in
                StoreLayout.split(stored).map {
                    StoredValue(
                        value: Bytes(copying: $0.value), version: $0.version,
                        expiresAt: $0.expiresAt)
                }
            }
        }
        guard let found else { return nil }
        guard let value = found else { throw RocksDBStore.shortValue }
        return value
    }

    static var shortValue: StateError {
        StateError(
            .corrupted,
            "A read failed. A stored value is too short to have been written by this store; the "
                + "node's regions are to be rebuilt from their other replicas.")
    }

    /// The key behind its prefix byte, on the stack.
    private func withPrefix<R>(
        _ space: StoreSpace, _ key: UnsafeRawBufferPointer,
        _ body: (UnsafeRawBufferPointer) throws(StateError) -> R
    ) throws(StateError) -> R {
        // A Result, because the standard library's call does not know typed errors.
        let result = withUnsafeTemporaryAllocation(byteCount: key.count + 1, alignment: 1) {
            prefixed -> Result<R, StateError> in
            prefixed[0] = space.rawValue
            UnsafeMutableRawBufferPointer(rebasing: prefixed[1...]).copyMemory(from: key)
            do throws(StateError) {
                return .success(try body(UnsafeRawBufferPointer(prefixed)))
            } catch {
                return .failure(error)
            }
        }
        return try result.get()
    }

    package func get(
        _ space: StoreSpace, _ key: UnsafeRawBufferPointer, tier: ReadTier
    ) throws(StateError) -> StoredValue? {
        try stored(space, key, readOptions(tier))
    }

    package func openView(tier: ReadTier) throws(StateError) -> any StateView {
        try RocksDBView(self, tier)
    }

    package var survivesRestart: Bool { true }

    package func openLongView(
        of region: RegionID, _ space: StoreSpace, _ range: KeyRange
    ) throws(StateError) -> any LongView {
        let view = try openView(tier: .once)
        do throws(StateError) {
            return try view.long(of: region, space, range)
        } catch {
            view.close()
            throw error
        }
    }

    package func regionState(_ region: RegionID) throws(StateError) -> Bytes? {
        try regionState(region, readOptions)
    }

    package func regionDescriptor(_ region: RegionID) throws(StateError) -> Bytes? {
        try regionDescriptor(region, readOptions)
    }

    package func flushedRegionState(_ region: RegionID) throws(StateError) -> Bytes? {
        try regionState(region, flushedOptions)
    }

    func regionState(
        _ region: RegionID, _ options: OpaquePointer
    ) throws(StateError) -> Bytes? {
        try StoreLayout.regionKey(region) { key in
            Result { () throws(StateError) in
                try read(key, options) { Bytes(copying: $0) }
            }
        }.get()
    }

    func regionDescriptor(
        _ region: RegionID, _ options: OpaquePointer
    ) throws(StateError) -> Bytes? {
        try part(StoreLayout.descriptorPart, of: region, options)
    }

    package func grave(_ region: RegionID) throws(StateError) -> UInt64? {
        try grave(region, readOptions)
    }

    package func flushedGrave(_ region: RegionID) throws(StateError) -> UInt64? {
        try grave(region, flushedOptions)
    }

    private func grave(
        _ region: RegionID, _ options: OpaquePointer
    ) throws(StateError) -> UInt64? {
        guard let stored = try part(StoreLayout.gravePart, of: region, options) else { return nil }
        guard stored.count == 8 else { throw RocksDBStore.shortValue }
        return stored.withUnsafeBytes {
            UInt64(littleEndian: $0.loadUnaligned(fromByteOffset: 0, as: UInt64.self))
        }
    }

    private func part(
        _ part: UInt8, of region: RegionID, _ options: OpaquePointer
    ) throws(StateError) -> Bytes? {
        try StoreLayout.regionKey(region, part: part) { key in
            Result { () throws(StateError) in
                try read(key, options) { Bytes(copying: $0) }
            }
        }.get()
    }

    /// What is only in memtables is not among it; where files are compressed it is less than was written.
    package func fileBytes(_ space: StoreSpace, _ range: KeyRange) -> UInt64? {
        var lower = Scratch()
        var upper = Scratch()
        let start = range.lower.withUnsafeBytes { lower.key(space, $0) }
        let end = range.upper.withUnsafeBytes { upper.end(space, $0) }
        var size: UInt64 = 0
        do throws(StateError) {
            try checked("The size of a range was not estimated.") { failure in
                var starts: UnsafePointer<CChar>? = start.characters
                var ends: UnsafePointer<CChar>? = end.characters
                var startBytes = start.count
                var endBytes = end.count
                rocksdb_approximate_sizes(
                    database, 1, &starts, &startBytes, &ends, &endBytes, &size, failure)
            }
        } catch { return nil }
        return size
    }

    // MARK: Durability

    package func requestFlush() throws(StateError) {
        let options = rocksdb_flushoptions_create()
        defer { rocksdb_flushoptions_destroy(options) }
        rocksdb_flushoptions_set_wait(options, 0)
        try checked("A flush was not started.") { rocksdb_flush(database, options, $0) }
    }

    /// Flushes and waits.
    package func flush() throws(StateError) {
        let options = rocksdb_flushoptions_create()
        defer { rocksdb_flushoptions_destroy(options) }
        rocksdb_flushoptions_set_wait(options, 1)
        try checked("State was not flushed.") { rocksdb_flush(database, options, $0) }
    }

    package func relieveStall() {
        // A stall ends when a flush or a compaction does: milliseconds.
        usleep(1000)
    }

    /// A figure RocksDB keeps of itself, such as `rocksdb.num-files-at-level0`.
    package func property(_ name: String) -> String? {
        guard let text = rocksdb_property_value(database, name) else { return nil }
        defer { rocksdb_free(text) }
        return String(cString: text)
    }

    package func close() {
        lifeLock.withLock {
            guard !isClosed else { return }
            isClosed = true
            // Without its own log RocksDB flushes on close; asked for here, so that it is seen to.
            try? flush()
            rocksdb_close(database)
            rocksdb_readoptions_destroy(readOptions)
            rocksdb_readoptions_destroy(cacheOptions)
            rocksdb_readoptions_destroy(flushedOptions)
            rocksdb_writeoptions_destroy(writeOptions)
        }
    }

    deinit { close() }
}
