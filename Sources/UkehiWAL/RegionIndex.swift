// Hot path: no allocation per entry; memory grows by doubling and is reused.
//
// Where a region's durable entries lie: blocks of consecutive entries, not entries.
//
//   RegionIndex    one word in the region's slot; nil while there are no entries
//   IndexStorage   | head, end, capacity | first index | block | block | ... |   one allocation
//
// Blocks are in index order, and that is also log order: an append at i drops every block at and
// past i, so what remains before it was written before it. Hence the first block is in the oldest
// segment that the region's entries hold back.
//
// With many regions each append meets a region that is in no cache. So what an append touches lies
// together: the storage's header and, while blocks are few, the last one beside it.

import UkehiBase

/// One run of entries: one body in one frame.
struct IndexBlock: Hashable, Sendable {
    var first: UInt64
    var count: UInt32
    var segment: UInt32
    /// Bytes from the segment's start.
    var bodyOffset: UInt32
    var bodyBytes: UInt32
    /// More than `bodyBytes` if the body is compressed.
    var rawBytes: UInt32
    var bodyChecksum: UInt32
    /// Just past the last index. A block loses entries at its end, never at its front.
    var end: UInt64 { first + UInt64(count) }
    var isCompressed: Bool { rawBytes != bodyBytes }
}

/// The memory of one region's blocks.
///
/// Safety: changed only by the one ``RegionIndex`` that holds it alone.
final class IndexStorage: ManagedBuffer<IndexStorage.Header, IndexBlock> {
    struct Header {
        /// Blocks before it are compacted away and not yet moved over.
        var head: UInt32 = 0
        var end: UInt32 = 0
        var capacity: UInt32
        /// As of the last durable record.
        var firstIndex: LogIndex
    }

    /// Room for `capacity` blocks, with those of `old` in it.
    static func make(capacity: Int, firstIndex: LogIndex, from old: IndexStorage?) -> IndexStorage {
        let header = Header(capacity: UInt32(capacity), firstIndex: firstIndex)
        let made = unsafeDowncast(
            IndexStorage.create(minimumCapacity: capacity) { _ in header }, to: IndexStorage.self)
        guard let old else { return made }
        let live = old.info.pointee.end - old.info.pointee.head
        made.blocks.initialize(from: old.blocks + Int(old.info.pointee.head), count: Int(live))
        made.info.pointee.end = live
        return made
    }

    // Both valid while the storage is. By pointer, since a class's own properties are checked for
    // exclusive access at run time, for each append anew.
    var info: UnsafeMutablePointer<Header> { withUnsafeMutablePointerToHeader { $0 } }
    var blocks: UnsafeMutablePointer<IndexBlock> { withUnsafeMutablePointerToElements { $0 } }
}

/// The blocks of one region.
///
/// Safety: a value; what copies share is not changed.
struct RegionIndex: @unchecked Sendable {
    /// Nil: there are none.
    private var storage: IndexStorage?

    init() {}

    var isEmpty: Bool { storage == nil }
    var count: Int { storage.map { Int($0.info.pointee.end - $0.info.pointee.head) } ?? 0 }
    /// Bytes allocated for it.
    var allocatedBytes: Int {
        guard let storage else { return 0 }
        return MemoryLayout<IndexStorage.Header>.stride + 16
            + Int(storage.info.pointee.capacity) * MemoryLayout<IndexBlock>.stride
    }
    var first: IndexBlock? { storage.map { $0.blocks[Int($0.info.pointee.head)] } }
    var last: IndexBlock? { storage.map { $0.blocks[Int($0.info.pointee.end) - 1] } }
    var live: [IndexBlock] {
        guard let storage else { return [] }
        let all = UnsafeBufferPointer(start: storage.blocks, count: Int(storage.info.pointee.end))
        return Array(all[Int(storage.info.pointee.head)...])
    }

    /// Where the durable log begins; nil: the same as the log that was submitted.
    var firstIndex: LogIndex? {
        get { storage?.info.pointee.firstIndex }
        set {
            guard let newValue, storage != nil else { return }
            makeUnique()
            storage?.info.pointee.firstIndex = newValue
        }
    }

