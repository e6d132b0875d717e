// Hot path: no allocation per entry; memory grows by doubling and is reused.
//
// Where a region's durable entries lie: blocks of consecutive entries, not entries.
//
//   RegionIndex    one word in the region's slot; nil while there are no entries
//   IndexStorage   | head, end, capacity | first index | block | block | ... |   one allocation
//
// Blocks are in index order, and that is also log order: an append at i drops every block at and
// past i, so what remains before it was written before it. Hence the first block is in the oldest
// segment that the region's entries hold back. Only where entries were written again (``replace``) it
// may be another one; then the header knows a segment before which there is none.
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
    /// ``rawBytes``, which are never that many, and in the highest bit ``isCut``.
    private var rawWord: UInt32
    var bodyChecksum: UInt32

    init(
        first: UInt64, count: UInt32, segment: UInt32, bodyOffset: UInt32, bodyBytes: UInt32,
        rawBytes: UInt32, bodyChecksum: UInt32
    ) {
        self.first = first
        self.count = count
        self.segment = segment
        self.bodyOffset = bodyOffset
        self.bodyBytes = bodyBytes
        rawWord = rawBytes
        self.bodyChecksum = bodyChecksum
    }

    /// More than `bodyBytes` if the body is compressed.
    var rawBytes: UInt32 { rawWord & ~(1 << 31) }
    /// Whether the body holds more entries, behind those that are still the block's.
    var isCut: Bool { rawWord & 1 << 31 != 0 }
    /// Just past the last index. A block loses entries at its end, never at its front.
    var end: UInt64 { first + UInt64(count) }
    var isCompressed: Bool { rawBytes != bodyBytes }

    /// Takes from it what is at and past `index`, which is behind its first.
    mutating func cut(at index: UInt64) {
        count = UInt32(index - first)
        rawWord |= 1 << 31
    }
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
        /// No block is in a segment before this one; 0: blocks are in log order.
        var oldest: UInt32 = 0
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
        made.info.pointee.oldest = old.info.pointee.oldest
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

    /// Something of the storage's beginning and of its last block, read so that they are in the
    /// processor's cache; see ``RegionTable/touch(_:)``.
    @inline(__always)
    var touched: UInt32 {
        guard let (info, blocks) = pointers, info.pointee.end > 0 else { return 0 }
        return blocks[Int(info.pointee.end) - 1].bodyBytes
    }

    // MARK: Changing. Of blocks that come and go `use` keeps count.

    /// Drops every entry at and past `block.first`, then adds the block.
    ///
    /// - Parameter firstIndex: Where the log begins, if there were no blocks.
    mutating func append(_ block: IndexBlock, firstIndex: LogIndex, use: SegmentUse? = nil) {
        use?.add(block)
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
            // What would be left of it may all be compacted away: then it must hold no segment back.
            if blocks[end - 1].first < block.first, block.first > info.pointee.firstIndex.rawValue {
                blocks[end - 1].cut(at: block.first)
            } else {
                end -= 1
                use?.drop(blocks[end])
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
        @inline(__always) get {
            guard let storage else { return nil }
            return Unmanaged.passUnretained(storage)._withUnsafeGuaranteedRef {
                ($0.info, $0.blocks)
            }
        }
    }

    /// Drops the blocks that lie wholly below `index`, where the durable log begins now.
    mutating func compact(to index: UInt64, use: SegmentUse? = nil) {
        makeUnique()
        guard let (info, blocks) = pointers else { return }
        info.pointee.firstIndex = LogIndex(index)
        var head = Int(info.pointee.head)
        let end = Int(info.pointee.end)
        while head < end, blocks[head].end <= index {
            use?.drop(blocks[head])
            head += 1
        }
        guard head < end else {
            storage = nil
            return
        }
        info.pointee.head = UInt32(head)
        // Moving the rest down each time would cost its length for each compaction.
        let rest = end - head
        guard head >= 8, head > rest else { return }
        let capacity = Int(info.pointee.capacity)
        if capacity >= 64, end * 4 <= capacity {
            storage = IndexStorage.make(
                capacity: rest * 2, firstIndex: LogIndex(index), from: storage)
        } else {
            blocks.update(from: blocks + head, count: rest)
            info.pointee.head = 0
            info.pointee.end = UInt32(rest)
        }
    }

    mutating func removeAll(use: SegmentUse? = nil) {
        if let use, let storage {
            let (head, end) = (storage.info.pointee.head, storage.info.pointee.end)
            for position in Int(head)..<Int(end) { use.drop(storage.blocks[position]) }
        }
        storage = nil
    }

    /// Whether no block holds entries both before and at `end`: one that was replaced up to there would
    /// lose entries at its front.
    func canReplace(upTo end: UInt64) -> Bool {
        guard let last = position(of: end - 1) else { return true }
        return block(at: last).map { $0.end == end } ?? true
    }

    /// Says of the block's entries that they are there; all others stay where they are. Only if
    /// ``canReplace(upTo:)`` its end.
    mutating func replace(with block: IndexBlock, firstIndex: LogIndex, use: SegmentUse? = nil) {
        invariant(
            canReplace(upTo: block.end), "entries up to \(block.end - 1) end within a block")
        guard let oldest = first?.segment else {
            return append(block, firstIndex: firstIndex, use: use)
        }
        makeUnique()
        guard let (info, blocks) = pointers else { return }
        // Counted from the head, which room may move.
        let head = Int(info.pointee.head)
        var low = place { $0.end > block.first } - head
        let high = place { $0.first >= block.end } - head
        let begin = info.pointee.firstIndex.rawValue
        if low < high, blocks[head + low].first < block.first, block.first > begin {
            blocks[head + low].cut(at: block.first)
            low += 1
        }
        use?.add(block)
        for position in low..<high { use?.drop(blocks[head + position]) }
        if info.pointee.oldest == 0 { info.pointee.oldest = oldest }
        leaveOne(of: low..<high)
        guard let (info, blocks) = pointers else { return }
        blocks[Int(info.pointee.head) + low] = block
        if count == 1 { info.pointee.oldest = 0 }
    }

    /// Makes room for one block in the place of those in a range that counts from the head. The shorter
    /// side moves: entries are mostly written again from a log's beginning on.
    private mutating func leaveOne(of range: Range<Int>) {
        if range.isEmpty, count == Int(storage?.info.pointee.capacity ?? 0) { grow() }
        guard let (info, blocks) = pointers else { return }
        let (head, end) = (Int(info.pointee.head), Int(info.pointee.end))
        let (before, after) = (range.lowerBound, end - head - range.upperBound)
        // One more where the range is empty.
        let fewer = range.count - 1
        let hasRoomBehind = end - fewer <= Int(info.pointee.capacity)
        if head + fewer >= 0, before <= after || !hasRoomBehind {
            (blocks + head + fewer).update(from: blocks + head, count: before)
            info.pointee.head = UInt32(head + fewer)
        } else {
            let rest = blocks + head + range.upperBound
            (rest - fewer).update(from: rest, count: after)
            info.pointee.end = UInt32(end - fewer)
        }
    }

    /// The first position whose block `isPast` is true of, as it then is of all behind it.
    private func place(_ isPast: (IndexBlock) -> Bool) -> Int {
        guard let (info, blocks) = pointers else { return 0 }
        var low = Int(info.pointee.head)
        var high = Int(info.pointee.end)
        while low < high {
            let middle = (low + high) / 2
            if isPast(blocks[middle]) { high = middle } else { low = middle + 1 }
        }
        return low
    }

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

    /// Whether the blocks are those of all entries of a range, without a gap.
    func covers(_ range: Range<UInt64>) -> Bool {
        guard var position = position(of: range.lowerBound) else { return range.isEmpty }
        var next = range.lowerBound
        while let block = block(at: position), block.first <= next {
            next = block.end
            position += 1
        }
        return next >= range.upperBound
    }

    /// Visits the blocks in `segment`, before which there are none, in index order, until `visit` returns
    /// false.
    func forEach(in segment: UInt32, _ visit: (IndexBlock) -> Bool) {
        guard let storage else { return }
        let isOrdered = storage.info.pointee.oldest == 0
        for position in Int(storage.info.pointee.head)..<Int(storage.info.pointee.end) {
            let block = storage.blocks[position]
            if block.segment == segment {
                guard visit(block) else { return }
            } else if isOrdered {
                return
            }
        }
    }

    /// Whether a block is in `segment`, before which there is none.
    ///
    /// - Complexity: O(1) while blocks are in log order, and mostly else.
    func holds(_ segment: UInt32) -> Bool {
        guard let storage else { return false }
        let oldest = storage.info.pointee.oldest
        if oldest == 0 { return first?.segment == segment }
        guard oldest <= segment else { return false }
        for position in Int(storage.info.pointee.head)..<Int(storage.info.pointee.end)
        where storage.blocks[position].segment == segment { return true }
        return false
    }

    /// Looks where the oldest block is, if that may be before `segment` or in it; ``holds(_:)`` is then
    /// fast for it and later ones.
    mutating func findOldest(_ segment: UInt32) {
        guard let storage, storage.info.pointee.oldest != 0,
            storage.info.pointee.oldest <= segment
        else { return }
        makeUnique()
        guard let (info, blocks) = pointers else { return }
        var oldest = UInt32.max
        var (last, isOrdered) = (UInt32(0), true)
        for position in Int(info.pointee.head)..<Int(info.pointee.end) {
            let next = blocks[position].segment
            if next < last { isOrdered = false }
            last = next
            oldest = min(oldest, next)
        }
        info.pointee.oldest = isOrdered ? 0 : oldest
    }

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
