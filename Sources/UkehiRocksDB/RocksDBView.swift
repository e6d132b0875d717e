// A pinned view of the database: a snapshot, and iterators over it.

import CRocksDB
import UkehiBase
import UkehiState

/// A ``StateView`` of one moment; writes go on behind it.
final class RocksDBView: StateView {
    /// For ``ReadTier/once``. RocksDB's own begins at a block; larger ones leave the
    /// processor's cache before they are used.
    private static let readaheadBytes = 256 << 10

    private let store: RocksDBStore
    private let snapshot: OpaquePointer?
    private let options: OpaquePointer
    private var isOpen = true

    init(_ store: RocksDBStore, _ tier: ReadTier) throws(StateError) {
        guard let options = rocksdb_readoptions_create() else {
            throw StateError(.ioFailed, "A read failed. RocksDB gave no reason.")
        }
        self.store = store
        snapshot = rocksdb_create_snapshot(store.database)
        rocksdb_readoptions_set_snapshot(options, snapshot)
        switch tier {
        case .cacheOnly: rocksdb_readoptions_set_read_tier(options, 1)
        case .any: break
        case .once:
            rocksdb_readoptions_set_fill_cache(options, 0)
            rocksdb_readoptions_set_readahead_size(options, Self.readaheadBytes)
        }
        self.options = options
    }

    deinit { close() }

    func regionState(_ region: RegionID) throws(StateError) -> Bytes? {
        try store.regionState(region, options)
    }

    func regionDescriptor(_ region: RegionID) throws(StateError) -> Bytes? {
        try store.regionDescriptor(region, options)
    }

    func get(
        _ space: StoreSpace, _ key: UnsafeRawBufferPointer
    ) throws(StateError) -> StoredValue? {
        try store.stored(space, key, options)
    }

    func scan(
        _ space: StoreSpace, from lower: Bytes, to upper: Bytes, _ visit: (StoredEntry) -> Bool
    ) throws(StateError) {
        var lowerScratch = Scratch()
        var upperScratch = Scratch()
        let start = lower.withUnsafeBytes { lowerScratch.key(space, $0) }
        let end = upper.withUnsafeBytes { upperScratch.end(space, $0) }
        rocksdb_readoptions_set_iterate_upper_bound(options, end.characters, end.count)
        let iterator = rocksdb_create_iterator(store.database, options)
        defer {
            rocksdb_iter_destroy(iterator)
            rocksdb_readoptions_set_iterate_upper_bound(options, nil, 0)
        }
        rocksdb_iter_seek(iterator, start.characters, start.count)
        while rocksdb_iter_valid(iterator) != 0 {
            var keyLength = 0
            var valueLength = 0
            let key = UnsafeRawBufferPointer(
                start: rocksdb_iter_key(iterator, &keyLength), count: keyLength)
            let value = UnsafeRawBufferPointer(
                start: rocksdb_iter_value(iterator, &valueLength), count: valueLength)
            guard let parts = StoreLayout.split(value) else { throw RocksDBStore.shortValue }
            let entry = StoredEntry(
                key: UnsafeRawBufferPointer(rebasing: key.dropFirst()), value: parts.value,
                version: parts.version, expiresAt: parts.expiresAt)
            guard visit(entry) else { return }
            rocksdb_iter_next(iterator)
        }
        try checked("A scan failed.") { rocksdb_iter_get_error(iterator, $0) }
    }

    func close() {
        guard isOpen else { return }
        isOpen = false
        rocksdb_release_snapshot(store.database, snapshot)
        rocksdb_readoptions_destroy(options)
    }
}