    // MARK: Changing

    /// Drops every entry at and past `block.first`, then adds the block.
    ///
    /// - Parameter firstIndex: Where the log begins, if there were no blocks.
    mutating func append(_ block: IndexBlock, firstIndex: LogIndex) {
        guard storage != nil else {
            let made = IndexStorage.make(capacity: 1, firstIndex: firstIndex, from: nil)
            made.blocks.initialize(to: block)
            made.info.pointee.end = 1
            storage = made
            return
        }
        makeUnique()
        guard var (info, blocks) = pointers else { return }
        var end = Int(info.pointee.end)
        let head = Int(info.pointee.head)
        while end > head, blocks[end - 1].end > block.first {
            if blocks[end - 1].first < block.first {
                blocks[end - 1].count = UInt32(block.first - blocks[end - 1].first)
            } else {
                end -= 1
            }
        }
        info.pointee.end = UInt32(end)
        if end == Int(info.pointee.capacity) {
            grow()
            guard let larger = pointers else { return }
            (info, blocks) = larger
            end = Int(info.pointee.end)
        }
        (blocks + end).initialize(to: block)
        info.pointee.end = UInt32(end + 1)
    }

    /// Valid while nobody changes ``storage``: whoever works with these alone counts no references.
    private var pointers:
        (info: UnsafeMutablePointer<IndexStorage.Header>, blocks: UnsafeMutablePointer<IndexBlock>)?
    {
        @inline(__always) get { storage.map { ($0.info, $0.blocks) } }
    }

    /// Drops the blocks that lie wholly below `index`, where the durable log begins now.
    mutating func compact(to index: UInt64) {
        makeUnique()
        guard let storage else { return }
        storage.info.pointee.firstIndex = LogIndex(index)
        let blocks = storage.blocks
        var head = Int(storage.info.pointee.head)
        let end = Int(storage.info.pointee.end)
        while head < end, blocks[head].end <= index { head += 1 }
        guard head < end else { return removeAll() }
        storage.info.pointee.head = UInt32(head)
        // Moving the rest down each time would cost its length for each compaction.
        let rest = end - head
        guard head >= 8, head > rest else { return }
        let capacity = Int(storage.info.pointee.capacity)
        if capacity >= 64, end * 4 <= capacity {
            self.storage = IndexStorage.make(
                capacity: rest * 2, firstIndex: LogIndex(index), from: storage)
        } else {
            blocks.update(from: blocks + head, count: rest)
            storage.info.pointee.head = 0
            storage.info.pointee.end = UInt32(rest)
        }
    }

    mutating func removeAll() { storage = nil }

    /// A copy for others to look at keeps what it shows.
    private mutating func makeUnique() {
        guard !isKnownUniquelyReferenced(&storage), let shared = storage else { return }
        storage = IndexStorage.make(
            capacity: Int(shared.info.pointee.capacity), firstIndex: shared.info.pointee.firstIndex,
            from: shared)
    }

    @inline(never)
    private mutating func grow() {
        guard let old = storage else { return }
        let count = Int(old.info.pointee.end - old.info.pointee.head)
        storage = IndexStorage.make(
            capacity: max(count * 2, 2), firstIndex: old.info.pointee.firstIndex, from: old)
    }

    // MARK: Finding

    /// The position of the block that holds `index`, for ``block(at:)``; nil if none does.
    func position(of index: UInt64) -> Int? {
        guard let storage else { return nil }
        let blocks = storage.blocks
        var low = Int(storage.info.pointee.head)
        let end = Int(storage.info.pointee.end)
        var high = end
        while low < high {
            let middle = (low + high) / 2
            if blocks[middle].end <= index { low = middle + 1 } else { high = middle }
        }
        return low < end && blocks[low].first <= index ? low : nil
    }

    /// The block at a position; nil past the last.
    func block(at position: Int) -> IndexBlock? {
        guard let storage, position < Int(storage.info.pointee.end) else { return nil }
        return storage.blocks[position]
    }
}
