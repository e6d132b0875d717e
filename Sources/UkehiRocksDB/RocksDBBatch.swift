// Hot path. One atomic write, and reads that see it before it is made.
//
// Most batches hold plain puts and are never read. So writes are only noted (where their key and
// value lie in a copy of their own) and an index over them is built at the first read.

import CRocksDB
import UkehiBase
import UkehiState

/// A write batch with an index on demand.
final class RocksDBBatch: StoreBatch {
    private let store: RocksDBStore
    private let batch: OpaquePointer?
    private var keyScratch = Scratch()
    private var endScratch = Scratch()
    private var valueScratch = Scratch()
    private var overlay = BatchOverlay()

    init(_ store: RocksDBStore) {
        self.store = store
        batch = rocksdb_writebatch_create()
    }

    deinit { rocksdb_writebatch_destroy(batch) }

    func begin() { clear() }

    private func clear() {
        rocksdb_writebatch_clear(batch)
        overlay.removeAll()
    }

    func put(
        _ space: StoreSpace, _ key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer,
        version: UInt64, expiresAt: UInt64
    ) {
        let key = keyScratch.key(space, key)
        let value = valueScratch.value(value, version: version, expiresAt: expiresAt)
        rocksdb_writebatch_put(batch, key.characters, key.count, value.characters, value.count)
        overlay.put(key, value)
    }

    func delete(_ space: StoreSpace, _ key: UnsafeRawBufferPointer) {
        let key = keyScratch.key(space, key)
        rocksdb_writebatch_delete(batch, key.characters, key.count)
        overlay.delete(key)
    }

    func deleteRange(
        _ space: StoreSpace, _ lower: UnsafeRawBufferPointer, _ upper: UnsafeRawBufferPointer
    ) {
        let lower = keyScratch.key(space, lower)
        let upper = endScratch.end(space, upper)
        rocksdb_writebatch_delete_range(
            batch, lower.characters, lower.count, upper.characters, upper.count)
        overlay.deleteRange(lower, upper)
    }

    func get(
        _ space: StoreSpace, _ key: UnsafeRawBufferPointer
    ) throws(StateError) -> StoredValue? {
        let prefixed = keyScratch.key(space, key)
        switch overlay.find(prefixed) {
        case .untouched: return try store.get(space, key, tier: .any)
        case .deleted: return nil
        case .put(let stored):
            return try stored.withUnsafeBytes { stored throws(StateError) in
                guard let parts = StoreLayout.split(stored) else { throw RocksDBStore.shortValue }
                return StoredValue(
                    value: Bytes(copying: parts.value), version: parts.version,
                    expiresAt: parts.expiresAt)
            }
        }
    }

    func putRegionState(_ region: RegionID, _ state: RegionState) {
        StoreLayout.regionKey(region) { key in
            withUnsafeTemporaryAllocation(byteCount: state.encodedBytes, alignment: 8) {
                value in
                state.encode(into: value)
                let value = UnsafeRawBufferPointer(value)
                rocksdb_writebatch_put(
                    batch, key.characters, key.count, value.characters, value.count)
            }
        }
    }

    func putRegionDescriptor(_ region: RegionID, _ descriptor: Bytes) {
        StoreLayout.regionKey(region, part: StoreLayout.descriptorPart) { key in
            descriptor.withUnsafeBytes { value in
                rocksdb_writebatch_put(
                    batch, key.characters, key.count, value.characters, value.count)
            }
        }
    }

    func removeRegion(_ region: RegionID, grave: UInt64) {
        StoreLayout.regionKey(region) { key in
            rocksdb_writebatch_delete(batch, key.characters, key.count)
        }
        StoreLayout.regionKey(region, part: StoreLayout.descriptorPart) { key in
            rocksdb_writebatch_delete(batch, key.characters, key.count)
        }
        StoreLayout.regionKey(region, part: StoreLayout.gravePart) { key in
            withUnsafeBytes(of: grave.littleEndian) { value in
                rocksdb_writebatch_put(
                    batch, key.characters, key.count, value.characters, value.count)
            }
        }
    }

    func commit() throws(StateError) {
        try checked("Committed entries were not applied.") {
            rocksdb_write(store.database, store.writeOptions, batch, $0)
        }
        clear()
    }

    func discard() { clear() }
}

/// What a batch would leave of keys, found without the database.
struct BatchOverlay: ~Copyable {
    enum Found {
        case untouched
        case deleted
        /// The stored form.
        case put(Bytes)
    }
    private enum Change {
        case put(keyEnd: Int, end: Int)
        case delete(end: Int)
        case deleteRange(lowerEnd: Int, end: Int)
    }
    /// Keys and values, one change behind the other.
    private var text: [UInt8] = []
    private var changes: [(start: Int, change: Change)] = []
    /// Last change by key, over the first `indexed` changes.
    private var index: [Bytes: Int] = [:]
    private var ranges: [(number: Int, lower: Bytes, upper: Bytes)] = []
    private var indexed = 0

    mutating func removeAll() {
        text.removeAll(keepingCapacity: text.capacity <= 4 << 20)
        changes.removeAll(keepingCapacity: true)
        if indexed > 0 {
            index.removeAll(keepingCapacity: true)
            ranges.removeAll(keepingCapacity: true)
            indexed = 0
        }
    }

    mutating func put(_ key: UnsafeRawBufferPointer, _ stored: UnsafeRawBufferPointer) {
        let start = text.count
        text.append(contentsOf: key)
        text.append(contentsOf: stored)
        changes.append((start, .put(keyEnd: start + key.count, end: text.count)))
    }

    mutating func delete(_ key: UnsafeRawBufferPointer) {
        let start = text.count
        text.append(contentsOf: key)
        changes.append((start, .delete(end: text.count)))
    }

    mutating func deleteRange(_ lower: UnsafeRawBufferPointer, _ upper: UnsafeRawBufferPointer) {
        let start = text.count
        text.append(contentsOf: lower)
        text.append(contentsOf: upper)
        changes.append((start, .deleteRange(lowerEnd: start + lower.count, end: text.count)))
    }

    private func bytes(_ range: Range<Int>) -> Bytes {
        text.withUnsafeBytes { Bytes(copying: UnsafeRawBufferPointer(rebasing: $0[range])) }
    }

    private mutating func bringIndexUpToDate() {
        while indexed < changes.count {
            let (start, change) = changes[indexed]
            switch change {
            case .put(let keyEnd, _): index[bytes(start..<keyEnd)] = indexed
            case .delete(let end): index[bytes(start..<end)] = indexed
            case .deleteRange(let lowerEnd, let end):
                ranges.append((indexed, bytes(start..<lowerEnd), bytes(lowerEnd..<end)))
            }
            indexed += 1
        }
    }

    /// What the changes so far leave of `key`.
    mutating func find(_ key: UnsafeRawBufferPointer) -> Found {
        if changes.isEmpty { return .untouched }
        bringIndexUpToDate()
        let key = Bytes(copying: key)
        let last = index[key] ?? -1
        // Range deletions are rare: looked through from the latest one.
        for range in ranges.reversed() {
            if range.number < last { break }
            if range.lower <= key, key < range.upper { return .deleted }
        }
        guard last >= 0 else { return .untouched }
        guard case .put(let keyEnd, let end) = changes[last].change else { return .deleted }
        return .put(bytes(keyEnd..<end))
    }
}
